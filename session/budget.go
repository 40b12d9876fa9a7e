package session

import "sync/atomic"

// freeBytes of a body may be held whatever other flows hold, so that nobody
// can keep a small answer from being judged.
const freeBytes = 64 << 10

// A budget bounds what all flows together hold of one kind, in bytes. Any
// goroutine may use it.
type budget struct {
	limit atomic.Int64 // another configuration may change it
	taken atomic.Int64
}

// take takes n bytes, or nothing where they are not there.
func (b *budget) take(n int64) bool {
	for {
		taken := b.taken.Load()
		if taken+n > b.limit.Load() {
			return false
		}
		if b.taken.CompareAndSwap(taken, taken+n) {
			return true
		}
	}
}

// A share is what one body has of a budget. One goroutine at a time uses it.
type share struct {
	of    *budget
	free  int64 // bytes that cost nothing
	taken int64
	ended bool
}

// covers makes sure that n bytes in all may be held, and reports whether they
// may.
func (s *share) covers(n int64) bool {
	more := n - s.free - s.taken
	if more <= 0 {
		return true
	}
	if s.ended || !s.of.take(more) {
		return false
	}
	s.taken += more
	return true
}

// end gives everything back.
func (s *share) end() {
	s.of.taken.Add(-s.taken)
	s.taken, s.ended = 0, true
}
