package holdfast

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
)

// TraceLine is one line of a trace, about one flow: the JSON shape of version
// 1. Lines about a WebSocket's messages and about connections that failed
// outside of a flow have no Method.
type TraceLine struct {
	Version  int            `json:"v"`
	ID       string         `json:"id"`
	Time     time.Time      `json:"time"`
	Tool     string         `json:"tool"`
	Identity string         `json:"identity,omitempty"`
	Method   string         `json:"method"`
	URL      string         `json:"url"` // without query: tokens may stand there
	Status   int            `json:"status,omitempty"`
	Millis   float64        `json:"ms"`
	Gen      uint64         `json:"generation,omitempty"`
	Resent   int            `json:"resent,omitempty"`
	Error    string         `json:"error,omitempty"`
	Rules    []string       `json:"rules,omitempty"`   // that were for the request, in order
	Changes  []string       `json:"changes,omitempty"` // by the last sending: flow.Flow.Changes
	Earlier  []TraceAttempt `json:"earlier,omitempty"` // answers that the client never saw
	Trace    []TraceEvent   `json:"trace,omitempty"`
	Dropped  int            `json:"trace_dropped,omitempty"`
}

// TraceAttempt is a sending whose answer the client never saw.
type TraceAttempt struct {
	Status int    `json:"status"`
	Gen    uint64 `json:"generation"`
	Reason string `json:"reason"`
}

// TraceEvent is a flow.Event.
type TraceEvent struct {
	Millis float64 `json:"ms"`
	Actor  string  `json:"actor"`
	Action string  `json:"action"`
	Detail string  `json:"detail"`
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// shownPath is the path of a flow for a trace.
func shownPath(f *flow.Flow) []byte {
	path := []byte(f.ShownPath)
	if len(path) == 0 {
		path = f.Request.Path()
	}
	if len(path) > tracePath {
		return fmt.Appendf(nil, "%s… (%d bytes)", path[:tracePath], len(path))
	}
	return path
}

// LineOf is the line of a flow that has ended; rules were for it.
func LineOf(f *flow.Flow, rules []string) TraceLine {
	line := TraceLine{Version: 1, ID: f.ID.String(), Time: f.Start, Tool: f.Tool, Identity: f.Identity,
		Millis: millis(f.Ended.Sub(f.Start)), Gen: f.Stamp.Generation, Resent: len(f.Earlier), Rules: rules,
		Changes: f.Changes(), Dropped: f.Trace.Dropped}
	if f.Request != nil { // a stored one may be damaged
		line.Method, line.URL = string(f.Request.Method()), f.Origin.URL(shownPath(f))
	}
	if f.Response != nil {
		line.Status = f.Response.Status()
	}
	switch {
	case f.Refused != nil:
		line.Status, line.Error = f.Refused.Code(), f.Refused.Reason+": "+f.Refused.Detail
	case f.Err != nil:
		line.Error = f.Err.Error()
	}
	for _, a := range f.Earlier {
		attempt := TraceAttempt{Gen: a.Stamp.Generation, Reason: a.Reason}
		if a.Response != nil {
			attempt.Status = a.Response.Status()
		}
		line.Earlier = append(line.Earlier, attempt)
	}
	if n := len(f.Trace.Events); n > 0 {
		line.Trace = make([]TraceEvent, 0, n)
	}
	for _, e := range f.Trace.Events {
		line.Trace = append(line.Trace, TraceEvent{millis(e.At), e.Actor, e.Action, e.Detail})
	}
	return line
}

// write puts a flow that has ended into the trace; rules were for it.
func (r *recorder) write(f *flow.Flow, rules []string) {
	raw, err := json.Marshal(LineOf(f, rules))
	if err != nil {
		return // only numbers and strings: cannot fail
	}
	r.put(append(raw, '\n'))
}
