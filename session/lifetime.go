package session

import (
	"sync"
	"sync/atomic"
	"time"
)

// kin is what the sessions of one identity under one recovery have in common:
// those of a pool log in alike, and die alike.
type kin struct {
	// proven says that a login of ours brought live answers at least once.
	proven atomic.Bool
	lifetimes
}

// The bounds of what is learned.
const (
	// minLearned is the shortest lifetime that is learned, and half of it the
	// shortest time from one login to the next that is begun because of it.
	minLearned = 20 * time.Second
	minDeaths  = 2 // sessions that died alike until a lifetime is learned
	// leftAlone is which of a session's lives is left to its end, whatever was
	// learned: else what is believed could never turn out to be wrong.
	leftAlone = 8
)

// lifetimes are what sessions teach that died: how long they live after the
// login, and how long without a request.
type lifetimes struct {
	// ageTop and restTop are age.high and rest.high, for those who look without
	// the lock; 0 while nothing is known.
	ageTop, restTop atomic.Int64

	mu        sync.Mutex // guards what follows
	age, rest bound
}

// bound is what deaths that agree with each other say of a lifetime: every one
// of the sessions survived low, and was dead at high.
type bound struct {
	deaths    int
	low, high time.Duration
}

// add takes one more death; where it contradicts those before, it counts alone.
func (b *bound) add(low, high time.Duration) {
	if low, high := max(low, b.low), min(high, b.high); b.deaths > 0 && low <= high {
		*b = bound{b.deaths + 1, low, high}
		return
	}
	*b = bound{1, low, high}
}

// died takes the death of a session: its age when it was last answered alive
// and when it was found dead, and the longest time without a request that it
// survived and the one behind which it was found dead. A rest that is clearly
// longer than any before it explains a death by itself; else it is the age.
func (l *lifetimes) died(aliveAt, deadAt, rested, rest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case rest >= minLearned && rest >= rested+rested/4:
		l.rest.add(rested, rest)
		l.restTop.Store(int64(l.rest.high))
	case aliveAt >= minLearned:
		l.age.add(aliveAt, deadAt)
		l.ageTop.Store(int64(l.age.high))
	}
}

// survived forgets what a session has shown to be wrong that was answered alive
// at an age, and behind a rest.
func (l *lifetimes) survived(age, rest time.Duration) {
	beyond := func(top *atomic.Int64, d time.Duration) bool {
		high := time.Duration(top.Load())
		return high > 0 && d > high+high/4
	}
	if !beyond(&l.ageTop, age) && !beyond(&l.restTop, rest) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if beyond(&l.ageTop, age) {
		l.age = bound{}
		l.ageTop.Store(0)
	}
	if beyond(&l.restTop, rest) {
		l.rest = bound{}
		l.restTop.Store(0)
	}
}

// learned is the age that every session reached, where it is known to a quarter
// when they die, and what is known of their rests; 0 and nothing where too few
// deaths agree.
func (l *lifetimes) learned() (age time.Duration, rest bound) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.age; b.deaths >= minDeaths && b.low >= b.high/4*3 {
		age = b.low
	}
	if l.rest.deaths >= minDeaths {
		rest = l.rest
	}
	return age, rest
}

// expects is what was learned, as it holds for the present life. mu of ahead is
// held.
func (s *session) expects() (age time.Duration, rest bound) {
	if a := &s.ahead; !a.policy().Learn || a.lives%leftAlone == 0 {
		return 0, bound{}
	}
	return s.kin.learned()
}

// restLimit is the time without a request after which a session with that bound
// is recovered first: as much before its shortest deadly rest as a recovery
// begins before an end, and no less than what it survived.
func (a *ahead) restLimit(b bound) time.Duration {
	return max(b.low, b.high-a.marginOf(b.high), minLearned/2)
}

// ended takes the lesson of a session that is dead, for the others of its pool
// too.
func (s *session) ended() {
	if !s.learnDeath() || len(s.identity.pool.members) == 1 {
		return
	}
	e := s.engine
	e.mu.Lock()
	var others []*session
	for _, other := range e.sessions {
		if other.kin == s.kin && other.life != s.life {
			others = append(others, other)
		}
	}
	e.mu.Unlock()
	for _, other := range others {
		other.replan()
	}
}

func (s *session) learnDeath() bool {
	a, now := &s.ahead, s.engine.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due.Store(0)
	lived := time.Unix(0, a.lived.Load())
	if !a.policy().Learn || a.born.IsZero() || !lived.After(a.born) {
		return false
	}
	s.kin.died(lived.Sub(a.born), now.Sub(a.born), time.Duration(a.rested.Load()), now.Sub(lived))
	return true
}

// replan thinks again of a session that is alive, as far as is known.
func (s *session) replan() {
	state := s.snapshotState()
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	if state == Alive && !a.born.IsZero() && !a.given {
		s.plan()
	}
}

// sawAlive notes that a request of the generation was answered alive.
func (s *session) sawAlive(generation uint64, sent time.Time) {
	a := &s.ahead
	if !a.policy().Learn || s.generation.Load() != generation {
		return
	}
	if sent.IsZero() {
		sent = s.engine.now()
	}
	at, born := sent.UnixNano(), a.since.Load()
	last, newest := raise(&a.lived, at)
	if !newest || born == 0 || at <= born {
		return
	}
	rest := at - max(last, born)
	raise(&a.rested, rest)
	s.kin.survived(time.Duration(at-born), time.Duration(rest))
}

// raise makes a number no less than v. It returns what it was, and whether it
// was less.
func raise(n *atomic.Int64, v int64) (was int64, raised bool) {
	for {
		was = n.Load()
		if was >= v {
			return was, false
		}
		if n.CompareAndSwap(was, v) {
			return was, true
		}
	}
}
