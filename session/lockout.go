package session

import (
	"context"
	"encoding/json"
	"errors"
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

// lockKey names a count of failed logins: all sessions of an identity under one
// recovery have it together.
type lockKey struct{ identity, recovery string }

// guard counts failed logins. The count is durable before anybody hears of the
// refusal, and is read anew for each login, so that a person can unlock.
type guard struct {
	policy Lockout
	keeper Keeper
	now    func() time.Time

	mu    sync.Mutex
	local map[lockKey][]time.Time // where there is no keeper, or it failed
	owed  map[lockKey]bool        // keys whose last change the keeper did not take
	// trying are logins under way, and ended is closed when one of them is over.
	trying map[lockKey]int
	ended  chan struct{}
}

// follow has another configuration's limits hold.
func (g *guard) follow(l Lockout) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policy = l.withDefaults()
}

// most is after how many failures nobody tries again.
func (g *guard) most() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.policy.Failures
}

// recent returns the failures within the window, and the version that they are
// kept with. A full count does not age: it stays until a person unlocks it.
func (g *guard) recent(key lockKey) (failures []time.Time, version uint64) {
	failures = g.local[key]
	if g.keeper != nil {
		var kept []time.Time
		var err error
		if kept, version, err = g.load(key); err == nil && !g.owed[key] {
			failures = kept
		}
	}
	if len(failures) >= g.policy.Failures {
		return failures, version
	}
	oldest := g.now().Add(-g.policy.Window)
	return slices.DeleteFunc(slices.Clone(failures), func(t time.Time) bool { return t.Before(oldest) }), version
}

func (g *guard) load(key lockKey) (failures []time.Time, version uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	rows, err := g.keeper.Load(ctx, KeptLockout, OwnerOf(key.identity, 0))
	for _, r := range rows {
		if r.Name != rowName(key.recovery) {
			continue
		}
		if version = r.Version; len(r.Value) > 0 {
			err = json.Unmarshal(r.Value, &failures)
		}
	}
	return failures, version, err
}

// count is how many failures count now, and whether they are too many.
func (g *guard) count(key lockKey) (failures int, locked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	recent, _ := g.recent(key)
	return len(recent), len(recent) >= g.policy.Failures
}

// begin takes one of the attempts that are left, or reports that there is none.
// Logins under way may all fail: where they are as many as are left it waits
// for one of them, so that several sessions of one identity never spend more
// attempts than one would. The error is ctx's.
func (g *guard) begin(ctx context.Context, key lockKey) (failures int, locked bool, err error) {
	for {
		g.mu.Lock()
		recent, _ := g.recent(key)
		n := len(recent)
		if n >= g.policy.Failures {
			g.mu.Unlock()
			return n, true, nil
		}
		if g.trying == nil {
			g.trying, g.ended = make(map[lockKey]int), make(chan struct{})
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
func (g *guard) end(key lockKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.trying[key]--; g.trying[key] == 0 {
		delete(g.trying, key)
	}
	close(g.ended)
	g.ended = make(chan struct{})
}

// failed counts one more failed login and makes it durable.
func (g *guard) failed(key lockKey) (failures int, locked bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range maxCounts {
		recent, version := g.recent(key)
		failed := append(recent, g.now())
		failures, locked = len(failed), len(failed) >= g.policy.Failures
		if err = g.save(key, failed, version); !errors.Is(err, ErrOutdated) { // else somebody else has counted meanwhile
			break
		}
	}
	return failures, locked, err
}

// maxCounts bounds how often a count is tried that others change meanwhile.
const maxCounts = 8

// forgive forgets the failures of a key.
func (g *guard) forgive(key lockKey) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	recent, version := g.recent(key)
	if len(recent) == 0 {
		return nil
	}
	err := g.save(key, nil, version)
	if errors.Is(err, ErrOutdated) { // a login of somebody else failed at this moment, or a person was first
		return nil
	}
	return err
}

// save replaces the count of a version; an empty one is forgotten.
func (g *guard) save(key lockKey, failures []time.Time, version uint64) error {
	if g.local == nil {
		g.local = make(map[lockKey][]time.Time)
	}
	if len(failures) == 0 {
		delete(g.local, key)
	} else {
		g.local[key] = failures
	}
	if g.keeper == nil {
		return nil
	}
	var value []byte
	if len(failures) > 0 {
		value = encode(failures)
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	err := g.keeper.Save(ctx, Row{Kind: KeptLockout, Owner: OwnerOf(key.identity, 0), Name: rowName(key.recovery),
		Version: version + 1, Must: true, Value: value})
	if err == nil {
		delete(g.owed, key)
		return nil
	}
	if errors.Is(err, ErrOutdated) {
		return err
	}
	if g.owed == nil {
		g.owed = make(map[lockKey]bool)
	}
	g.owed[key] = true // else the count would begin anew with each failure
	return err
}
