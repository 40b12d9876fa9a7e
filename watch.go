package holdfast

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
)

// The limits of watching. What comes beyond is counted.
const (
	MaxWatches = 8    // that are not over, at a time
	MaxWatched = 5000 // flows of one
)

// Errors of Holdfast.Watch.
var (
	ErrNoHistory = errors.New("no flows with their bodies are kept")
	ErrWatches   = errors.New("as many recordings go on as may")
)

// A Watch notes which flows of clients pass, from its beginning until Stop, and
// in which row of the history each is. Any goroutine may call its methods.
type Watch struct {
	of     *watches
	want   func(*flow.Flow) bool
	judge  func(*flow.Flow) bool
	over   chan struct{}
	mu     sync.Mutex // guards the rest
	under  map[flow.ID]time.Time
	rows   []watched
	missed int
	unkept int
	left   int
	ended  bool
}

// watched is a flow that is in the history.
type watched struct {
	began time.Time
	row   int64
}

// WatchedFlows are the flows of a Watch.
type WatchedFlows struct {
	Rows []int64 // of the history, in the order in which the flows began
	// Under is how many are under way, or wait for the disk; Left how many were
	// when Stop would not wait any longer; Missed how many there were beyond
	// MaxWatched, and Unkept how many the history could not keep.
	Under, Left, Missed, Unkept int
}

// Watch begins to note the flows of clients that want is true of when they
// begin, and judge when they have ended. Both must be quick and not keep the
// flow; nil takes all. Errors: ErrNoHistory, ErrWatches.
func (h *Holdfast) Watch(want, judge func(*flow.Flow) bool) (*Watch, error) {
	if h.history == nil || h.history.maxBody == 0 {
		return nil, ErrNoHistory
	}
	ws := &h.watches
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.all) >= MaxWatches {
		return nil, ErrWatches
	}
	w := &Watch{of: ws, want: want, judge: judge, over: make(chan struct{}), under: make(map[flow.ID]time.Time)}
	ws.all = append(ws.all, w)
	ws.on.Store(int32(len(ws.all)))
	return w, nil
}

// Stop takes no more flows, and waits until those under way are in the history.
// Those that are not when ctx ends are left out. It may be called again.
func (w *Watch) Stop(ctx context.Context) {
	w.mu.Lock()
	last := !w.ended && len(w.under) == 0
	w.ended = true
	w.mu.Unlock()
	if last {
		w.finish()
		return
	}
	select {
	case <-w.over:
		return
	case <-ctx.Done():
	}
	w.mu.Lock()
	last = len(w.under) > 0
	w.left += len(w.under)
	clear(w.under)
	w.mu.Unlock()
	if last {
		w.finish()
	}
}

// Flows tells what has passed so far.
func (w *Watch) Flows() WatchedFlows {
	w.mu.Lock()
	defer w.mu.Unlock()
	sorted := slices.Clone(w.rows)
	slices.SortStableFunc(sorted, func(a, b watched) int { return cmp.Or(a.began.Compare(b.began), cmp.Compare(a.row, b.row)) })
	out := WatchedFlows{Rows: make([]int64, 0, len(sorted)), Under: len(w.under), Left: w.left, Missed: w.missed, Unkept: w.unkept}
	for _, one := range sorted {
		out.Rows = append(out.Rows, one.row)
	}
	return out
}

// begin notes a flow that has begun.
func (w *Watch) begin(f *flow.Flow) {
	if w.want != nil && !w.want(f) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
		return
	case len(w.under)+len(w.rows) >= MaxWatched:
		w.missed++
		return
	}
	w.under[f.ID] = f.Start
	f.OnEnd(w.end)
}

// end leaves a flow out that is not meant.
func (w *Watch) end(f *flow.Flow) {
	if w.judge != nil && !w.judge(f) {
		w.settle(f.ID, func(time.Time) {})
	}
}

// kept notes the row of a flow.
func (w *Watch) kept(id flow.ID, row int64) {
	w.settle(id, func(began time.Time) {
		if row == 0 {
			w.unkept++
			return
		}
		w.rows = append(w.rows, watched{began, row})
	})
}

// settle takes a flow off those that are waited for.
func (w *Watch) settle(id flow.ID, do func(began time.Time)) {
	w.mu.Lock()
	began, there := w.under[id]
	if there {
		delete(w.under, id)
		do(began)
	}
	last := there && w.ended && len(w.under) == 0
	w.mu.Unlock()
	if last {
		w.finish()
	}
}

// finish is the end, once: after the one that took the last flow.
func (w *Watch) finish() {
	ws := w.of
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.all = slices.DeleteFunc(ws.all, func(other *Watch) bool { return other == w })
	ws.on.Store(int32(len(ws.all)))
	close(w.over)
}

// watches are those that are not over.
type watches struct {
	on  atomic.Int32 // how many there are, for those who pass by
	mu  sync.Mutex
	all []*Watch
}

func (ws *watches) now() []*Watch {
	if ws.on.Load() == 0 {
		return nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return slices.Clone(ws.all)
}

// stage has the watches see a flow. It stands behind the one that says who
// speaks, and the history ends a flow after it.
func (ws *watches) stage(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		for _, w := range ws.now() {
			w.begin(f)
		}
		return next(ctx, f)
	}
}

// kept is who wants to hear in which row a flow is that goes to the history; nil:
// nobody.
func (ws *watches) kept(id flow.ID) func(row int64) {
	var want []*Watch
	for _, w := range ws.now() {
		w.mu.Lock()
		if _, there := w.under[id]; there {
			want = append(want, w)
		}
		w.mu.Unlock()
	}
	if want == nil {
		return nil
	}
	return func(row int64) {
		for _, w := range want {
			w.kept(id, row)
		}
	}
}
