package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	ntlmssp "github.com/Azure/go-ntlmssp"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// sendNTLM sends a flow on a connection that is logged in as its user
// ([MS-NTHT] §3). Such a connection has a key of its own: flows of that
// identity and that user get it, and nobody else ever does.
func (p *Pool) sendNTLM(ctx context.Context, f *flow.Flow, a *flow.Auth, kept *keptRequest) error {
	k := p.keyOf(f)
	k.tunnel = k.tunnel || !f.Origin.TLS && p.routes.to(f.Origin, f.Identity).proxy.speaksHTTP() // a proxy would share it
	k.identity, k.pinned, k.login = f.Identity, true, "ntlm\x00"+a.Username+"\x00"+a.Password
	request := f.Request
	if c := p.take(k, true, ownerOf(f)); c != nil && (kept.again != nil || !kept.has) {
		f.RequestBody, _ = kept.next()
		f.Request = request
		err := p.sendOn(ctx, c, f)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err == nil && !offersNTLM(f.Response) {
			return nil
		}
		if err != nil && !repeatable(request) { // it may have been done
			return err
		}
		if err == nil { // the login of the connection is over
			drain(f)
		}
	} else if c != nil {
		c.discard() // a body that cannot be sent twice goes on a connection that has just logged in
	}
	return p.logIn(ctx, f, a, k, request, kept)
}

// logIn makes a connection, logs it in and sends the request on it.
func (p *Pool) logIn(ctx context.Context, f *flow.Flow, a *flow.Auth, k key, request *wire.Request, kept *keptRequest) error {
	own := k
	own.login = "under way " + strconv.FormatUint(p.logins.counter.Add(1), 10)
	hello, err := ntlmssp.NewNegotiateMessage("", "")
	if err != nil {
		kept.drop()
		return authError(f, a, err)
	}
	c, err := p.dial(ctx, own, only1())
	if err != nil {
		kept.drop()
		return err
	}
	f.Request, f.RequestBody = with(forChallenge(request), "NTLM "+base64.StdEncoding.EncodeToString(hello)), nil
	if err := p.sendOn(ctx, c, f); err != nil {
		kept.drop()
		return err
	}
	if f.Response.Status() != 401 && !kept.has { // no login is wanted here
		return nil
	}
	challenge, asked := ntlmChallenge(f.Response)
	if f.Response.Status() == 401 && !asked {
		kept.drop()
		return nil // it asks for another scheme
	}
	drain(f)
	answer := ""
	if asked {
		message, err := ntlmssp.NewAuthenticateMessage(challenge, a.Username, a.Password, nil)
		if err != nil {
			kept.drop()
			return authError(f, a, err)
		}
		answer = "NTLM " + base64.StdEncoding.EncodeToString(message)
	}
	if c = p.take(own, false, ownerOf(f)); c == nil {
		kept.drop()
		return authError(f, a, errors.New("the origin ended the connection in the middle of the login"))
	}
	body, ok := kept.next()
	if !ok {
		c.discard()
		return authError(f, a, errTwice)
	}
	f.Request, f.RequestBody = request, body
	if answer != "" {
		f.Request = with(request, answer)
	}
	if answer != "" {
		c.then = &k
	}
	if err := p.sendOn(ctx, c, f); err != nil {
		return err
	}
	if answer == "" || f.Response.Status() == 401 {
		return nil // the connection rests where nobody looks for it, and ends
	}
	p.tell(f, "logged in by NTLM: the connection is kept for this identity alone")
	return nil
}

// sendOn sends the flow on a connection.
func (p *Pool) sendOn(ctx context.Context, c *conn, f *flow.Flow) error {
	out, err := p.gather(f, c)
	defer out.free()
	if err != nil {
		c.discard()
		return bodyError(err)
	}
	c.begin(ctx)
	if err = c.send(f, &out); err != nil {
		err = c.answerError(ctx, err)
		c.discard()
	}
	return err
}

// ntlmChallenge is the message of an answer that carries one.
func ntlmChallenge(r *wire.Response) (message []byte, ok bool) {
	for i := range r.NumFields() {
		name, value := r.Field(i)
		if !strings.EqualFold(string(name), "WWW-Authenticate") {
			continue
		}
		scheme, text, more := strings.Cut(strings.TrimSpace(string(value)), " ")
		if more && strings.EqualFold(scheme, "NTLM") {
			message, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
			return message, err == nil && len(message) > 0
		}
	}
	return nil, false
}

// offersNTLM tells whether an answer asks for a login of the connection.
func offersNTLM(r *wire.Response) bool { return r.Status() == 401 && asksForConnectionLogin(r) }
