package flow

import "time"

// An Event is one thing that was done to a flow, or decided about it.
type Event struct {
	At     time.Duration // since the flow's start
	Actor  string        // who: "rule shop", "macro login", "upstream", "wire"
	Action string        // what, one word from the Action constants
	Detail string        // why, and on what; secrets redacted by the writer
}

// Actions that a trace can hold.
const (
	ActionInject  = "inject"  // a token was put into the request
	ActionExtract = "extract" // a token was taken from the response
	ActionDead    = "dead"    // the answer was judged to be of a dead session
	ActionAlive   = "alive"   // the confirming probe contradicted that
	ActionWait    = "wait"    // the request waited for a recovery, or for its turn
	ActionRecover = "recover" // this request began a recovery
	ActionLog     = "log"     // what a script said
	ActionRun     = "run"     // a macro ran for this request, as an action of a rule
	ActionResend  = "resend"  // the request was sent again
	ActionKeep    = "keep"    // something was deliberately left alone
	ActionStrip   = "strip"   // credentials were taken out of an anonymous request
	ActionRefuse  = "refuse"  // Holdfast answered itself
	ActionRetry   = "retry"   // a stale connection was replaced
	ActionNote    = "note"    // something a tester should know, such as odd framing
)

// MaxTraceEvents bounds a trace: what comes later is counted, not kept.
const MaxTraceEvents = 256

// Trace is what was done to a flow, step by step, and why. Its zero value is
// empty and ready; an untouched flow allocates nothing for it.
type Trace struct {
	Events  []Event
	Dropped int // events beyond MaxTraceEvents
}

// Add records an event.
func (t *Trace) Add(e Event) {
	if len(t.Events) >= MaxTraceEvents {
		t.Dropped++
		return
	}
	t.Events = append(t.Events, e)
}
