package session

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// counters are what the engine has seen since it was made.
type counters struct {
	requests, recoveries, logins, confirms atomic.Uint64
	probes, ahead                          atomic.Uint64
	dead, contradicted, passed, resends    atomic.Uint64
	extracted, unkept                      atomic.Uint64
}

// Counts is a snapshot of what the engine has seen since it was made.
type Counts struct {
	Requests     uint64 `json:"requests"`     // requests that a rule covers
	Dead         uint64 `json:"dead"`         // answers judged dead, those never delivered included
	Contradicted uint64 `json:"contradicted"` // of these, contradicted by a confirm macro
	Passed       uint64 `json:"passed"`       // of these, delivered to the client all the same
	Resends      uint64 `json:"resends"`      // requests sent again
	Recoveries   uint64 `json:"recoveries"`   // recoveries begun
	Ahead        uint64 `json:"ahead"`        // of these, begun before the session was known dead
	Logins       uint64 `json:"logins"`       // recoveries that brought a session
	Confirms     uint64 `json:"confirms"`     // runs of confirm macros
	Probes       uint64 `json:"probes"`       // runs of probes
	Extracted    uint64 `json:"extracted"`    // tokens taken from passing answers
	Unkept       uint64 `json:"unkept"`       // times that what changed could not be kept over a restart
}

// Counts returns a snapshot.
func (e *Engine) Counts() Counts {
	c := &e.counts
	return Counts{
		Requests: c.requests.Load(), Dead: c.dead.Load(), Contradicted: c.contradicted.Load(),
		Passed: c.passed.Load(), Resends: c.resends.Load(), Recoveries: c.recoveries.Load(),
		Logins: c.logins.Load(), Confirms: c.confirms.Load(), Extracted: c.extracted.Load(),
		Probes: c.probes.Load(), Ahead: c.ahead.Load(), Unkept: c.unkept.Load(),
	}
}

// Status is what is known of one session.
type Status struct {
	Identity   string    `json:"identity"`
	Session    int       `json:"session,omitempty"`  // which of the identity's, from 1, where it has several
	Sessions   int       `json:"sessions,omitempty"` // how many it may have
	Recovery   []string  `json:"recovery"`           // macro names; "browser" is a person
	State      string    `json:"state"`
	Generation uint64    `json:"generation"`
	Logins     uint64    `json:"logins"`
	LastLogin  time.Time `json:"last_login"`
	LastError  string    `json:"last_error,omitempty"`
	// Away says that the store which a fleet shares cannot be asked: nobody
	// recovers the session until it can.
	Away bool `json:"away,omitempty"`
	// Ends is when the session ends, as far as that is known, and Why why we
	// think so.
	Ends time.Time `json:"ends,omitzero"`
	Why  string    `json:"why,omitempty"`
	// Rules and Failures are given by Overview alone: the rules that this is
	// the session of, and how many failed logins count for the lockout.
	Rules    []string `json:"rules,omitempty"`
	Failures int      `json:"failed_logins,omitempty"`
}

// Status lists the sessions that exist, by identity.
func (e *Engine) Status() []Status {
	e.mu.Lock()
	sessions := make([]*session, 0, len(e.sessions))
	for _, s := range e.sessions {
		sessions = append(sessions, s)
	}
	e.mu.Unlock()
	list := make([]Status, 0, len(sessions))
	for _, s := range sessions {
		list = append(list, s.status())
	}
	slices.SortFunc(list, func(a, b Status) int {
		return cmp.Or(strings.Compare(a.Identity, b.Identity), cmp.Compare(a.Session, b.Session), slices.Compare(a.Recovery, b.Recovery))
	})
	return list
}

func (s *session) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Identity: s.identity.name, State: s.shownState().String(), Generation: s.generation.Load(), Logins: s.logins, LastLogin: s.lastLogin, Away: s.engine.away.Load()}
	if n := len(s.identity.pool.members); n > 1 {
		st.Session, st.Sessions = s.identity.number+1, n
	}
	for _, m := range s.recovery {
		st.Recovery = append(st.Recovery, m.Name)
	}
	if s.byPerson {
		st.Recovery = append(st.Recovery, "browser")
	}
	if s.lastError != nil {
		st.LastError = s.lastError.Error()
	}
	if end := s.ahead.ending(); s.state == Alive || s.state == Unknown {
		st.Ends, st.Why = end.at, end.why
	}
	return st
}

// shownState is the state as people are told it: a session that nobody had to
// make is alive once an answer says so. mu is held.
func (s *session) shownState() State {
	if s.state == Unknown && s.lived.Load() > 0 {
		return Alive
	}
	return s.state
}

func (s *session) snapshotState() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}
