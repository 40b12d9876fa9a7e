package session

import (
	"slices"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// watchSocket looks out for the close codes that mean a dead session, on a
// WebSocket whose handshake has just been answered.
func (x *exchange) watchSocket() {
	if x.flow.Upgraded == nil || !slices.ContainsFunc(x.rules, x.watches) {
		return
	}
	x.flow.OnClose(func(_ *flow.Flow, c *flow.Close) {
		if c.From == flow.Server {
			x.socketClosed(c)
		}
	})
}

// watches reports whether the rule waits for a close code, so that the answer
// itself says nothing: an origin that tells by a close code often accepts every
// handshake, so a 101 proves no login. What proves it is a message that comes
// before the close, or a while without one.
func (x *exchange) watches(r *rule.Rule) bool {
	return x.flow.Upgraded != nil && len(r.DeadCloseCodes) > 0
}

// settled is after which time an open WebSocket proves the login, even if the
// origin has said nothing on it.
const settled = 10 * time.Second

// socketClosed judges a close frame of the origin: the next request recovers
// before it is sent. The tunnel itself is the client's to open again.
func (x *exchange) socketClosed(c *flow.Close) {
	for i, r := range x.rules {
		if len(r.DeadCloseCodes) == 0 {
			continue
		}
		s, generation := x.sessions[i], x.stamps[i]
		dead := slices.Contains(r.DeadCloseCodes, c.Code)
		if !dead || c.Messages > 0 || c.Time.Sub(x.flow.Start) >= settled {
			s.noteAlive(generation)
		}
		if !dead {
			continue
		}
		x.engine.counts.dead.Add(1)
		x.note(r, flow.ActionDead, "close code %d: the session is dead (generation %d), the next request recovers it first", c.Code, generation)
		if !s.recovers() {
			continue
		}
		if !s.isAlive(generation) && generation > 0 && s.generation.Load() == generation {
			// A new session that never brought a word: a failed login.
			if failed := s.noteBarren(generation); failed != nil {
				x.note(r, flow.ActionNote, "%s", failed.Detail)
			}
		}
		if _, _, distrusted := s.patience(); distrusted {
			x.note(r, flow.ActionNote, "no recovery for it: new sessions did not change closes like this")
			continue
		}
		s.noteDead(generation)
	}
}
