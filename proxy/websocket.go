package proxy

import (
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// socketLimits bound what is kept of a WebSocket while it is decoded.
func socketLimits() ws.Limits {
	return ws.Limits{Message: 256 << 10, Compressed: 256 << 10, Inflated: 16 << 20}
}

// A socket listens in on a tunnel that speaks WebSocket, for those who have
// registered with the flow. The bytes of the tunnel never pass through it: it
// is shown a piece before that is forwarded, for the close frames, and again
// behind it, for the messages.
type socket struct {
	flow  *flow.Flow
	clock func() time.Time

	mu    sync.Mutex // held while somebody is told: the flow is one goroutine's at a time
	sides [2]ear
}

// An ear is one direction of a socket. Both methods may be called on nil, the
// ear of a tunnel that nobody wants to hear of.
type ear struct {
	socket  *socket
	from    flow.Peer
	decoder *ws.Decoder
	closed  bool // a close was told
	mute    bool // decoding has ended before the stream
}

// listenIn returns the ears of a tunnel: nil where nobody listens.
func (s *Server) listenIn(f *flow.Flow) *socket {
	messages, anything := f.Heard()
	if !anything {
		return nil
	}
	h, ok := ws.Upgraded(f.Request, f.Response)
	if !ok {
		return nil
	}
	heard := &socket{flow: f, clock: s.cfg.Clock}
	if h.BadAccept {
		heard.note("Sec-WebSocket-Accept does not fit Sec-WebSocket-Key")
	}
	if h.Unknown != "" {
		heard.note("the extension " + h.Unknown + " is not known here: what it marks is not decoded")
	}
	for i, deflate := range []*ws.Deflate{flow.Client: h.Client, flow.Server: h.Origin} {
		from := flow.Peer(i)
		heard.sides[i] = ear{socket: heard, from: from, decoder: ws.NewDecoder(ws.Config{
			FromClient: from == flow.Client, Deflate: deflate, Payloads: messages, Limits: socketLimits()})}
	}
	return heard
}

func (s *socket) note(detail string) {
	s.flow.Trace.Add(flow.Event{At: s.clock().Sub(s.flow.Start), Actor: "websocket", Action: flow.ActionNote, Detail: detail})
}

// ear is that of what one peer sends.
func (s *socket) ear(from flow.Peer) *ear {
	if s == nil {
		return nil
	}
	return &s.sides[from]
}

// before sees bytes that are about to be forwarded. What it does is bounded by
// their number.
func (e *ear) before(p []byte) {
	if e == nil || e.mute {
		return
	}
	e.decoder.Feed(p)
	if err := e.decoder.Err(); err != nil {
		e.mute = true
		e.socket.mu.Lock()
		e.socket.note("what the " + e.from.String() + " sends is decoded no further: " + strings.TrimPrefix(err.Error(), "ws: "))
		e.socket.mu.Unlock()
	}
	code, _, ok := e.decoder.Closed()
	if !ok || e.closed {
		return
	}
	e.closed = true
	e.socket.mu.Lock()
	defer e.socket.mu.Unlock()
	e.socket.flow.SaidClose(&flow.Close{From: e.from, Time: e.socket.clock(), Code: code, Messages: e.decoder.Messages()})
}

// after tells of the messages that were complete with what was forwarded last.
func (e *ear) after() {
	if e == nil {
		return
	}
	for m := e.decoder.Next(); m != nil; m = e.decoder.Next() {
		e.socket.mu.Lock()
		e.socket.flow.Said(&flow.Message{From: e.from, Time: e.socket.clock(), Message: *m})
		e.socket.mu.Unlock()
	}
}

// end tells what was odd, when both directions are over.
func (s *socket) end() {
	if s == nil {
		return
	}
	for i := range s.sides {
		e := &s.sides[i]
		e.decoder.End()
		e.after()
		if odd := e.decoder.Notes().Strings(); len(odd) > 0 {
			s.note("from the " + e.from.String() + ": " + strings.Join(odd, "; "))
		}
	}
}
