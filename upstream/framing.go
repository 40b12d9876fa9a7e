package upstream

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// leftover is what came on a connection used before and is no answer: bytes
// behind the answer to an earlier request.
type leftover struct{ error }

func (l leftover) Unwrap() error { return l.error }

// readOne reads the head of an answer. It reports headless when there is none
// and the policy has the bytes pass as they are: HTTP/0.9, or what a tester's
// origin makes of a request.
func (x *exchange) readOne(f *flow.Flow) (headless bool, err error) {
	c, policy := x.c, x.c.pool.cfg.Policy
	passes := policy != wire.Strict && !c.used && f.Tool != flow.ToolMacro &&
		f.Received != nil && f.Received.Proto() == wire.HTTP1
	if passes && c.noStatusLine() {
		x.bare = true
		return true, nil
	}
	err = c.br.ReadResponse(&x.response)
	if err == nil || !errors.As(err, new(*wire.ParseError)) {
		return false, err
	}
	switch {
	case passes && policy == wire.Raw:
		x.bare = true
		return true, nil
	case c.used:
		return false, leftover{err}
	}
	return false, err
}

// noStatusLine tells whether what comes does not begin as a status line does.
func (c *conn) noStatusLine() bool {
	const begin = "HTTP/"
	for n := 1; n <= len(begin); n++ {
		first, err := c.br.Peek(n)
		if err != nil {
			return false // reading on says why
		}
		if !bytes.EqualFold(first, []byte(begin[:n])) {
			return true
		}
	}
	return false
}

// framed decides where the answer ends, by Config.Policy, and notes what is odd
// about that.
func (x *exchange) framed(f *flow.Flow) (wire.Framing, error) {
	if x.bare {
		x.response = wire.Response{}
		x.note(f, "answer: no status line; passed as bytes until the connection ends")
		return wire.Framing{Kind: wire.UntilClose, Ambiguous: true}, nil
	}
	framing, err := x.c.pool.cfg.Policy.Response(&x.response, f.Request.Method())
	x.noteFraming(f, "answer", framing)
	return framing, err
}

// frameInterim looks at a 1xx answer, whose head is all of it.
func (x *exchange) frameInterim(f *flow.Flow) {
	framing, err := x.c.pool.cfg.Policy.Response(&x.response, f.Request.Method())
	x.noteFraming(f, "interim answer", framing)
	x.odd = x.odd || err != nil || framing.Ambiguous
}

func (x *exchange) noteFraming(f *flow.Flow, message string, framing wire.Framing) {
	if framing.Notes == 0 {
		return
	}
	detail := message + ": " + framing.Notes.String()
	if framing.Ambiguous {
		detail += "; ambiguous, so no connection it was on is used again"
	}
	x.note(f, detail)
}

func (x *exchange) note(f *flow.Flow, detail string) {
	f.Trace.Add(flow.Event{At: x.c.pool.cfg.Clock().Sub(f.Start), Actor: "wire", Action: flow.ActionNote, Detail: detail})
}

// endRequest tells the origin that nothing more comes, where only the end of
// the connection says so.
func (c *conn) endRequest(body wire.Body) {
	if body == nil || body.Framing().Kind != wire.UntilClose {
		return
	}
	if half, ok := c.rw.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// An origin that ignores the length of a request takes its content for the
// beginning of the next one, and nothing of that shows on the wire. So a
// connection that has carried content belongs to the client's connection that
// the content came by: what such an origin mixes up is then one client's.
func ownerOf(f *flow.Flow) uint64 { return f.Client + 1 }

// pick takes off the lists the connection used last that the owner may use. If
// there are only those of others, the longest unused of them makes room for the
// new one, unless its owner was there just now. p.mu is held.
func (p *Pool) pick(k key, owner uint64) (c, unfit *conn) {
	s := p.shelves[k]
	if s == nil {
		return nil, nil
	}
	for i := len(s.idle) - 1; i >= 0; i-- {
		if c := s.idle[i]; c.owner == 0 || c.owner == owner {
			return p.pull(s, i), nil
		}
	}
	if len(s.idle) > 0 && time.Duration(p.ticks.Load()-s.idle[0].rested)*p.tick > restChecked {
		return nil, p.pull(s, 0)
	}
	return nil, nil
}

// pull takes one connection off the lists. p.mu is held.
func (p *Pool) pull(s *shelf, i int) *conn {
	c := s.idle[i]
	s.idle = slices.Delete(s.idle, i, i+1)
	p.lru.remove(c)
	return c
}
