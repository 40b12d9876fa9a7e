package session

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
)

// lived remembers which requests had a live answer of which generation. A
// request whose very like, to the last byte, was answered alive by the same
// session is dead because the session is, and not for what it asks: without
// this, sessions that die faster than a request can be sent again look like
// answers that no login changes. Requests with a body are never alike. It is
// kept up only for a while after a death, so that a session that lives costs
// nothing.
type lived struct {
	until atomic.Int64 // ns of Unix time; 0: not kept up

	mu   sync.Mutex
	seed maphash.Seed
	at   map[uint64]uint64 // up to maxUnhelped; the generation and one
}

// watch has answers remembered until then.
func (l *lived) watch(until time.Time) { l.until.Store(until.UnixNano()) }

// saw notes a live answer.
func (l *lived) saw(f *flow.Flow, generation uint64, now func() time.Time) {
	until := l.until.Load()
	if until == 0 || hasBody(f) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now().UnixNano() > until && l.until.CompareAndSwap(until, 0) {
		l.at = nil
		return
	}
	if l.at == nil || len(l.at) >= maxUnhelped {
		l.seed, l.at = maphash.MakeSeed(), make(map[uint64]uint64)
	}
	if key := l.key(f); l.at[key] <= generation {
		l.at[key] = generation + 1
	}
}

// since reports whether such a request had a live answer of the generation or a
// later one.
func (l *lived) since(f *flow.Flow, generation uint64) bool {
	if hasBody(f) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at != nil && l.at[l.key(f)] > generation
}

func (l *lived) key(f *flow.Flow) uint64 {
	return maphash.Bytes(l.seed, f.Received.Bytes())
}

func hasBody(f *flow.Flow) bool { return f.RequestBody != nil }
