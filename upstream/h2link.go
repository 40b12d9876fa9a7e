package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// Bounds on what HTTP/2 keeps.
const (
	maxLinks    = 8                // connections to one origin; more streams wait
	maxSpoken   = 4096             // origins whose protocols are remembered
	pingAfter   = 15 * time.Second // without a frame of the origin it is asked for a sign of life
	pingAnswers = 2                // so often, until the connection counts as dead
	linkWindow  = 16 << 20         // bytes of answers that nobody has read yet, per connection
)

// What an origin was seen to speak.
const (
	speaksUnknown = iota
	speaks1
	speaks2     // and maybe HTTP/1
	speaksOnly2 // it refused to agree on HTTP/1
)

func only1() []string { return []string{"http/1.1"} }
func both() []string  { return []string{"h2", "http/1.1"} }

// A link is an HTTP/2 connection to an origin, which many flows share.
type link struct {
	*h2.Conn
	c      *conn // the socket beneath; no flow has it
	served atomic.Bool
	rested uint32 // the tick since which no stream is open, 0 while one is; the watcher's
	pinged uint32 // the tick of the last look for a sign of life

	greeted chan struct{} // closed when the origin's SETTINGS have come

	over  chan struct{} // closed when the connection has ended
	cause error         // why; once it is over
}

// links are the HTTP/2 connections of a pool.
type links struct {
	mu      sync.Mutex
	open    map[key][]*link
	spoken  map[flow.Origin]uint8
	connect map[flow.Origin]bool // whether it offered extended CONNECT when it greeted last
	only2   atomic.Bool          // one of these was speaksOnly2
	dialing map[key]bool
	waiting atomic.Int32
	changed chan struct{} // closed, and made anew, when somebody waits and there may be room
}

func (l *links) init() {
	l.open, l.spoken, l.dialing = map[key][]*link{}, map[flow.Origin]uint8{}, map[key]bool{}
	l.connect = map[flow.Origin]bool{}
	l.changed = make(chan struct{})
}

func (l *links) speaks(o flow.Origin) uint8 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spoken[o]
}

func (l *links) learn(o flow.Origin, what uint8) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spoken) >= maxSpoken {
		clear(l.spoken)
	}
	l.spoken[o] = what
	if what == speaksOnly2 {
		l.only2.Store(true)
	}
}

// wake has everybody who waits for a stream look again.
func (l *links) wake() {
	if l.waiting.Load() == 0 {
		return
	}
	l.mu.Lock()
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
}

// remove takes a link off the list.
func (l *links) remove(gone *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.open[gone.c.key]
	kept := make([]*link, 0, len(list))
	for _, k := range list {
		if k != gone {
			kept = append(kept, k)
		}
	}
	if len(kept) == 0 {
		delete(l.open, gone.c.key)
	} else {
		l.open[gone.c.key] = kept
	}
}

// SpeaksHTTP2 tells whether the origin agrees on HTTP/2. What is not known yet
// is found out by a connection, which is kept for the first flow.
func (p *Pool) SpeaksHTTP2(ctx context.Context, o flow.Origin) (bool, error) {
	k := p.linkKey(o, "")
	for {
		switch p.links.speaks(o) {
		case speaks1:
			return false, nil
		case speaks2, speaksOnly2:
			return true, nil
		}
		if _, err := p.makeLink(ctx, k); err != nil && !errors.Is(err, errNotHTTP2) && p.links.speaks(o) == 0 {
			return false, err // before anything was agreed on
		}
	}
}

var errNotHTTP2 = errors.New("the origin does not speak HTTP/2")

// stream opens a stream to the origin: on a link that has room, else on a new
// one, else when there is room. errNotHTTP2 says that the origin does not speak
// HTTP/2, errNoConnect that it does not take the extended CONNECT that head is.
func (p *Pool) stream(ctx context.Context, k key, head *wire.Head, end bool) (*link, *h2.Stream, error) {
	extended := head.Has(":protocol")
	for made := 0; ; {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		p.links.mu.Lock()
		list, changed := p.links.open[k], p.links.changed
		full := len(list) >= maxLinks
		p.links.mu.Unlock()
		starved := false
		for _, l := range list {
			if n, open := l.Room(); n > 0 {
				if extended && !l.takesConnect(ctx, p.limits.Handshake) {
					if _, open := l.Room(); !open {
						continue
					}
					return nil, nil, errNoConnect
				}
				if s, err := l.Open(head, end); err == nil {
					return l, s, nil
				}
			} else if open && n <= 0 {
				starved = true
			}
		}
		if full && starved {
			p.links.waiting.Add(1)
			select { // between the look above and the wait there may have been room
			case <-changed:
			case <-ctx.Done():
			case <-time.After(p.tick):
			}
			p.links.waiting.Add(-1)
			if p.isClosed() {
				return nil, nil, closingError(errClosing)
			}
			continue
		}
		if made == maxTries {
			return nil, nil, &flow.Error{Status: 502, Reason: flow.ReasonBroken,
				Detail: fmt.Sprintf("%s ended %d new connections before a request could be sent.", address(k.origin), maxTries),
				Next:   "Repeat the request; if it happens again, the origin refuses connections like ours."}
		}
		dialed, err := p.makeLink(ctx, k)
		if err != nil {
			return nil, nil, err
		}
		if dialed && !p.links.any(k) {
			made++ // and lost again; else somebody was quicker
		}
	}
}

// any tells whether there is a link that has not ended.
func (l *links) any(k key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open[k]) > 0
}

func (p *Pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// makeLink dials, unless somebody does already: then it waits for him.
func (p *Pool) makeLink(ctx context.Context, k key) (dialed bool, err error) {
	p.links.mu.Lock()
	if p.links.dialing[k] {
		changed := p.links.changed
		p.links.waiting.Add(1)
		p.links.mu.Unlock()
		defer p.links.waiting.Add(-1)
		select {
		case <-changed:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	p.links.dialing[k] = true
	p.links.mu.Unlock()
	defer func() {
		p.links.mu.Lock()
		delete(p.links.dialing, k)
		p.links.mu.Unlock()
		p.links.wake()
	}()
	return true, p.dialLink(ctx, k)
}

func (p *Pool) dialLink(ctx context.Context, k key) error {
	c, err := p.dial(ctx, k, both())
	if err != nil {
		return err
	}
	if secured, ok := c.rw.(*tls.Conn); ok && secured.ConnectionState().NegotiatedProtocol != "h2" {
		p.links.learn(k.origin, speaks1)
		p.put(c, false) // good for the HTTP/1 that follows
		return errNotHTTP2
	}
	l := &link{c: c, over: make(chan struct{}), greeted: make(chan struct{})}
	limits := h2.Limits{ConnWindow: linkWindow, Message: p.limits.Message, Interim: p.limits.Interim, Large: p.large}
	limits.Looks.Head = p.looks(p.limits.FirstByte)
	limits.Looks.Body = p.looks(p.limits.Silence)
	limits.Looks.Window = p.looks(p.limits.Stall)
	limits.Looks.Write = limits.Looks.Window
	limits.Looks.Tunnel = limits.Looks.Body
	l.Conn = h2.New(c.rw, c.rw, h2.Config{Client: true, Limits: limits, Policy: p.cfg.Policy, Freed: p.links.wake,
		Over: c.close, Greeted: func() {
			p.links.learnConnect(k.origin, l.TakesConnect())
			close(l.greeted)
		}})
	l.Start(k.origin.TLS) // without TLS nobody has agreed on HTTP/2 yet
	p.run(func() {
		err := l.Run()
		l.cause = c.why(err)
		defer close(l.over)
		p.links.remove(l)
		c.close()
		l.Abort(c.why(err))
		p.links.wake()
	})
	if !k.origin.TLS {
		// Prior knowledge (RFC 9113 §3.3) is only the client's: an origin that
		// does not greet in HTTP/2 gets HTTP/1, and no request was lost.
		greeting, cancel := ctx, func() {}
		if p.limits.FirstByte > 0 {
			greeting, cancel = context.WithTimeoutCause(ctx, p.limits.FirstByte, errFirstByte)
		}
		settle := c.until(greeting)
		err := l.Greeted()
		if doomed := settle(); err == nil {
			err = doomed // others would be given a connection that ends
		}
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if why := c.why(err); why == errFirstByte {
				return c.answerError(ctx, why)
			}
			// One that hung up may do so for another reason, and is asked again.
			if errors.As(err, new(*h2.ConnError)) {
				p.links.learn(k.origin, speaks1)
			}
			return errNotHTTP2
		}
	}
	p.links.mu.Lock()
	if p.links.spoken[k.origin] != speaksOnly2 {
		p.links.spoken[k.origin] = speaks2
	}
	p.links.open[k] = append(p.links.open[k][:len(p.links.open[k]):len(p.links.open[k])], l)
	p.links.mu.Unlock()
	if _, open := l.Room(); !open { // it ended before it was on the list
		defer p.links.remove(l)
		select {
		case <-l.over: // and the next one would too
			return p.linkError(ctx, l, &flow.Flow{Origin: k.origin}, l.cause)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(p.tick): // it takes no streams, but goes on
		}
	}
	return nil
}

// looks is a limit in looks of the watcher.
func (p *Pool) looks(limit time.Duration) uint32 {
	if limit <= 0 {
		return 0
	}
	return uint32(limit/p.tick) + 1
}

// lookLinks is the watcher's visit. p.mu is held.
func (p *Pool) lookLinks(now uint32) {
	p.links.mu.Lock()
	var all []*link
	for _, list := range p.links.open {
		all = append(all, list...)
	}
	p.links.mu.Unlock()
	for _, l := range all {
		if l.Look() != nil {
			l.c.raw.Close()
			continue
		}
		switch {
		case l.Active() > 0:
			l.rested = 0
		case l.rested == 0:
			l.rested = now
		case p.retired || p.exceeded(p.limits.Idle, now-l.rested):
			l.c.raw.Close() // Run ends, and takes it off the lists
			continue
		}
		if l.pinged == 0 {
			l.pinged = now
		}
		if p.exceeded(pingAfter, now-l.pinged) {
			l.pinged = now
			p.running++ // Pool.mu is held
			go func() { // a write may wait, which the watcher must not
				defer p.ran()
				if !l.Alive(pingAnswers) {
					l.c.doom(errDead)
				}
			}()
		}
	}
}

var errDead = errors.New("the origin gives no sign of life")

// refusesHTTP1 tells whether a handshake failed for want of a common protocol:
// the alert no_application_protocol (RFC 7301 §3.2).
func refusesHTTP1(err error) bool {
	var alert tls.AlertError
	return errors.As(err, &alert) && alert == 120 || errors.Is(err, errGreets2)
}

var errGreets2 = errors.New("the origin greets in HTTP/2")

// greets2 tells whether what the origin sent instead of an answer is a SETTINGS
// frame (RFC 9113 §3.4): it speaks HTTP/2 without having been asked, so it has
// not understood the request, let alone processed it.
func (c *conn) greets2() bool {
	// What begins otherwise is not waited for: nothing more may come.
	if c.br.Buffered() == 0 {
		return false
	}
	if first, err := c.br.Peek(1); err != nil || first[0] != 0 {
		return false
	}
	head, err := c.br.Peek(9)
	return err == nil && head[3] == 4 && head[0] == 0 && [5]byte(head[4:9]) == [5]byte{} &&
		(int(head[1])<<8|int(head[2]))%6 == 0
}
