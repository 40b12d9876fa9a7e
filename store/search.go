package store

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store/index"
)

// Limits of a search.
const (
	DefaultLimit  = 100              // flows of a page
	MaxLimit      = 1000             //
	DefaultWithin = 10 * time.Second // that a search may take
	maxPage       = 64 << 20         // bytes of a page, from which on it takes no more flows

	searchers    = 2       // goroutines that judge, each with a connection
	batchRows    = 256     // rows that are judged at once
	batchBytes   = 8 << 20 // bytes of them, or of their bodies, from which on there are no more
	signedBlocks = 256     // blocks whose signatures are read at once
	firstBlocks  = 2       // blocks that are judged in one go; twice as many each time
	mostBlocks   = 64      //
)

// Search asks which flows a query is true of.
type Search struct {
	// Query is asked about each flow; nil is true of all. Presets in it must
	// have been resolved: what is unknown is not found.
	Query *httpql.Query
	// See gives what the query is asked about in place of a flow's record; nil:
	// the record itself. It is called by several goroutines, and may change no
	// more than what httpql.Field.Content is true of. Conditions on that are then
	// asked of every flow that the others leave, since no index knows what See
	// makes of it.
	See func(*Stored, *flow.Record) httpql.Record
	// The flows have ids above After and below Before; 0: no bound.
	After, Before int64
	// OldestFirst turns the order around.
	OldestFirst bool
	// Limit is how many flows are found at most: 0 is DefaultLimit, and
	// MaxLimit the most.
	Limit int
	// Within is after what time the search returns with what it has. 0 is
	// DefaultWithin.
	Within time.Duration
}

// Found is a page of flows.
type Found struct {
	// Flows are in the order of their ids, with their bodies.
	Flows []*Stored
	// Next is where the search goes on: as After with OldestFirst, else as
	// Before. 0: there is no more.
	Next int64
	// Incomplete says that the time was over: there may be more flows than
	// Flows even where these are fewer than the limit.
	Incomplete bool
	// Blocks is how many blocks were looked at by their signatures, Rows how many
	// flows were judged, and Bodies how many of them by bodies that stand
	// elsewhere.
	Blocks, Rows, Bodies int64
	// Damaged is how many flows could not be read, and so not judged.
	Damaged int64
}

// Search looks for flows, newest first. It holds no more in memory than a page
// and a few batches. Flows that are written meanwhile may be found or not.
func (s *Store) Search(ctx context.Context, o Search) (*Found, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	o.Limit = min(o.Limit, MaxLimit)
	if o.Within <= 0 {
		o.Within = DefaultWithin
	}
	plan := index.NewPlan
	if o.See != nil {
		plan = index.NewBlindPlan
	}
	x := &search{s: s, o: o, plan: plan(s.signs(), o.Query), deadline: time.Now().Add(o.Within)}
	found, err := x.run(ctx)
	if err != nil {
		return nil, advise(err)
	}
	return found, nil
}

// search is one that runs.
type search struct {
	s        *Store
	o        Search
	plan     index.Plan
	deadline time.Time

	low, high int64 // ids: from low to high
	statements
	found Found
	size  int64 // bytes of what was found
}

// run gives out jobs in their order and takes the results in the same order, so
// that what is found first is what stands first.
func (x *search) run(ctx context.Context) (*Found, error) {
	if some, err := x.bounds(ctx); err != nil || !some || x.plan.None {
		return &x.found, err
	}
	if err := x.prepare(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer func() {
		cancel()
		workers.Wait()
		x.statements.close()
	}()
	work, order := make(chan *job), make(chan *job, 2*searchers)
	for range searchers {
		workers.Go(func() {
			for j := range work {
				x.judge(ctx, j)
				close(j.done)
			}
		})
	}
	var given error
	workers.Go(func() {
		defer close(order)
		defer close(work)
		given = x.jobs(ctx, func(j *job) bool {
			select {
			case order <- j:
			case <-ctx.Done():
				return false
			}
			select {
			case work <- j:
				return true
			case <-ctx.Done():
				j.err = ctx.Err()
				close(j.done)
				return false
			}
		})
	})
	for j := range order {
		<-j.done
		if more, err := x.take(ctx, j); err != nil || !more {
			return &x.found, err
		}
	}
	if given != nil { // after order was closed
		return nil, given
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &x.found, nil
}

// take adds the result of the next job. It is false where the page ends.
func (x *search) take(ctx context.Context, j *job) (more bool, err error) {
	x.found.Blocks += j.blocks
	x.found.Rows += j.rows
	x.found.Bodies += j.bodies
	x.found.Damaged += j.damaged
	if j.err != nil {
		return false, j.err
	}
	for _, stored := range j.found {
		if len(x.found.Flows) == x.o.Limit || x.size >= maxPage {
			return false, nil // Next is the last flow
		}
		if err := x.s.readBodies(ctx, []*Stored{stored}); err != nil {
			return false, err
		}
		x.size += stored.kept()
		x.found.Flows = append(x.found.Flows, stored)
		x.found.Next = stored.ID
	}
	if len(x.found.Flows) == x.o.Limit && len(j.found) > 0 && !j.last {
		return false, nil
	}
	x.found.Next = j.next
	x.found.Incomplete = j.late
	if j.last {
		x.found.Next = 0
	}
	return !j.late && !j.last, nil
}

// bounds finds between which ids the flows are. It is false where there are
// none.
func (x *search) bounds(ctx context.Context) (some bool, err error) {
	// Apart, since SQLite finds either by its index, and both by a scan only.
	statement, args := "SELECT (SELECT min(id) FROM flows), (SELECT max(id) FROM flows)", []any(nil)
	if x.plan.From != math.MinInt64 || x.plan.To != math.MaxInt64 {
		statement, args = "SELECT min(id), max(id) FROM flows WHERE at >= ? AND at < ?", []any{x.plan.From, x.plan.To}
	}
	var low, high *int64
	err = x.s.read.QueryRowContext(ctx, x.s.dialect.sql(statement), args...).Scan(&low, &high)
	if err != nil || low == nil || high == nil {
		return false, err
	}
	x.low, x.high = max(*low, x.o.After+1), *high
	if x.o.Before > 0 {
		x.high = min(x.high, x.o.Before-1)
	}
	return x.low <= x.high, nil
}

// kept is about how much memory a flow takes.
func (f *Stored) kept() int64 {
	n := int64(4 << 10)
	for _, b := range []*Body{f.Received, f.Sent, f.Response} {
		if b != nil {
			n += int64(len(b.Raw))
		}
	}
	for i := range f.Messages {
		n += int64(len(f.Messages[i].Data))
	}
	return n
}
