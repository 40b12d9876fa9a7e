package session

import (
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
)

// ChangeKind says what happened to a session.
type ChangeKind uint8

// What can happen to a session.
const (
	Began     ChangeKind = iota // a recovery, in the background too
	Ended                       // a recovery
	Died                        // an answer was judged dead
	Lived                       // the first answer of a generation was judged alive
	Handed                      // a person unlocked it, or set or dropped what it consists of
	kindCount                   // how many there are
)

// String is the word that the events of the API have for it.
func (k ChangeKind) String() string {
	return [kindCount]string{"recovering", "recovered", "died", "alive", "changed"}[k]
}

// Change is what happened to one session.
type Change struct {
	Kind       ChangeKind
	Identity   string
	Session    int      // which of the identity's, from 1; 0 where it has one
	Recovery   []string // macro names; "browser" is a person
	State      string   // now
	Generation uint64
	Took       time.Duration // of Ended: the recovery
	Err        *flow.Error   // of Ended: why it brought no session
}

// told hands a change on. mu is held.
func (s *session) told(kind ChangeKind, err *flow.Error, took time.Duration) {
	if s.engine.config.Changed == nil {
		return
	}
	c := Change{Kind: kind, Identity: s.identity.name, Recovery: namesOf(s.name), State: s.shownState().String(),
		Generation: s.generation.Load(), Took: took, Err: err}
	if len(s.identity.pool.members) > 1 {
		c.Session = s.identity.number + 1
	}
	s.engine.config.Changed(c)
}

// namesOf takes the name of a recovery apart.
func namesOf(recovery string) []string {
	if recovery == "" {
		return []string{}
	}
	names := strings.Split(recovery, ",")
	for i, name := range names {
		if name == byBrowser {
			names[i] = "browser"
		}
	}
	return names
}
