package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// The bounds of runs.
const (
	maxRuns  = 8  // under way at a time
	keptRuns = 32 // that are over
	maxRun   = 15 * time.Minute
)

// The states of a run.
const (
	RunGoing     = "running"
	RunDone      = "done"
	RunFailed    = "failed"
	RunCancelled = "cancelled"
)

// Run is something that takes longer than one wants to wait for an answer.
type Run struct {
	Version   int          `json:"v" doc:"Of this shape: 1."`
	ID        string       `json:"id"`
	Operation string       `json:"operation" doc:"What began it."`
	Identity  string       `json:"identity"`
	Macro     string       `json:"macro,omitempty"`
	State     string       `json:"state" enum:"running,done,failed,cancelled"`
	Requests  int          `json:"requests" doc:"That were sent so far."`
	Began     time.Time    `json:"began"`
	Ended     time.Time    `json:"ended,omitzero"`
	Sessions  []Session    `json:"sessions,omitempty" doc:"Of a refresh that is done."`
	Report    *MacroReport `json:"report,omitempty" doc:"Of a macro that is over; not in a list."`
	Error     *RunError    `json:"error,omitempty" doc:"Of one that failed."`

	revealed *MacroReport // with its secrets, where it was begun by one who may see them
	number   uint64
	cancel   context.CancelFunc
	over     chan struct{}
}

// RunError says why a run failed.
type RunError struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Next   string `json:"next,omitempty"`
}

// runs are those that are under way, and the last ones that are over.
type runs struct {
	events *Events
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu     sync.Mutex // guards what follows, and what the runs hold
	all    []*Run     // the oldest first
	number uint64
	closed bool
}

func newRuns(events *Events) *runs {
	r := &runs{events: events}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *runs) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.group.Wait()
}

// start begins a run, and returns it as it is then. do fills in a run of its
// own, of which nobody else knows.
func (r *runs) start(operation, identity, macro string, do func(ctx context.Context, out *Run) error) (*Run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, &flow.Error{Status: 503, Reason: flow.ReasonClosing, Detail: "Holdfast is being stopped."}
	}
	going := 0
	for _, other := range r.all {
		if other.State == RunGoing {
			going++
		}
	}
	if going >= maxRuns {
		return nil, &flow.Error{Status: 429, Reason: ReasonRuns, Detail: fmt.Sprintf("%d macros run already, the most that may.", going),
			Next: "Wait for one, or cancel one (run.cancel)."}
	}
	r.number++
	run := &Run{Version: 1, ID: fmt.Sprintf("run-%d", r.number), Operation: operation, Identity: identity, Macro: macro, State: RunGoing,
		Began: time.Now().UTC(), number: r.number, over: make(chan struct{})}
	var ctx context.Context
	ctx, run.cancel = context.WithTimeout(r.ctx, maxRun)
	ctx = session.Watched(ctx, func() { r.progress(run) })
	r.all = append(r.all, run)
	r.forget()
	r.group.Go(func() {
		defer run.cancel()
		out := &Run{}
		err := do(ctx, out)
		r.end(run, out, err, ctx.Err())
	})
	r.events.publish("run", eventOf(run))
	return copyOf(run), nil
}

// forget drops the oldest that are over. mu is held.
func (r *runs) forget() {
	over := 0
	for _, run := range r.all {
		if run.State != RunGoing {
			over++
		}
	}
	r.all = slices.DeleteFunc(r.all, func(run *Run) bool {
		if over <= keptRuns || run.State == RunGoing {
			return false
		}
		over--
		return true
	})
}

func (r *runs) progress(run *Run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.Requests++
	r.events.publish("run", eventOf(run))
}

func (r *runs) end(run, out *Run, err, cancelled error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.State, run.Ended, run.Sessions, run.Report, run.revealed = RunDone, time.Now().UTC(), out.Sessions, out.Report, out.revealed
	var known *flow.Error
	switch {
	case err == nil:
	case errors.Is(cancelled, context.Canceled):
		run.State = RunCancelled
	case cancelled != nil:
		run.State, run.Error = RunFailed, &RunError{flow.ReasonTimeout, fmt.Sprintf("It was not done within %s.", maxRun), "See the report, or the trace, for what took so long."}
	case errors.As(err, &known):
		run.State, run.Error = RunFailed, &RunError{known.Reason, known.Detail, known.Next}
	default:
		run.State, run.Error = RunFailed, &RunError{ReasonInternal, err.Error(), ""}
	}
	close(run.over)
	r.forget()
	r.events.publish("run", eventOf(run))
}

// copyOf is a run as it is now. mu is held.
func copyOf(run *Run) *Run {
	c := *run
	return &c
}

func (r *runs) find(id string) (*Run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.all {
		if run.ID == id {
			return run, nil
		}
	}
	return nil, notFound(fmt.Sprintf("There is no run %q.", id), fmt.Sprintf("The last %d that are over are kept; list the runs.", keptRuns))
}

func (r *runs) now(run *Run) *Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return copyOf(run)
}

type runParams struct {
	ID     string `json:"id" minLength:"1" maxLength:"64" doc:"Of the run."`
	Wait   int    `json:"wait,omitempty" minimum:"0" maximum:"60" doc:"How many seconds to wait for its end."`
	Reveal bool   `json:"reveal,omitempty" doc:"Show what was sent and taken, where the run was begun with reveal."`
}

type cancelParams struct {
	ID string `json:"id" minLength:"1" maxLength:"64" doc:"Of the run."`
}

func runOperations() []Operation {
	return []Operation{
		of(Operation{Name: "run.list", Doc: "List the runs of macros and refreshes: those under way, and the last ones that are over.", Danger: Read, Foreign: true,
			Method: "GET", Path: "/runs", Tool: "macros.list_runs", Command: "runs list"},
			func(_ context.Context, d *Desk, p *Paging) (*Page[Run], error) {
				d.runs.mu.Lock()
				defer d.runs.mu.Unlock()
				var all []Run
				for _, run := range d.runs.all {
					shown := *run
					shown.Report = nil // which may be large
					all = append(all, shown)
				}
				slices.SortFunc(all, func(a, b Run) int { return cmp.Compare(a.number, b.number) })
				return paged(all, *p, func(r *Run) string { return fmt.Sprintf("%020d", r.number) })
			}),
		of(Operation{Name: "run.get", Doc: "Show a run, now or when it is over.", Danger: Read, Foreign: true, Reveals: true,
			Method: "GET", Path: "/runs/{id}", Tool: "macros.get_run", Command: "runs show"},
			func(ctx context.Context, d *Desk, p *runParams) (*Run, error) {
				if err := d.mayReveal(p.Reveal); err != nil {
					return nil, err
				}
				run, err := d.runs.find(p.ID)
				if err != nil {
					return nil, err
				}
				if p.Wait > 0 {
					limit := time.NewTimer(time.Duration(p.Wait) * time.Second)
					defer limit.Stop()
					select {
					case <-run.over:
					case <-limit.C:
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				now := d.runs.now(run)
				if p.Reveal && now.revealed != nil {
					now.Report = now.revealed
				}
				return now, nil
			}),
		of(Operation{Name: "run.cancel", Doc: "End a run. Requests that were sent stay sent; a recovery that others wait for goes on.", Danger: Change, Foreign: true,
			Method: "DELETE", Path: "/runs/{id}", Tool: "macros.cancel_run", Command: "runs cancel"},
			func(ctx context.Context, d *Desk, p *cancelParams) (*Run, error) {
				run, err := d.runs.find(p.ID)
				if err != nil {
					return nil, err
				}
				run.cancel()
				select {
				case <-run.over:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				return d.runs.now(run), nil
			}),
	}
}
