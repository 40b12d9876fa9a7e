package holdfast

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// What may wait for a slow writer of the trace. What comes when it is full is
// counted and left out: recording never blocks traffic.
const (
	traceQueue = 4096     // lines
	traceBytes = 16 << 20 // bytes of them
)

// tracePath is how many bytes of a path a trace shows.
const tracePath = 4096

// recorder counts flows and writes the traces of those that something was
// done to.
type recorder struct {
	ended func(*flow.Flow)
	// messages wants a line for each WebSocket message; said hears of each.
	// Both are set before the first flow.
	messages bool
	said     func(*flow.Flow, *flow.Message)
	seen     func(*flow.Flow) // likewise
	lines    chan []byte
	waiting  atomic.Int64 // bytes in lines
	done     chan struct{}

	requests, lost, absorbed, refused, own, failed, missed atomic.Uint64
	added                                                  atomic.Int64 // ns spent in Holdfast itself, waits for recoveries left out
	timed                                                  atomic.Uint64

	mu     sync.Mutex // guards closed, and lines against being closed
	closed bool
}

func newRecorder(trace io.Writer, ended func(*flow.Flow)) *recorder {
	r := &recorder{ended: ended}
	if trace == nil {
		return r
	}
	r.lines, r.done = make(chan []byte, traceQueue), make(chan struct{})
	go func() {
		defer close(r.done)
		for line := range r.lines {
			trace.Write(line)
			r.waiting.Add(-int64(len(line)))
		}
	}()
	return r
}

func (r *recorder) close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	if r.lines != nil {
		close(r.lines)
	}
	r.mu.Unlock()
	if r.done != nil {
		<-r.done
	}
}

// stage has the recorder hear of the flow's end.
func (r *recorder) stage(next flow.Handler) flow.Handler { return r.hearing(next, r.end) }

// ours is stage for requests of a browser of our own, which are no client's.
func (r *recorder) ours(next flow.Handler) flow.Handler {
	return r.hearing(next, func(f *flow.Flow) { r.own.Add(1); r.after(f) })
}

func (r *recorder) hearing(next flow.Handler, end func(*flow.Flow)) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		f.OnEnd(end)
		err := next(ctx, f)
		errors.As(err, &f.Refused)
		r.listen(f)
		return err
	}
}

func (r *recorder) end(f *flow.Flow) {
	if f.Tool == flow.ToolMacro {
		r.own.Add(1)
	} else {
		r.count(f)
		if r.seen != nil {
			r.seen(f)
		}
	}
	r.after(f)
}

// after writes the trace, and hands the flow on.
func (r *recorder) after(f *flow.Flow) {
	if r.lines != nil {
		if rules := session.Applied(f); len(f.Trace.Events) > 0 || rules != nil || f.Tool == flow.ToolMacro {
			r.write(f, rules)
		}
	}
	if r.ended != nil {
		r.ended(f)
		return // who may hold on to it
	}
	f.Release()
}

// tunnelled hears of a tunnel whose bytes nobody looked at. It is no request.
func (r *recorder) tunnelled(f *flow.Flow) {
	if r.lines != nil {
		r.write(f, nil)
	}
	if r.ended != nil {
		r.ended(f)
	}
}

func (r *recorder) count(f *flow.Flow) {
	r.requests.Add(1)
	r.absorbed.Add(uint64(len(f.Earlier)))
	switch {
	case f.PassedDead:
		r.lost.Add(1)
	case f.Refused.OfSession():
		r.refused.Add(1)
	case f.Refused != nil && f.Refused.Reason == flow.ReasonProtected: // as the configuration wants it
	case f.Refused != nil, f.Err != nil:
		r.failed.Add(1)
	}
	if len(f.Earlier) == 0 && f.Err == nil && f.Refused == nil && !f.Recovered {
		r.added.Add(int64(f.Ended.Sub(f.Start) - f.Waited))
		r.timed.Add(1)
	}
}

// connectionError notes a connection that failed outside of a flow.
func (r *recorder) connectionError(err error) {
	raw, _ := json.Marshal(map[string]any{"v": 1, "time": time.Now(), "error": err.Error()})
	r.put(append(raw, '\n'))
}

func (r *recorder) put(line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.lines == nil {
		return
	}
	if r.waiting.Load()+int64(len(line)) > traceBytes {
		r.missed.Add(1)
		return
	}
	r.waiting.Add(int64(len(line)))
	select {
	case r.lines <- line:
	default:
		r.waiting.Add(-int64(len(line)))
		r.missed.Add(1)
	}
}

// Totals is what a run comes to.
type Totals struct {
	Requests uint64        `json:"requests"`      // of clients
	Lost     uint64        `json:"lost"`          // answers of a dead session that a client was given
	Refused  uint64        `json:"refused"`       // requests answered with the reason why there is no session
	Absorbed uint64        `json:"absorbed"`      // requests sent while dead whose answers no client saw
	Failed   uint64        `json:"failed"`        // exchanges that broke off
	Logins   uint64        `json:"logins"`        // recoveries that brought a session
	Own      uint64        `json:"own_requests"`  // requests that Holdfast sent for logins and probes
	Added    time.Duration `json:"added_ns"`      // mean time that a request spent in Holdfast, recoveries left out
	Missed   uint64        `json:"traces_missed"` // trace lines that a slow writer lost
}

// Totals returns what has happened so far.
func (h *Holdfast) Totals() Totals {
	r := h.record
	t := Totals{Requests: r.requests.Load(), Lost: r.lost.Load(), Refused: r.refused.Load(), Absorbed: r.absorbed.Load(),
		Failed: r.failed.Load(), Logins: h.Engine().Counts().Logins, Own: r.own.Load(), Missed: r.missed.Load()}
	if n := r.timed.Load(); n > 0 {
		t.Added = time.Duration(uint64(r.added.Load()) / n)
	}
	return t
}
