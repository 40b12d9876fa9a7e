package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
)

// A Fleet is several engines, nodes, that have one Keeper together. One of them
// at a time recovers an owner's sessions, and the others hear of it. Any
// goroutine may call its methods.
type Fleet interface {
	// Acquire takes the lease of an owner for a time. It does not wait: where
	// another node has it, that is held, and no error. The fence rises with
	// each acquisition.
	Acquire(ctx context.Context, owner string, length time.Duration) (fence uint64, held *Holder, err error)
	// Renew has the lease last for a time from now, and Release gives it back,
	// with an outcome for those who wait; ErrOutdated: another node has
	// acquired it since.
	Renew(ctx context.Context, owner string, fence uint64, length time.Duration) error
	Release(ctx context.Context, owner string, fence uint64, outcome []byte) error
	// Outcome is what the last node said that gave the lease back, and its
	// fence; nothing while some node has it.
	Outcome(ctx context.Context, owner string) (outcome []byte, fence uint64, err error)
	// Watch calls changed for each owner whose rows are newer than it was
	// called for, again after an error, until ctx ends; and away and back when
	// the keeper cannot be asked, and can again.
	Watch(ctx context.Context, changed func(ctx context.Context, owner string) error, away func(error), back func())
}

// Holder says which node has a lease, and for how long if it is not renewed.
type Holder struct {
	Node  string
	Fence uint64
	For   time.Duration
}

// Bounds of a fleet.
const (
	// leaseLength is how long after its last word a node that recovers a session
	// is waited for. It is long beside a restart of the database.
	leaseLength = 10 * time.Second
	leaseBeat   = leaseLength / 4
	// lookAgain is how long a node waits for a hint before it asks.
	lookAgain = time.Second
	// afterAway is how long after the keeper was away the nodes go before each
	// other that have something to say.
	afterAway = 2 * time.Second
	askWait   = 5 * time.Second // for one question to the keeper
)

// lease is this node's, for the recoveries of an identity that are under way.
type lease struct {
	fence uint64
	began time.Time

	mu    sync.Mutex // guards what follows
	until time.Time  // by this node's clock, reckoned from before it asked
	lost  bool
}

// valid reports whether no other node can have the lease by what is known.
func (l *lease) valid(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.lost && now.Before(l.until)
}

func (l *lease) renewed(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = until
}

func (l *lease) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *lease) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = true
}

// turns is what this node knows of the lease of an identity. Its recoveries share
// it, so that they are as much at a time as without a fleet; that is all sessions
// of a pool, whose failed logins are one count.
type turns struct {
	lease atomic.Pointer[lease] // nil: this node has none

	mu    sync.Mutex // guards what follows, and is held while the keeper is asked
	users int
	stop  context.CancelFunc // ends the heart

	hintMu  sync.Mutex
	changed chan struct{} // closed when rows were read; nil: nobody waits
}

// hint is closed when the next rows have been read.
func (t *turns) hint() <-chan struct{} {
	t.hintMu.Lock()
	defer t.hintMu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

func (t *turns) tell() {
	t.hintMu.Lock()
	defer t.hintMu.Unlock()
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// leaseKey names the lease of an identity, all sessions of it.
func (p *pool) leaseKey() string { return "sessions of " + OwnerOf(p.members[0].name, 0) }

// errFenced says that another node has taken over.
var errFenced = errors.New("another node of the fleet has taken the recovery over, since this one said nothing for too long")

// inFleet is login for a node among others: it waits for its turn, or for what
// the node whose turn it is makes.
func (s *session) inFleet(r *recovery) *flow.Error {
	ctx, cancel := context.WithTimeout(s.engine.ctx, s.wait()+s.slack())
	defer cancel()
	for {
		l, failed := s.elect(ctx, r)
		if l == nil {
			return failed
		}
		failed = s.login(r)
		if failed == nil {
			failed = s.keepLogin(r, l)
		}
		lost := failed != nil && !l.valid(time.Now())
		s.giveUp(l, failed)
		if !lost || s.engine.ctx.Err() != nil {
			return failed
		}
	}
}

// elect returns this node's lease, or nil when another node has recovered the
// session, or with the reason why it cannot be.
func (s *session) elect(ctx context.Context, r *recovery) (*lease, *flow.Error) {
	e, n := s.engine, s.identity
	var seen *Holder // who recovered it when this node came
	away := false
	for {
		hint := n.pool.turns.hint()
		err := n.refresh(ctx)
		if err == nil && s.generation.Load() > r.stale {
			r.taken = true
			return nil, nil
		}
		if err == nil && away { // who had a session that could not be kept goes first
			if err = e.pause(ctx, afterAway); err == nil {
				away = false
				continue
			}
		}
		var held *Holder
		if err == nil && seen != nil {
			if failed := s.shared(ctx, seen); failed != nil {
				return nil, failed
			}
		}
		if err == nil {
			var l *lease
			l, held, err = n.take(ctx)
			if l != nil {
				if err = n.refresh(ctx); err == nil && s.generation.Load() <= r.stale {
					return l, nil
				}
				s.giveUp(l, nil)
				continue
			}
		}
		wait := lookAgain
		if held != nil {
			seen, wait = held, min(max(held.For, lookAgain/10), lookAgain)
		}
		away = away || err != nil
		t := time.NewTimer(wait)
		select {
		case <-hint:
			t.Stop()
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, s.notElected(held, err)
		}
	}
}

func (s *session) notElected(held *Holder, err error) *flow.Error {
	switch {
	case s.engine.ctx.Err() != nil:
		return closing()
	case held != nil:
		return &flow.Error{Status: 504, Reason: flow.ReasonTimeout,
			Detail: fmt.Sprintf("node %s of the fleet did not recover the session within %s", shown(held.Node), s.wait()),
			Next:   "see the trace of its macro's requests, or raise limits.wait"}
	}
	return storeAway(err)
}

// storeAway refuses what only one node may do while none can be chosen: two
// logins at once could end each other's session, and a refresh token that is
// sent twice ends all.
func storeAway(err error) *flow.Error {
	return &flow.Error{Status: 503, Reason: flow.ReasonStore, Cause: err,
		Detail: "the session is to be recovered, and the store that says which node does it cannot be asked",
		Next:   "see whether the database answers; it goes on by itself when it does"}
}

// shared is how the recovery of another node failed that this one waited for;
// nil as long as that is not known.
func (s *session) shared(ctx context.Context, seen *Holder) *flow.Error {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	raw, fence, err := s.engine.config.Fleet.Outcome(ctx, s.identity.pool.leaseKey())
	if err != nil || fence != seen.Fence || len(raw) == 0 {
		return nil
	}
	var o outcome
	if json.Unmarshal(raw, &o) != nil || o.Owner != s.identity.kept.owner || o.Recovery != s.identity.kept.of(s.name).row || o.Reason == "" {
		return nil
	}
	return &flow.Error{Status: o.Status, Reason: o.Reason, Detail: o.Detail, Next: o.Next}
}

// outcome is how a recovery failed, for the other nodes.
type outcome struct {
	Owner, Recovery      string
	Status               int
	Reason, Detail, Next string
}

// take joins this node's lease, unless others have waited for it long enough, or
// acquires it.
func (n *identity) take(ctx context.Context) (*lease, *Holder, error) {
	e, t := n.pool.engine, n.pool.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lease.Load()
	if l != nil {
		if now := time.Now(); !l.valid(now) || now.Sub(l.began) > leaseLength {
			return nil, &Holder{Fence: l.fence}, nil // until its users have left
		}
	} else {
		l = &lease{began: time.Now()}
		l.until = l.began.Add(leaseLength)
		asking, cancel := context.WithTimeout(ctx, askWait)
		defer cancel()
		fence, held, err := e.config.Fleet.Acquire(asking, n.pool.leaseKey(), leaseLength)
		if err != nil || held != nil {
			return nil, held, err
		}
		l.fence = fence
		beating, stop := context.WithCancel(e.ctx)
		if !e.spawn(func() { n.pool.beat(beating, l) }) {
			stop()
			return nil, nil, context.Canceled
		}
		t.stop = stop
		t.lease.Store(l)
	}
	t.users++
	n.kept.mu.Lock()
	n.kept.fence = max(n.kept.fence, l.fence)
	n.kept.mu.Unlock()
	return l, nil, nil
}

// beat renews the lease again and again.
func (p *pool) beat(ctx context.Context, l *lease) {
	tick := time.NewTicker(leaseBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		asking, cancel := context.WithTimeout(ctx, askWait)
		err := p.engine.config.Fleet.Renew(asking, p.leaseKey(), l.fence, leaseLength)
		cancel()
		switch {
		case err == nil:
			l.renewed(began.Add(leaseLength))
		case errors.Is(err, ErrOutdated):
			l.lose()
			return
		}
	}
}

// giveUp ends one use of the lease. The last one gives it back.
func (s *session) giveUp(l *lease, failed *flow.Error) {
	e, n := s.engine, s.identity
	t := n.pool.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users--; t.users > 0 {
		return
	}
	t.stop()
	t.lease.Store(nil)
	if l.isLost() {
		return
	}
	var said []byte
	if failed != nil && failed.Reason != flow.ReasonClosing && failed.Reason != flow.ReasonStore {
		said = encode(outcome{Owner: n.kept.owner, Recovery: n.kept.of(s.name).row, Status: failed.Status, Reason: failed.Reason, Detail: failed.Detail, Next: failed.Next})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), askWait)
	defer cancel()
	_ = e.config.Fleet.Release(ctx, n.pool.leaseKey(), l.fence, said) // else it ends by itself
}

// underLease runs a change of tokens that a recovery brought, unless another
// node has taken over: what that one brought is newer.
func (n *identity) underLease(change func()) error {
	if n.pool.engine.config.Fleet == nil {
		change()
		return nil
	}
	l := n.pool.turns.lease.Load()
	k := &n.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	if l == nil || k.fence != l.fence {
		return errFenced
	}
	change()
	return nil
}

// fenced keeps the requests of a recovery from being sent when another node may
// be sending its own.
func (n *identity) fenced(next flow.Handler) flow.Handler {
	if n.pool.engine.config.Fleet == nil {
		return next
	}
	return func(ctx context.Context, f *flow.Flow) error {
		if l := n.pool.turns.lease.Load(); l == nil || !l.valid(time.Now()) {
			return &flow.Error{Status: 503, Reason: flow.ReasonStore, Cause: errFenced, Detail: errFenced.Error(),
				Next: "see whether the database answers; it goes on by itself when it does"}
		}
		return next(ctx, f)
	}
}

// keepLogin makes a session that this node has brought known to the others,
// unless one of them was first.
func (s *session) keepLogin(r *recovery, l *lease) *flow.Error {
	n := s.identity
	k := &n.kept
	n.touch()
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	if k.fence == l.fence {
		err = n.save() // it has warned
	}
	if k.fence == l.fence && !errors.Is(err, ErrOutdated) {
		return nil // where it cannot be kept it is of use, and tried again
	}
	l.lose()
	if r.taken = s.generation.Load() > r.stale; r.taken {
		return nil
	}
	return storeAway(errFenced)
}

// watch reads what other nodes bring.
func (e *Engine) watch() {
	e.config.Fleet.Watch(e.ctx, func(ctx context.Context, owner string) error {
		for _, n := range e.newest.Load().everybody() {
			if n.kept.owner == owner {
				return n.refresh(ctx)
			}
		}
		return nil
	}, func(err error) {
		e.away.Store(true)
		e.warn("the store cannot be asked: traffic goes on with the sessions that are known, what changes is kept in memory, and no session is recovered until it is back: %v", err)
	}, func() {
		e.away.Store(false)
		e.warn("the store answers again")
		for _, n := range e.newest.Load().everybody() {
			n.settleAgain()
		}
	})
}
