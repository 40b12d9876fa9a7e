package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// What the first bytes in a tunnel begin.
const (
	speaksHTTP = iota
	speaksTLS
	speaksOther // no HTTP: passed on as bytes
	speaksLater // nothing yet: perhaps the origin is to speak first
	speaksNone  // the connection has ended
	undecided
)

// maxGuess bounds the bytes that are looked at to tell what they begin.
const maxGuess = 4 << 10

// begin readies the connection for what comes through a tunnel to the origin,
// and tells whether requests can be read from it. Whatever else comes is dealt
// with before it returns.
func (c *client) begin(origin flow.Origin) bool {
	if !c.unaware || c.entry.Kind != Reverse {
		origin.TLS = false // until it comes
	}
	for patient := true; ; {
		what := c.sniff(patient)
		if what == speaksTLS && !c.inner {
			next, goOn := c.intercept(&origin)
			if !goOn {
				return false
			}
			if patient = true; next {
				continue // what is inside of TLS may be anything again
			}
			what = speaksHTTP
		}
		switch what {
		case speaksHTTP:
			c.tunnel = &origin
			return true
		case speaksTLS, speaksOther:
			c.relay(origin, nil, "what came through the tunnel is no HTTP: passed on as bytes")
			return false
		case speaksLater:
			if !c.listenToOrigin(origin) {
				return false
			}
			patient = false
		default:
			return false
		}
	}
}

// intercept ends TLS and settles the origin. more says that what is inside has
// to be found out yet; ok is false when the connection is over.
func (c *client) intercept(origin *flow.Origin) (more, ok bool) {
	if !c.unaware || c.entry.Kind != Reverse {
		origin.TLS = true
	} // what a reverse listener leads to says its URL
	begun, err := c.secure(*origin)
	switch {
	case errors.Is(err, errPassed):
		raw := begun.origin
		raw.TLS = false
		c.relay(raw, begun.kept, begun.why)
		return false, false
	case err != nil:
		if begun != nil && alerted(err) {
			c.s.rejected(c.raw, begun.origin.Host)
		}
		c.complain(err)
		return false, false
	}
	*origin, c.inner = begun.origin, true
	switch c.rw.(*tls.Conn).ConnectionState().NegotiatedProtocol {
	case "h2":
		c.tunnel = origin
		c.serve2(false)
		return false, false
	case "":
		return c.s.cfg.Tunnel != nil, true
	}
	return false, true
}

// sniff tells what the next bytes begin; a patient one waits for them no longer
// than Limits.Speak. The bytes stay where they are.
func (c *client) sniff(patient bool) int {
	c.br.Idle()
	c.in.enter(inIdle)
	wait := c.s.limits.Speak
	timed := patient && wait > 0 && c.s.cfg.Tunnel != nil
	begun := time.Now()
	if timed {
		c.raw.SetReadDeadline(begun.Add(wait))
		defer c.raw.SetReadDeadline(time.Time{})
	}
	for n := 1; ; n = c.br.Buffered() + 1 {
		p, err := c.br.Peek(n)
		p = p[:len(p):len(p)]
		switch {
		case err == nil:
			what := c.guess(p)
			if what == undecided && len(p) >= maxGuess {
				what = speaksHTTP // the parser says what is wrong with it
			}
			if what != undecided {
				return what
			}
			if all, _ := c.br.Peek(c.br.Buffered()); len(all) > len(p) {
				if what = c.guess(all); what != undecided {
					return what
				}
			}
		case timed && isTimeout(err) && time.Since(begun) >= wait && !c.s.closing.Load():
			if len(p) > 0 {
				return speaksOther // it waits for an answer to this
			}
			return speaksLater
		case len(p) > 0 && err == io.EOF:
			return speaksHTTP // and breaks off, as the parser will say
		default:
			return speaksNone
		}
	}
}

// guess is what bytes begin, as far as that matters here.
func (c *client) guess(p []byte) int {
	if p[0] == recordHandshake {
		return speaksTLS
	}
	if c.s.cfg.Tunnel == nil {
		return speaksHTTP // there is nowhere else that it could go
	}
	return guessHTTP(p)
}

// guessHTTP tells bytes that begin an HTTP request, however odd, from others:
// a token and a blank (RFC 9112 §3), and a target behind it or a version at the
// end of the line.
func guessHTTP(p []byte) int {
	for len(p) > 0 && (p[0] == '\r' || p[0] == '\n') { // RFC 9112 §2.2
		p = p[1:]
	}
	line, _, whole := bytes.Cut(p, []byte("\n"))
	if bytes.Contains(line, []byte("HTTP/")) {
		return speaksHTTP
	}
	end := bytes.IndexFunc(line, func(r rune) bool { return !isTokenRune(r) })
	switch {
	case end < 0 && !whole && len(line) <= maxMethod:
		return undecided
	case end <= 0 || end > maxMethod || line[end] != ' ' && line[end] != '\t':
		return speaksOther
	}
	target := bytes.TrimLeft(line[end:], " \t")
	switch {
	case len(target) == 0 && !whole:
		return undecided
	case len(target) > 0 && (target[0] == '/' || target[0] == '*'), hasPrefixFold(target, "http:"), hasPrefixFold(target, "https:"):
		return speaksHTTP
	case whole:
		return speaksOther
	}
	return undecided
}

// maxMethod is how long a method may be to be taken for one.
const maxMethod = 32

func isTokenRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r < 0x7f && bytes.ContainsRune([]byte("!#$%&'*+-.^_`|~"), r)
}

func hasPrefixFold(p []byte, prefix string) bool {
	return len(p) >= len(prefix) && bytes.EqualFold(p[:len(prefix)], []byte(prefix))
}

// listenToOrigin connects to the origin of a client that says nothing. If the
// origin speaks first, its bytes and all that follow are passed on; if the
// client does, the connection to the origin is dropped, and true says that the
// client's bytes are to be looked at.
func (c *client) listenToOrigin(origin flow.Origin) bool {
	f, err := c.open(origin, fmt.Sprintf("the client said nothing for %v and the origin spoke first: passed on as bytes", c.s.limits.Speak))
	if err != nil {
		return c.ctx.Err() == nil // the client may still have something to say
	}
	var first [4 << 10]byte
	var n int
	// heard is closed before the client's read is expired, so that the one whose
	// read ends knows why; done after it, when no more expiring can come.
	heard, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		n, _ = f.Upgraded.Read(first[:])
		close(heard)
		c.expire()
	}()
	c.in.enter(inIdle)
	_, err = c.br.Peek(1)
	spoke := false
	select {
	case <-heard:
		spoke = true
	default:
	}
	if !spoke {
		f.Upgraded.Close()
		<-done
		c.raw.SetReadDeadline(time.Time{}) // it may have expired the next read
		return err == nil && c.ctx.Err() == nil && !c.s.closing.Load()
	}
	<-done
	c.raw.SetReadDeadline(time.Time{})
	if n == 0 || c.ctx.Err() != nil || c.write(first[:n]) != nil {
		f.Upgraded.Close()
		return false
	}
	c.out.enter(outNothing)
	c.carry(f, nil)
	return false
}

// relay passes a tunnel on as bytes; first has been read from it already.
func (c *client) relay(origin flow.Origin, first []byte, why string) {
	f, err := c.open(origin, why)
	if err != nil {
		c.complain(fmt.Errorf("tunnel of %v to %s: %w", c.raw.RemoteAddr(), authorityText(origin), err))
		return
	}
	c.carry(f, first)
}

// open connects to the origin of a tunnel whose bytes nobody looks at.
func (c *client) open(origin flow.Origin, why string) (*flow.Flow, error) {
	if c.s.cfg.Tunnel == nil {
		return nil, errors.New("what came through the tunnel is no HTTP")
	}
	target := authorityText(flow.Origin{Host: origin.Host, Port: origin.Port, TLS: origin.Port != 80 && origin.Port != 443})
	if origin.Port == 80 || origin.Port == 443 {
		target += fmt.Sprintf(":%d", origin.Port)
	}
	request, err := wire.ParseRequest([]byte("CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n"))
	if err != nil {
		return nil, fmt.Errorf("internal error: a request of Holdfast's own: %w", err)
	}
	response, err := wire.ParseResponse([]byte(established))
	if err != nil {
		return nil, fmt.Errorf("internal error: an answer of Holdfast's own: %w", err)
	}
	f := &flow.Flow{Origin: origin, Start: c.s.cfg.Clock(), Listener: c.entry.Label, Tool: c.seen.tool, Identity: c.seen.identity,
		Received: request, Request: request, Response: response}
	f.ID = c.s.cfg.IDs.Next(f.Start)
	f.Trace.Add(flow.Event{Actor: "proxy", Action: flow.ActionNote, Detail: why})
	c.in.enter(inNothing)
	c.out.enter(outWaiting)
	err = c.s.cfg.Tunnel(c.ctx, f)
	c.out.enter(outNothing)
	if err == nil && f.Upgraded == nil {
		err = errors.New("internal error: the tunnel was not opened")
	}
	return f, err
}

// carry hands bytes both ways until both sides have closed, and ends the flow.
func (c *client) carry(f *flow.Flow, first []byte) {
	defer f.Upgraded.Close()
	if c.s.cfg.Tunnelled != nil {
		f.OnEnd(c.s.cfg.Tunnelled)
	}
	c.in.enter(inTunnel)
	_, err := f.Upgraded.Write(first)
	if err == nil {
		err = c.bothWays(f.Upgraded, nil)
	}
	c.in.enter(inNothing)
	f.End(c.s.cfg.Clock(), err)
}
