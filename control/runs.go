package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/learn"
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
	Version   int           `json:"v" doc:"Of this shape: 1."`
	ID        string        `json:"id"`
	Operation string        `json:"operation" doc:"What began it."`
	Identity  string        `json:"identity"`
	Macro     string        `json:"macro,omitempty"`
	State     string        `json:"state" enum:"running,done,failed,cancelled"`
	Requests  int           `json:"requests" doc:"That were sent so far."`
	Began     time.Time     `json:"began"`
	Ended     time.Time     `json:"ended,omitzero"`
	Sessions  []Session     `json:"sessions,omitempty" doc:"Of a refresh that is done."`
	Report    *MacroReport  `json:"report,omitempty" doc:"Of a macro that is over; not in a list."`
	Derived   *Derived      `json:"derived,omitempty" doc:"The macro that was made of flows; not in a list."`
	Learnt    *Learnt       `json:"learnt,omitempty" doc:"The configuration that was made of flows; not in a list."`
	Examined  *learn.Report `json:"examined,omitempty" doc:"What a doctor found; not in a list."`
	Progress  []string      `json:"progress,omitempty" doc:"What was done so far, in words; the last 100."`
	Error     *RunError     `json:"error,omitempty" doc:"Of one that failed."`

	revealed *MacroReport // with its secrets, where it was begun by one who may see them
	// secret says that Derived and Learnt hold secrets, for the same one.
	secret bool
	number uint64
	cancel context.CancelFunc
	over   chan struct{}
	say    func(text string) // adds to the progress
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
		return nil, &flow.Error{Status: 429, Reason: ReasonRuns, Detail: fmt.Sprintf("%d runs are under way already, the most that may be.", going),
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
		out := &Run{say: func(text string) { r.say(run, text) }}
		err := r.survive(operation, func() error { return do(ctx, out) })
		r.end(run, out, err, ctx.Err())
	})
	r.events.publish("run", eventOf(run))
	return copyOf(run), nil
}

// survive has a run that goes wrong by a fault of ours end with an error, as a
// call of an operation does: it reads what hostile servers sent, and the proxy
// goes on.
func (r *runs) survive(operation string, do func() error) (err error) {
	defer func() {
		if bug := recover(); bug != nil {
			r.events.Warn(fmt.Sprintf("internal error in %s: %v\n%s", operation, bug, debug.Stack()))
			err = &flow.Error{Status: 500, Reason: ReasonInternal, Detail: "Internal error.", Next: "Report it, with what was asked for."}
		}
	}()
	return do()
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

// maxProgress is how many lines of progress are kept.
const maxProgress = 100

func (r *runs) say(run *Run, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Copied: a run that was asked for has the lines that there were.
	run.Progress = append(slices.Clone(run.Progress[max(0, len(run.Progress)-maxProgress+1):]), text)
	e := eventOf(run)
	e.Progress = text
	r.events.publish("run", e)
}

func (r *runs) end(run, out *Run, err, cancelled error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run.State, run.Ended, run.Sessions, run.Report, run.revealed = RunDone, time.Now().UTC(), out.Sessions, out.Report, out.revealed
	run.Derived, run.Learnt, run.Examined, run.secret, run.Requests = out.Derived, out.Learnt, out.Examined, out.secret, max(run.Requests, out.Requests)
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
					shown.Report, shown.Derived, shown.Learnt, shown.Examined = nil, nil, nil, nil // which may be large
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
				return now.shown(p.Reveal), nil
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
				return d.runs.now(run).shown(false), nil
			}),
	}
}

// shown is a copy of a run as one may see it who asked to reveal, or did not.
func (r *Run) shown(reveal bool) *Run {
	if r.secret && !reveal {
		r.Derived, r.Learnt = nil, nil
	}
	return r
}
