package rule

import (
	"fmt"
	"time"
)

// Proactive says when a session is recovered before it ends. A rule without
// one has [DefaultProactive].
type Proactive struct {
	Off bool
	// Skew is how long before the end a recovery begins; 0 is 30 s, or a
	// quarter of the session's life where that is less.
	Skew time.Duration
	// Jitter is by how much earlier than that at most, in percent of it.
	Jitter int
	// Lifetime is how long a session lives after its login, whatever its
	// tokens say; 0: not known.
	Lifetime time.Duration
	Idle     time.Duration // how long a session lives without a request; 0: not known
	Learn    bool          // both are learned from sessions that died
}

// DefaultProactive is what holds where a rule says nothing.
func DefaultProactive() Proactive { return Proactive{Jitter: 10, Learn: true} }

// compile says what is wrong with it.
func (p *Proactive) compile() error {
	for _, t := range []struct {
		key  string
		time time.Duration
	}{{"skew", p.Skew}, {"lifetime", p.Lifetime}, {"idle", p.Idle}} {
		if t.time < 0 {
			return &Error{Key: t.key, Problem: fmt.Sprintf("%s is no time", t.time), Next: "write a time such as 30s"}
		}
	}
	if p.Jitter < 0 || p.Jitter > 100 {
		return &Error{Key: "jitter", Problem: fmt.Sprintf("%d%% is no part of skew", p.Jitter), Next: "write 0% to 100%"}
	}
	return nil
}

// With is what holds for a session that two rules share: the more careful of
// both.
func (p Proactive) With(q Proactive) Proactive {
	shorter := func(a, b time.Duration) time.Duration {
		if a == 0 || b == 0 {
			return max(a, b)
		}
		return min(a, b)
	}
	return Proactive{Off: p.Off || q.Off, Skew: max(p.Skew, q.Skew), Jitter: max(p.Jitter, q.Jitter),
		Lifetime: shorter(p.Lifetime, q.Lifetime), Learn: p.Learn && q.Learn, Idle: shorter(p.Idle, q.Idle)}
}

// warning says why proactive does nothing; "" when it does.
func (p *Proactive) warning(r *Rule) string {
	if !p.Off && len(r.Recovery) == 0 {
		return "cannot recover its session before it ends: it has no reauth_macro"
	}
	return ""
}
