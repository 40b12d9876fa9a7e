package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// HTTP authentication that a flow asks for (flow.Auth). What it adds to a
// request is added to what is sent alone: the flow keeps its request, so that
// whoever sends it again starts from there.

// Limits of HTTP authentication.
const (
	// maxAuthBody is how many bytes of a request's body are kept, in memory,
	// for the sending that carries the answer to a challenge.
	maxAuthBody = 1 << 20
	// maxChallengeBody is how many bytes of the answer that carries a challenge
	// are read, so that its connection can be used again.
	maxChallengeBody = 64 << 10
	// maxChallenges is how often a request is sent again for a challenge: the
	// first one, and one more when its nonce is stale.
	maxChallenges = 2
)

// logins is what a pool remembers of authentication.
type logins struct {
	mu      sync.Mutex
	nonces  map[nonceKey]*nonce // of Digest; at most maxWays
	counter atomic.Uint64       // names connections that are logging in
}

// sendAs sends a flow that asks for authentication.
func (p *Pool) sendAs(ctx context.Context, f *flow.Flow, a *flow.Auth) error {
	if f.Request.Has("Authorization") { // what the request says itself goes before
		return p.sendPlain(ctx, f)
	}
	request, body := f.Request, f.RequestBody
	defer func() { f.Request = request }()
	if a.Scheme == flow.AuthBasic {
		f.Request = with(request, "Basic "+base64.StdEncoding.EncodeToString([]byte(a.Username+":"+a.Password)))
		return p.sendPlain(ctx, f)
	}
	kept, err := keep(body)
	if err != nil {
		return bodyError(err)
	}
	if a.Scheme == flow.AuthNTLM {
		if request.Proto() != wire.HTTP2 {
			return p.sendNTLM(ctx, f, a, kept)
		}
		return p.as1(f, kept, func() error { return p.sendNTLM(ctx, f, a, kept) })
	}
	return p.sendDigest(ctx, f, a, kept)
}

// as1 has send send the flow as HTTP/1.1, whatever the origin speaks: a
// connection that carries many requests at once cannot be logged in.
func (p *Pool) as1(f *flow.Flow, kept *keptRequest, send func() error) error {
	head, notes, err := h2.RequestTo1(f.Request, kept.has)
	if err != nil {
		kept.drop()
		return convertError(err)
	}
	p.note(f, "NTLM authenticates connections of HTTP/1.1: sent as such", notes)
	if kept.has {
		framing, err := wire.RequestFraming(head)
		if err != nil {
			kept.drop()
			return convertError(err)
		}
		kept.body = h2.BodyTo1(kept.body, framing)
		if again := kept.again; again != nil {
			kept.again = func() wire.Body { return h2.BodyTo1(again(), framing) }
		}
	}
	f.Request = head
	return send()
}

// with is the request with credentials.
func with(r *wire.Request, credentials string) *wire.Request {
	out := r.Clone()
	_ = out.Set("Authorization", credentials) // base64 and quoted text hold no line end
	return out
}

// keptRequest is a request's body while it may be needed again.
type keptRequest struct {
	body  wire.Body        // of the first sending; nil: there is none, or it was sent
	again func() wire.Body // of further ones; nil: it is too large
	has   bool             // there is a body
	raw   []byte           // all of it as on the wire, where again is not nil
}

// next is the body for a sending; ok is false where it cannot be sent again.
func (k *keptRequest) next() (body wire.Body, ok bool) {
	switch {
	case !k.has:
		return nil, true
	case k.body != nil:
		body, k.body = k.body, nil
		return body, true
	case k.again != nil:
		return k.again(), true
	}
	return nil, false
}

// drop gives up a body that was not sent.
func (k *keptRequest) drop() {
	if k.body != nil {
		k.body.Close()
	}
}

// keep reads a body up to maxAuthBody.
func keep(body wire.Body) (*keptRequest, error) {
	if body == nil {
		return new(keptRequest), nil
	}
	framing := body.Framing()
	var raw []byte
	for {
		piece, err := body.Next()
		raw = append(raw, piece...)
		switch {
		case err == io.EOF:
			again := func() wire.Body { return wire.BytesBody(framing, raw) }
			return &keptRequest{body: again(), again: again, raw: raw, has: true}, nil
		case err != nil:
			body.Close()
			return nil, err
		case len(raw) > maxAuthBody:
			return &keptRequest{body: &continued{first: raw, rest: body}, has: true}, nil
		}
	}
}

// continued is a body of which the beginning was read already.
type continued struct {
	first []byte
	rest  wire.Body
}

func (c *continued) Next() ([]byte, error) {
	if c.first != nil {
		piece := c.first
		c.first = nil
		return piece, nil
	}
	return c.rest.Next()
}

func (c *continued) Framing() wire.Framing { return c.rest.Framing() }
func (c *continued) Close() error          { return c.rest.Close() }

// Ready tells whether Next returns without waiting.
func (c *continued) Ready() bool {
	w, waits := c.rest.(waiter)
	return c.first != nil || !waits || w.Ready()
}

// forChallenge is the request without its body: what is sent to be asked for
// credentials, where the body can be sent only once.
func forChallenge(r *wire.Request) *wire.Request {
	out := r.Clone()
	out.Del("Transfer-Encoding")
	out.Del("Expect")
	out.Del("Trailer")
	if out.Has("Content-Length") || r.Has("Transfer-Encoding") || r.Proto() == wire.HTTP2 {
		_ = out.Set("Content-Length", "0") // digits are safe
	}
	return out
}

// drain reads the answer that carried a challenge to its end, or gives its
// connection up.
func drain(f *flow.Flow) {
	body := f.ResponseBody
	f.Response, f.ResponseBody = nil, nil
	if body == nil {
		return
	}
	for n := 0; n <= maxChallengeBody; {
		piece, err := body.Next()
		if n += len(piece); err != nil {
			return
		}
	}
	body.Close()
}

func authError(f *flow.Flow, a *flow.Auth, err error) error {
	return &flow.Error{Reason: flow.ReasonAuth, Cause: err,
		Detail: "The " + a.Scheme + " authentication that " + address(f.Origin) + " asks for cannot be answered: " + err.Error() + ".",
		Next:   "Correct auth: in the configuration, or have the origin ask for something else."}
}

var errTwice = errors.New("the request's body is larger than 1 MiB and would have to be sent twice")
