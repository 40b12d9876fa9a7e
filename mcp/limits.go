package mcp

import "time"

// The bounds. The manual has them too.
const (
	maxRequest  = 4 << 20          // bytes of one message of a client
	maxAnswer   = 64 << 10         // bytes of one answer; a list gets shorter, what is no list is an error
	maxText     = 16 << 10         // bytes of one text of an application in an answer
	maxBody     = 16 << 10         // bytes of a flow's bodies that one call shows
	maxSessions = 32               // of clients that speak by HTTP and have sessions, at a time
	idleSession = 30 * time.Minute // after which such a session is ended
	maxCalls    = 16               // under way at a time; a stream or a session has no limit of its own
	listed      = 20               // items of a list, where the call names no limit
	defaultWait = 50               // seconds that a call waits for a run; hosts give up after 60 by default
	maxWait     = 900              // that a call may wait: no run takes longer
	pollEvery   = 1                // seconds between two reports of progress
	writeWait   = 30 * time.Second // that a client may take for a piece of an answer
	cancelWait  = 10 * time.Second // that the end of a cancelled run is waited for
)
