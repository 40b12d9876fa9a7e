package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Limits of what waits for the disk. Zero values of HistoryOptions are these.
const (
	DefaultQueueFlows = 8192
	DefaultQueueBytes = 96 << 20
)

// Times and sizes of a group of flows that is written at once.
const (
	gather     = 40 * time.Millisecond // that a flow waits for others
	groupFlows = 256
	groupBytes = 4 << 20 // compressed

	// The writer works as long as slice and then lets others have the processor
	// for about rest, so that a request waits for it no longer than that; where many
	// flows wait it does no more than take its turn.
	slice = 150 * time.Microsecond
	rest  = 50 * time.Microsecond
	many  = 4 * groupFlows

	firstPause = 50 * time.Millisecond // after a failed write; then twice as long each time
	maxPause   = 3 * time.Second
	flushTime  = 10 * time.Second // that Close waits for the disk
)

// HistoryOptions are how flows are written.
type HistoryOptions struct {
	// QueueFlows and QueueBytes bound what waits for the disk: flows, and bytes
	// of heads and bodies together with the bodies that are being collected.
	// What comes beyond is counted and left out, bodies before flows.
	QueueFlows int
	QueueBytes int64
	// MaxBody is how many bytes of a body are kept, as it stood on the wire.
	MaxBody int64
	// Retention is looked after every minute.
	Retention Retention
	// Node says who writes, where several do.
	Node string
}

// HistoryStats say what became of the flows.
type HistoryStats struct {
	Written uint64 `json:"written" doc:"Flows that are on the disk."`
	Waiting int64  `json:"waiting" doc:"Flows that wait for the disk."`
	Bytes   int64  `json:"bytes" doc:"That they and bodies on their way take."`
	// Dropped are flows that were left out, Bodies those of which a body was.
	Dropped uint64 `json:"dropped" doc:"Flows that were left out."`
	Bodies  uint64 `json:"bodies_dropped" doc:"Flows of which a body was left out."`
	// Failing is why nothing can be written at the moment; "" when it can.
	Failing string `json:"failing,omitempty" doc:"Why nothing can be written at the moment; missing: it can."`
}

// History writes flows behind the traffic's back. Any goroutine may call its
// methods; none of them waits for the disk but Flush and Close.
type History struct {
	s         *Store
	o         HistoryOptions
	zip       *zstd.Encoder
	entries   chan *entry
	many      chan struct{} // has one place: a group is full
	flushes   chan chan struct{}
	stop      chan struct{} // closed: write what is there, then end
	done      chan struct{}
	ctx       context.Context // ends when Close will not wait any longer
	cancel    context.CancelFunc
	once      sync.Once
	retaining sync.WaitGroup

	held                      atomic.Int64 // bytes
	waiting                   atomic.Int64 // flows
	written, dropped, missing atomic.Uint64

	mu      sync.Mutex // guards the rest but for the writer's own
	closed  bool
	failing string
	full    bool // dropping: it was said
	kept    bool // old flows cannot be deleted: likewise

	// The writer's own.
	block    *block // is filled
	reserved numbers
	tx       *sql.Tx // all is written in it, by an import; nil: in transactions of groups
	prepared map[statement]*sql.Stmt
	wanted   map[statement]string // that are not prepared yet
	rested   time.Time
	// Memory that is used again.
	args          []any
	plain, zipped []byte
}

// StartHistory begins to write. Close of the history or of the store ends it.
func (s *Store) StartHistory(o HistoryOptions) (*History, error) {
	if o.QueueFlows <= 0 {
		o.QueueFlows = DefaultQueueFlows
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	zip, err := newZip()
	if err != nil {
		return nil, err
	}
	h := newHistory(s, o, zip)
	h.entries, h.many, h.flushes = make(chan *entry, o.QueueFlows), make(chan struct{}, 1), make(chan chan struct{})
	h.stop, h.done = make(chan struct{}), make(chan struct{})
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if err := s.adopt(h); err != nil {
		h.cancel()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(h.ctx, flushTime)
	h.retained(s.makeWeeks(ctx, time.Now()))
	cancel()
	if o.Retention != (Retention{}) || s.dialect.numbered {
		h.retaining.Go(h.retain)
	}
	go h.run()
	return h, nil
}

// newHistory is one that nobody writes yet.
func newHistory(s *Store, o HistoryOptions, zip *zstd.Encoder) *History {
	return &History{s: s, o: o, zip: zip, prepared: make(map[statement]*sql.Stmt), wanted: make(map[statement]string)}
}

// MaxBody is how many bytes of a body are kept.
func (h *History) MaxBody() int64 { return h.o.MaxBody }

// Hold asks for room for n bytes of a body that is being collected. Whoever got
// it gives it back by Record, which takes it over with the exchange, or Free.
func (h *History) Hold(n int64) bool {
	if h.held.Add(n) > h.o.QueueBytes {
		h.held.Add(-n)
		return false
	}
	return true
}

// Free gives room back.
func (h *History) Free(n int64) { h.held.Add(-n) }

// Record takes a flow that has ended. What it needs of the flow it copies; the
// bodies' bytes are the history's from then on. held is what Hold gave for
// them. It does not wait.
func (h *History) Record(x *Exchange, held int64) {
	e := newEntry(x, h.o.MaxBody, false)
	if !h.Hold(e.held - held) {
		h.Free(held)
		e = newEntry(x, 0, true)
		e.missing = true
		if !h.Hold(e.held) {
			h.drop(1)
			e.tell()
			return
		}
	}
	e.common.node = clearText{text: h.o.Node}
	if e.missing {
		h.missing.Add(1)
	}
	if !h.queue(e) {
		e.tell()
	}
}

// queue has a flow wait for the disk, where there is room for it.
func (h *History) queue(e *entry) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		select {
		case h.entries <- e:
			if h.waiting.Add(1) >= groupFlows || h.held.Load() >= groupBytes {
				select {
				case h.many <- struct{}{}:
				default:
				}
			}
			return true
		default:
		}
	}
	h.Free(e.held)
	h.dropLocked(1)
	return false
}

func (h *History) drop(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(n)
}

// dropLocked counts flows that are left out, and says so once.
func (h *History) dropLocked(n int) {
	h.dropped.Add(uint64(n))
	if !h.full && !h.closed {
		h.full = true
		h.s.warn("the history cannot follow: flows are left out, and counted; the traffic goes on")
	}
}

// Stats tells how it goes.
func (h *History) Stats() HistoryStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return HistoryStats{Written: h.written.Load(), Waiting: h.waiting.Load(), Bytes: h.held.Load(),
		Dropped: h.dropped.Load(), Bodies: h.missing.Load(), Failing: h.failing}
}

// Flush waits until what was recorded before is written or given up.
func (h *History) Flush(ctx context.Context) error {
	written := make(chan struct{})
	select {
	case h.flushes <- written:
	case <-h.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-written:
		return nil
	case <-h.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close writes what waits, for ten seconds at the most, and ends the writing.
// The error says how many flows were not written.
func (h *History) Close() error {
	h.once.Do(func() {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		close(h.stop)
		late := time.AfterFunc(flushTime, h.cancel)
		<-h.done
		late.Stop()
		h.cancel()
		h.retaining.Wait()
		h.s.adopted(h)
	})
	if n := h.dropped.Load(); n > 0 {
		return fmt.Errorf("%d flows are not in the history: it could not be written fast enough, or not at all", n)
	}
	return nil
}

// run is the goroutine that writes.
func (h *History) run() {
	defer close(h.done)
	for {
		var flushed chan struct{}
		group := make([]*entry, 0, groupFlows)
		select {
		case e := <-h.entries:
			group = append(group, e)
		case flushed = <-h.flushes:
		case <-h.stop:
			h.drain()
			return
		}
		if flushed == nil {
			group, flushed = h.gather(group)
		}
		for flushed != nil {
			for group = h.take(group); len(group) > 0; group = h.take(group[:0]) {
				h.write(group)
			}
			close(flushed)
			flushed = nil
		}
		if len(group) > 0 {
			h.write(group)
		}
	}
}

// gather waits a little for more flows, so that one write is for all of them, and
// is not woken by each.
func (h *History) gather(group []*entry) (_ []*entry, flushed chan struct{}) {
	late := time.NewTimer(gather)
	defer late.Stop()
	for {
		select {
		case <-h.many:
			if len(h.entries) < groupFlows && h.held.Load() < groupBytes {
				continue // it was said of the group before
			}
		case <-late.C:
		case flushed = <-h.flushes:
		case <-h.stop:
		}
		h.rested = time.Now()
		return h.take(group), flushed
	}
}

// breathe is called by the writer between two pieces of its work, outside of
// transactions: others wait for these.
func (h *History) breathe() {
	if h.tx != nil || time.Since(h.rested) < slice {
		return
	}
	if h.waiting.Load() > many {
		runtime.Gosched()
	} else {
		time.Sleep(rest)
	}
	h.rested = time.Now()
}

// take adds what waits to a group, as much as one has.
func (h *History) take(group []*entry) []*entry {
	size := int64(0)
	for _, e := range group {
		size += e.held
	}
	for len(group) < groupFlows && size < groupBytes {
		select {
		case e := <-h.entries:
			group, size = append(group, e), size+e.held
		default:
			return group
		}
	}
	return group
}

// drain is the end: nothing is added any more.
func (h *History) drain() {
	for {
		group := h.take(make([]*entry, 0, groupFlows))
		if len(group) == 0 {
			return
		}
		h.write(group)
	}
}

// write has a group in the database, and tries until it is there, Close gives
// up, or it is seen that one of the flows can never be.
func (h *History) write(group []*entry) {
	defer func() {
		h.waiting.Add(-int64(len(group)))
		for _, e := range group {
			h.Free(e.held)
			e.tell()
		}
		h.caughtUp()
	}()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := h.commit(h.ctx, group)
		if err == nil {
			h.wrote(group)
			h.works()
			return
		}
		if h.ctx.Err() != nil {
			h.drop(len(group))
			return
		}
		if h.s.dialect.odd(err) {
			h.singly(group, err)
			return
		}
		h.fails(err)
		select {
		case <-time.After(pause):
		case <-h.ctx.Done():
			h.drop(len(group))
			return
		}
	}
}

// wrote notes flows that are in the database.
func (h *History) wrote(group []*entry) {
	h.written.Add(uint64(len(group)))
	for _, e := range group {
		e.there = true
	}
}

// singly finds the flow that the database does not take.
func (h *History) singly(group []*entry, err error) {
	unpack(group)
	if len(group) == 1 {
		h.s.warn("a flow is not in the history: %v", err)
		h.drop(1)
		return
	}
	for i := range group {
		err := h.commit(h.ctx, group[i:i+1])
		switch {
		case err == nil:
			h.wrote(group[i : i+1])
		case h.s.dialect.odd(err):
			h.singly(group[i:i+1], err)
		default:
			h.drop(len(group) - i)
			return
		}
	}
}

func (h *History) fails(err error) {
	h.mu.Lock()
	said := h.failing != ""
	h.failing = advise(err).Error()
	text := h.failing
	h.mu.Unlock()
	if !said {
		h.s.warn("the history cannot be written: %s; the traffic goes on, and it is tried again", text)
	}
}

// works ends a time in which nothing could be written.
func (h *History) works() {
	h.mu.Lock()
	failed := h.failing != ""
	h.failing = ""
	h.mu.Unlock()
	if failed {
		h.again()
	}
}

// caughtUp ends a time in which flows were left out, once the half of what may
// wait is free again.
func (h *History) caughtUp() {
	h.mu.Lock()
	again := h.full && h.waiting.Load() <= int64(h.o.QueueFlows)/2 && h.held.Load() <= h.o.QueueBytes/2
	h.full = h.full && !again
	again = again && !h.closed
	h.mu.Unlock()
	if again {
		h.again()
	}
}

func (h *History) again() {
	h.s.warn("the history is written again; %d flows and bodies of %d are not in it", h.dropped.Load(), h.missing.Load())
}

// ErrHistory is that a store has a history already.
var ErrHistory = errors.New("the history of this store is written already")

// adopt has the store close the history when it is closed.
func (s *Store) adopt(h *History) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history != nil {
		return ErrHistory
	}
	s.history = h
	return nil
}

func (s *Store) adopted(h *History) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history == h {
		s.history = nil
	}
}
