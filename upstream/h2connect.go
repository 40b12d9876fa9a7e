package upstream

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// errNoConnect says that the origin speaks HTTP/2, and takes no extended CONNECT.
var errNoConnect = errors.New("the origin takes no extended CONNECT")

// greetingWait is how long a client's connection waits to learn whether its
// origin takes extended CONNECT.
const greetingWait = time.Second

// TakesConnect tells whether the origin, which speaks HTTP/2, takes extended
// CONNECT (RFC 8441 §3). What is not known yet is found out by a connection,
// which is kept for the first flow; an origin that says nothing within a second
// does not. Any goroutine may call it.
func (p *Pool) TakesConnect(ctx context.Context, o flow.Origin) bool {
	ctx, cancel := context.WithTimeout(ctx, greetingWait)
	defer cancel()
	return p.takesConnect(ctx, p.linkKey(o, ""))
}

func (p *Pool) takesConnect(ctx context.Context, k key) bool {
	for range maxTries {
		p.links.mu.Lock()
		takes, known := p.links.connect[k.origin]
		list := p.links.open[k]
		p.links.mu.Unlock()
		if known {
			return takes
		}
		for _, l := range list {
			if l.takesConnect(ctx, p.limits.Handshake) {
				return true
			}
		}
		if ctx.Err() != nil {
			return false
		}
		if _, err := p.makeLink(ctx, k); err != nil {
			return false
		}
	}
	return false
}

func (l *links) learnConnect(o flow.Origin, takes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.connect) >= maxSpoken {
		clear(l.connect)
	}
	l.connect[o] = takes
}

// takesConnect waits for the origin's SETTINGS, which nobody may run ahead of
// with extended CONNECT (RFC 8441 §3).
func (l *link) takesConnect(ctx context.Context, wait time.Duration) bool {
	select {
	case <-l.greeted:
		return l.TakesConnect()
	default:
	}
	if wait > 0 {
		limited, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		ctx = limited
	}
	select {
	case <-l.greeted:
	case <-l.over:
	case <-ctx.Done():
	}
	return l.TakesConnect()
}

func isConnect(h *wire.Head) bool {
	method, _ := h.Get(":method")
	return string(method) == "CONNECT"
}

// sendUpgrade sends an extended CONNECT to an origin that does not take it: a
// WebSocket's as the handshake of HTTP/1.1, as a browser would do it.
func (p *Pool) sendUpgrade(ctx context.Context, f *flow.Flow) error {
	if !ws.Asks(f.Request) || p.links.speaks(f.Origin) == speaksOnly2 {
		return connectError(f)
	}
	var random [16]byte
	rand.Read(random[:]) // never fails, says its doc
	key := base64.StdEncoding.EncodeToString(random[:])
	handshake, notes, err := h2.SocketTo1(f.Request, key)
	if err != nil {
		return convertError(err)
	}
	p.note(f, "the origin opens no WebSocket by HTTP/2: sent as HTTP/1.1", notes)
	request := f.Request
	f.Request = handshake
	err = p.send1(ctx, f)
	f.Request = request
	if f.Origin.TLS && refusesHTTP1(err) {
		p.links.learn(f.Origin, speaksOnly2)
		return connectError(f)
	}
	if err != nil || f.Upgraded == nil {
		return err
	}
	if h, ok := ws.Upgraded(handshake, f.Response); !ok || h.BadAccept {
		// Who sent the key has to look at the answer (RFC 6455 §4.1).
		f.Upgraded.Close()
		f.Upgraded, f.Response = nil, nil
		return &flow.Error{Status: 502, Reason: flow.ReasonBadResponse,
			Detail: fmt.Sprintf("%s answered 101 to the handshake of a WebSocket, and not as RFC 6455 §4.2.2 has it.", address(f.Origin)),
			Next:   "Look at the origin's Upgrade and Sec-WebSocket-Accept."}
	}
	return nil
}

func connectError(f *flow.Flow) error {
	return &flow.Error{Status: 501, Reason: flow.ReasonBadRequest, Cause: errNoConnect,
		Detail: fmt.Sprintf("%s speaks HTTP/2 and takes no extended CONNECT (RFC 8441) in it.", address(f.Origin)),
		Next:   "Ask in a way that the origin offers."}
}

// tunnel2 is a stream on which the origin took CONNECT. Read and Write may be
// called by two goroutines, Close, Reset and CloseWrite by any.
type tunnel2 struct {
	*h2.Tunnel
	s *h2.Stream
}

// Close ends both directions, if they have not ended: by RST_STREAM with CANCEL
// (RFC 8441 §5).
func (t *tunnel2) Close() error {
	t.Reset(h2.Cancel)
	t.s.Done()
	return nil
}
