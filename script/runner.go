package script

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"
)

// MaxRuns is how many scripts run at a time; others wait for their turn. One
// that waits for a fetch or a body does not count.
const MaxRuns = 16

// maxTurn is how long a script waits for its turn.
const maxTurn = 10 * time.Second

// watchEvery is how often the heap is looked at while scripts run.
const watchEvery = 2 * time.Millisecond

// Runner runs programs. Any goroutine may call its methods.
type Runner struct {
	limits Limits
	slots  chan struct{}

	mu       sync.Mutex // guards what follows
	running  []*run     // the one that has run longest first
	watching bool
	closed   bool
	watchers sync.WaitGroup
}

// NewRunner makes a runner whose limits are those of programs that name none.
func NewRunner(l Limits) *Runner {
	return &Runner{limits: l.over(DefaultLimits()), slots: make(chan struct{}, MaxRuns)}
}

// Close ends what runs, and waits for the runner's own goroutines. Runs that
// begin later fail.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	for _, one := range r.running {
		one.stop(errClosing)
	}
	r.mu.Unlock()
	r.watchers.Wait()
}

var (
	errClosing = errors.New("Holdfast is being stopped")
	errTurn    = fmt.Errorf("%d scripts ran at a time, and its turn did not come within %s", MaxRuns, maxTurn)
)

// Result is what a run that worked brought.
type Result struct {
	Value string            // what it returned, as text; bytes as they are
	Given bool              // false: it returned nothing: undefined, null or ""
	False bool              // it returned false
	Set   map[string]string // the variables that it set
	Edits []string          // what it changed, without values: "header x-api", "body"
}

// A RunError says why a script failed. It may hold words of the script's own,
// redacted by Call.Redact.
type RunError struct {
	Place   string // file:line; the file alone where no line is known
	Problem string
	Limit   bool // a limit ended it
	Cause   error
}

func (e *RunError) Error() string { return e.Place + ": " + e.Problem }

// Unwrap returns the cause.
func (e *RunError) Unwrap() error { return e.Cause }

// Run runs a program. Errors are *RunError.
func (r *Runner) Run(ctx context.Context, p *Program, c *Call) (result *Result, err error) {
	one := &run{runner: r, program: p, call: c, ctx: ctx, limits: p.limits.over(r.limits)}
	if failed := r.turn(ctx); failed != nil {
		return nil, &RunError{Place: p.name, Problem: failed.Error(), Cause: failed}
	}
	one.holds = true
	defer func() {
		if one.holds {
			<-r.slots
		}
	}()
	one.js = goja.New()
	one.js.SetMaxCallStackSize(one.limits.Depth)
	one.left = one.limits.Time
	defer func() {
		if x := recover(); x != nil { // what a native function of the engine could not do
			result, err = nil, &RunError{Place: p.name, Problem: fmt.Sprintf("the engine gave up: %.200v", one.redact(fmt.Sprint(x)))}
		}
	}()
	one.guard()
	one.provide()
	unwatch := context.AfterFunc(ctx, func() { one.stop(ctx.Err()) })
	defer unwatch()
	if !one.resume() {
		return nil, &RunError{Place: p.name, Problem: errClosing.Error(), Cause: errClosing}
	}
	defer one.pause()
	value, failed := one.js.RunProgram(p.code)
	if failed == nil && one.stopped.Load() {
		failed = one.reason()
	}
	if failed == nil {
		result, failed = one.result(value)
	}
	if failed != nil {
		return nil, one.explain(failed)
	}
	return result, nil
}

// turn waits for one of the slots.
func (r *Runner) turn(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	default:
	}
	limit := time.NewTimer(maxTurn)
	defer limit.Stop()
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return errTurn
	}
}

// run is one run of a program. Its methods are called by the goroutine that
// runs it; stop by any.
type run struct {
	runner  *Runner
	program *Program
	call    *Call
	ctx     context.Context
	limits  Limits
	js      *goja.Runtime

	holds   bool          // one of the slots
	left    time.Duration // of the time, while it is paused
	since   time.Time
	timer   *time.Timer
	base    uint64 // the heap when the watcher saw it first; 0: it has not. Guarded by Runner.mu
	stopped atomic.Bool
	why     atomic.Pointer[error]

	set     map[string]string
	edits   []string
	logged  int
	cut     bool // the log is full
	fetches int

	// of the world, before the script could change it
	array8               *goja.Object
	parseJSON, stringify goja.Callable
	joins                int // calls of join inside each other
	joining              []*goja.Object
}

// stop ends the run at its next operation.
func (n *run) stop(why error) {
	if n.why.CompareAndSwap(nil, &why) {
		n.stopped.Store(true)
		n.js.Interrupt(why)
	}
}

func (n *run) reason() error {
	if why := n.why.Load(); why != nil {
		return *why
	}
	return errors.New("it was ended")
}

// resume lets the clock run, and has the memory watched. It is false when the
// runner is closed.
func (n *run) resume() bool {
	r := n.runner
	n.since = time.Now()
	n.timer = time.AfterFunc(max(n.left, 0), func() {
		n.stop(&limitError{fmt.Sprintf("it ran for longer than %s", n.limits.Time)})
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		n.timer.Stop()
		return false
	}
	r.running = append(r.running, n)
	n.base = 0
	if !r.watching {
		r.watching = true
		r.watchers.Go(r.watch)
	}
	return true
}

// pause stops both, while the script waits or has ended.
func (n *run) pause() {
	if n.timer == nil {
		return
	}
	n.timer.Stop()
	n.timer = nil
	n.left -= time.Since(n.since)
	r := n.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.running, n); i >= 0 {
		r.running = slices.Delete(r.running, i, i+1)
	}
}

// waiting has fn wait for something outside, while others run.
func (n *run) waiting(fn func()) {
	n.pause()
	<-n.runner.slots
	n.holds = false
	fn()
	if err := n.runner.turn(n.ctx); err != nil {
		n.stop(err)
		return
	}
	n.holds = true
	if !n.resume() {
		n.stop(errClosing)
	}
}

// limitError is a limit that was reached.
type limitError struct{ what string }

func (e *limitError) Error() string { return e.what }

// watch looks at the heap until no script runs.
func (r *Runner) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	collected := make(chan struct{}, 1)
	collecting, verified := false, false
	for {
		select {
		case <-ticker.C:
		case <-collected:
			collecting, verified = false, true
		}
		metrics.Read(sample)
		heap := sample[0].Value.Uint64()
		r.mu.Lock()
		if len(r.running) == 0 && !collecting {
			r.watching = false
			r.mu.Unlock()
			return
		}
		suspected := r.inspect(heap, verified)
		r.mu.Unlock()
		verified = false
		if suspected && !collecting {
			collecting = true
			r.watchers.Go(func() { runtime.GC(); collected <- struct{}{} })
		}
	}
}

// inspect ends the script that has run longest of those during which the heap
// has grown too much. collected says that no garbage is counted. It reports
// whether garbage may be what is too much. mu is held.
func (r *Runner) inspect(heap uint64, collected bool) (suspected bool) {
	for _, n := range r.running {
		switch {
		case n.stopped.Load():
			return false // what it holds is given back when it has ended
		case n.base == 0:
			n.base = max(heap, 1)
			continue
		}
		grown := int64(heap) - int64(n.base)
		if grown <= n.limits.Memory {
			continue
		}
		if !collected && grown <= 2*n.limits.Memory {
			suspected = true
			continue
		}
		n.stop(&limitError{fmt.Sprintf("memory grew by more than %d MiB while it ran", n.limits.Memory>>20)})
		for _, other := range r.running {
			other.base = 0 // seen anew, when this one is gone
		}
		return false
	}
	return suspected
}
