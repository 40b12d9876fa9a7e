package proxy

import (
	"errors"
	"fmt"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// tunnel hands bytes both ways between the client's stream and the origin,
// until both sides have closed. END_STREAM is one side's end, RST_STREAM that
// of both (RFC 8441 §5).
func (x *exchange2) tunnel() error {
	f := &x.flow
	defer f.Upgraded.Close()
	if string(f.Received.Method()) != "CONNECT" {
		return x.broken(errors.New("the origin changed the protocol, for which the client did not ask"))
	}
	answer, err := x.upgradeTo2()
	if err != nil {
		return x.broken(err)
	}
	if err := x.s.WriteHead(&answer.Head, false); err != nil {
		return unwritten(err)
	}
	tunnel := x.s.Tunnel()
	x.s.Flush()
	socket := x.t.c.s.listenIn(f)
	defer socket.end()
	return bothWays(end{tunnel, tunnel, func(err error) { tunnel.Reset(tunnelCode(f, err)) }}, f.Upgraded, socket, func() {})
}

// tunnelCode is what the client's stream is reset with when the origin's side
// of the tunnel failed: the origin's own code if it gave one, CANCEL for a
// WebSocket (RFC 8441 §5), CONNECT_ERROR for other tunnels (RFC 9113 §8.5).
func tunnelCode(f *flow.Flow, err error) h2.Code {
	var stream *h2.StreamError
	switch {
	case errors.As(err, &stream) && stream.Remote:
		return stream.Code
	case f.Received.Has(":protocol"):
		return h2.Cancel
	}
	return h2.ConnectError
}

// upgradeTo2 is the origin's consent as HTTP/2 says it.
func (x *exchange2) upgradeTo2() (*wire.Response, error) {
	r := x.flow.Response
	if r.Proto() == wire.HTTP2 {
		return r, nil
	}
	convert := h2.ResponseTo2
	if r.Status() == 101 {
		convert = h2.SocketAnswerTo2
	}
	answer, notes, err := convert(r)
	if err == nil {
		x.note("the tunnel was opened by HTTP/1 and given to the client as HTTP/2", notes)
	}
	return answer, err
}

// misunderstood is an error if an answer by HTTP/1 would tell the client that
// its tunnel is open, which it is not: the origin answered the handshake as if
// it were any request.
func (x *exchange2) misunderstood() error {
	f := &x.flow
	if f.Upgraded != nil || f.Response.Status()/100 != 2 || string(f.Received.Method()) != "CONNECT" {
		return nil
	}
	return &flow.Error{Status: 502, Reason: flow.ReasonBadResponse,
		Detail: fmt.Sprintf("The origin answered %d to a handshake, which by HTTP/2 would say that the tunnel is open.", f.Response.Status()),
		Next:   "See whether the path is that of a WebSocket."}
}

// upgradeTo1 is the origin's consent as HTTP/1.1 says it.
func (c *client) upgradeTo1(f *flow.Flow) (*wire.Response, error) {
	if f.Response.Proto() != wire.HTTP2 {
		return f.Response, nil
	}
	answer, notes, err := (*wire.Response)(nil), []string(nil), error(nil)
	if _, ok := ws.Upgraded(f.Request, f.Response); ok {
		accept := ""
		if key, ok := f.Request.Get("Sec-WebSocket-Key"); ok {
			accept = ws.Accept(string(key))
		}
		answer, notes, err = h2.SocketAnswerTo1(f.Response, accept)
	} else {
		answer, notes, err = h2.ResponseTo1(f.Response, false, true)
	}
	if err == nil {
		note(f, c.s, "the tunnel was opened by HTTP/2 and given to the client as HTTP/1.1", notes)
	}
	return answer, err
}
