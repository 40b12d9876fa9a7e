package session

import (
	"io"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// passAlive notes a live answer and takes the tokens it brings: from its head
// now, from its body when the last piece of it passes, always before the
// client can have seen the whole answer and used them.
func (x *exchange) passAlive(v verdict) {
	f := x.flow
	x.watchSocket()
	for i, r := range x.rules {
		x.rememberShape(i)
		if r.Dead != nil && f.Response != nil && !x.watches(r) && x.words[i] != foreign {
			s := x.sessions[i]
			s.noteAlive(x.stamps[i])
			s.sawAlive(x.stamps[i], f.Sent)
			s.proofs.saw(f, x.stamps[i], x.engine.config.Now)
			if x.words[i] == unheard {
				s.clear(x.path)
			}
			if x.fresh == s && x.resends > 0 {
				s.helped()
			}
		}
	}
	x.takeCookies()
	if f.Response == nil || !x.engine.Rules().AutoExtract {
		return
	}
	x.extract(false, nil)
	if !x.wantsBody() {
		return
	}
	if f.ResponseBody == nil { // a script may look at the head alone
		x.extract(true, nil)
		return
	}
	if v.held != nil {
		x.extract(true, v.held.decoded(f.Response, x.engine.limits.JudgedBody))
		return
	}
	if neverHeld(f.Response) == "" {
		b := &watchedBody{Body: f.ResponseBody, exchange: x, limit: x.engine.limits.JudgedBody,
			share: share{of: &x.engine.memory, free: freeBytes}}
		f.OnEnd(func(*flow.Flow) { b.share.end() })
		f.ResponseBody = b
	}
}

// wantsBody reports whether a rule takes a token out of bodies.
func (x *exchange) wantsBody() bool {
	for _, r := range x.rules {
		for i := range r.Updates {
			if s := r.Updates[i].Source; s != nil && s.NeedsBody() {
				return true
			}
		}
	}
	return false
}

// extract takes the tokens of sources in the head, or of those in the body.
func (x *exchange) extract(fromBody bool, body []byte) {
	f := x.flow
	for i, r := range x.rules {
		if x.words[i] == foreign {
			continue // nor does it bring anything to our session
		}
		values := x.found(r, fromBody, body)
		if len(values) == 0 {
			continue
		}
		if s := x.sessions[i]; f.Stamp.Sequence < s.born.Load() {
			x.note(r, flow.ActionKeep, "tokens in this answer belong to an old session and were left")
			continue
		}
		taken := x.identity.learn(values, f.Stamp.Sequence, x.engine.next)
		x.sessions[i].learnEnds(values, newBringer(f, f.Response, body, x.engine.now()))
		if len(taken) > 0 {
			x.engine.counts.extracted.Add(uint64(len(taken)))
			x.note(r, flow.ActionExtract, "token %s", strings.Join(taken, ", "))
		}
	}
}

func (x *exchange) found(r *rule.Rule, fromBody bool, body []byte) map[string]string {
	var values map[string]string
	for i := range r.Updates {
		u := &r.Updates[i]
		if u.Source == nil || u.Source.NeedsBody() != fromBody || contains(x.left, u.Token) ||
			u.Source.FromRequest() && x.flow.Keeps(u.Source.Place()) {
			continue // what answers a value of the client's own is no token of ours
		}
		v, ok := "", false
		if u.Source.Script == nil {
			v, ok = u.Source.Extract(x.flow.Request, x.flow.Response, body)
		} else {
			v, ok = x.foundByScript(r, u, body)
		}
		if ok {
			if values == nil {
				values = make(map[string]string)
			}
			values[u.Token] = v
		}
	}
	return values
}

// watchedBody keeps a copy of a body while it passes, up to a limit, and has
// the tokens taken when it ends.
type watchedBody struct {
	wire.Body
	exchange *exchange
	limit    int64
	raw      []byte
	share    share // of the engine's memory, for raw
	over     bool
}

// Next looks for the end of the body as far as that takes no waiting, so that
// the tokens are taken before the last piece leaves.
func (b *watchedBody) Next() ([]byte, error) {
	piece, err := b.Body.Next()
	if b.over {
		return piece, err
	}
	from := len(b.raw)
	for b.add(piece); err == nil && !b.over && ready(b.Body); b.add(piece) {
		piece, err = b.Body.Next()
	}
	if b.over {
		raw := b.raw[from:]
		b.raw = nil
		return raw, err
	}
	if err == io.EOF {
		b.over = true
		x := b.exchange
		x.extract(true, wire.Text(&x.flow.Response.Head, b.Framing().Kind, b.raw, int(b.limit)))
		x.identity.settle()
	}
	return b.raw[from:], err
}

// add keeps a piece; the one that goes beyond the limit is the last that is
// kept.
func (b *watchedBody) add(piece []byte) {
	b.raw = append(b.raw, piece...)
	why := "the body is larger than limits.judged_body"
	if int64(len(b.raw)) <= b.limit {
		if b.share.covers(int64(len(b.raw))) {
			return
		}
		why = "all bodies together are larger than limits.memory"
	}
	b.over = true
	b.exchange.note(b.exchange.rules[0], flow.ActionNote, "%s: no token was looked for in it", why)
}

// Ready reports whether Next returns without waiting for the origin.
func (b *watchedBody) Ready() bool { return ready(b.Body) }
