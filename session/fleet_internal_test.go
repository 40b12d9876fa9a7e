package session

import (
	"context"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// aSession is a session of generation 7 for which a recovery is under way that
// the test ends itself.
func aSession(t *testing.T) (*session, *recovery) {
	t.Helper()
	e, err := New(Config{Send: func(context.Context, *flow.Flow) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	n := e.everybody()[0]
	s := &session{engine: e, identity: n, byPerson: true, life: &life{kin: new(kin)}}
	s.ahead.manner.Store(&manner{policy: rule.Proactive{Off: true}})
	s.generation.Store(7)
	s.loginFence = 7
	s.state = Recovering
	s.running = &recovery{done: make(chan struct{}), stale: 7}
	return s, s.running
}

// Another node's session is taken over while this one's recovery waits for it.
// Whoever reads state and generation then, and acts when the recovery has ended,
// does not have the new session recovered.
func TestASessionThatIsTakenOverIsAliveAtOnce(t *testing.T) {
	s, r := aSession(t)
	s.takeOver(keptSession{Login: 8, Generation: 8}, 0)
	generation, dead := s.knownDead()
	if generation != 8 || dead {
		t.Errorf("generation %d, dead: %t", generation, dead)
	}
	r.taken = true
	s.finish(r, nil)
	if generation, dead = s.knownDead(); generation != 8 || dead {
		t.Errorf("at the end: generation %d, dead: %t", generation, dead)
	}
}

// The session that is taken over dies before the recovery that waited for it has
// ended. That end does not make it alive, and who waited for another one gets it.
func TestASessionThatIsTakenOverDiesAtOnce(t *testing.T) {
	s, r := aSession(t)
	s.takeOver(keptSession{Login: 8, Generation: 8}, 0)
	s.noteDead(8)
	joined, started, failed := s.join(8, false)
	if joined != r || started || failed != nil {
		t.Fatalf("joined %p, which is not %p; started: %t, %v", joined, r, started, failed)
	}
	r.taken = true
	s.finish(r, nil)
	if generation, dead := s.knownDead(); generation != 8 || !dead {
		t.Errorf("generation %d, dead: %t", generation, dead)
	}
}

// What became of the own recovery does not matter to a session that is newer.
func TestAFailureBesideANewerSessionIsNone(t *testing.T) {
	s, r := aSession(t)
	s.takeOver(keptSession{Login: 8, Generation: 8}, 0)
	s.finish(r, &flow.Error{Reason: flow.ReasonRecovery})
	if generation, dead := s.knownDead(); generation != 8 || dead || r.err != nil {
		t.Errorf("generation %d, dead: %t, %v", generation, dead, r.err)
	}
}
