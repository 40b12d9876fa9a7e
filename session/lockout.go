package session

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Lockout is the guard against logging ourselves out for good: after Failures
// failed logins within Window nobody tries again until a person says so.
// Zero values mean 3 failures in 15 minutes.
type Lockout struct {
	Failures int
	Window   time.Duration
}

func (l Lockout) withDefaults() Lockout {
	if l.Failures == 0 {
		l.Failures = 3
	}
	if l.Window == 0 {
		l.Window = 15 * time.Minute
	}
	return l
}

// FailureStore keeps the times of failed logins by key (identity and
// recovery). A call returns only when the change is durable: the count must
// survive a crash that happens after the login was refused.
type FailureStore interface {
	Load(key string) ([]time.Time, error)
	Save(key string, failures []time.Time) error // empty: forget the key
}

// guard counts failed logins.
type guard struct {
	policy Lockout
	store  FailureStore
	now    func() time.Time

	mu    sync.Mutex
	local map[string][]time.Time // where there is no store, or it failed
	owed  map[string]bool        // keys whose last change the store did not take
	// trying are logins under way, and ended is closed when one of them is over.
	trying map[string]int
	ended  chan struct{}
}

// recent returns the failures within the window. A full count does not age: it
// stays until a person unlocks it.
func (g *guard) recent(key string) []time.Time {
	failures := g.local[key]
	if g.store != nil && !g.owed[key] {
		if kept, err := g.store.Load(key); err == nil {
			failures = kept
		}
	}
	if len(failures) >= g.policy.Failures {
		return failures
	}
	oldest := g.now().Add(-g.policy.Window)
	return slices.DeleteFunc(slices.Clone(failures), func(t time.Time) bool { return t.Before(oldest) })
}

// begin takes one of the attempts that are left, or reports that there is none.
// Logins under way may all fail: where they are as many as are left it waits
// for one of them, so that several sessions of one identity never spend more
// attempts than one would. The error is ctx's.
func (g *guard) begin(ctx context.Context, key string) (failures int, locked bool, err error) {
	for {
		g.mu.Lock()
		n := len(g.recent(key))
		if n >= g.policy.Failures {
			g.mu.Unlock()
			return n, true, nil
		}
		if g.trying == nil {
			g.trying, g.ended = make(map[string]int), make(chan struct{})
		}
		if n+g.trying[key] < g.policy.Failures {
			g.trying[key]++
			g.mu.Unlock()
			return n, false, nil
		}
		ended := g.ended
		g.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return n, false, ctx.Err()
		}
	}
}

// end is the end of an attempt that began; failed was called before, if it did.
func (g *guard) end(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.trying[key]--; g.trying[key] == 0 {
		delete(g.trying, key)
	}
	close(g.ended)
	g.ended = make(chan struct{})
}

// failed counts one more failed login and makes it durable.
func (g *guard) failed(key string) (failures int, locked bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	failed := append(g.recent(key), g.now())
	err = g.save(key, failed)
	return len(failed), len(failed) >= g.policy.Failures, err
}

// forgive forgets the failures of a key.
func (g *guard) forgive(key string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.recent(key)) == 0 {
		return nil
	}
	return g.save(key, nil)
}

func (g *guard) save(key string, failures []time.Time) error {
	if g.local == nil {
		g.local = make(map[string][]time.Time)
	}
	if len(failures) == 0 {
		delete(g.local, key)
	} else {
		g.local[key] = failures
	}
	if g.store == nil {
		return nil
	}
	err := g.store.Save(key, failures)
	if err == nil {
		delete(g.owed, key)
		return nil
	}
	if g.owed == nil {
		g.owed = make(map[string]bool)
	}
	g.owed[key] = true // else the count would begin anew with each failure
	return err
}
