package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
)

// A Kind says whom the clients of a listener believe to talk to.
type Kind uint8

const (
	// Forward is a proxy. Each connection says by its first byte what it
	// speaks: 0x05 is SOCKS5 (RFC 1928), 0x16 is TLS to the proxy itself, in
	// which one of the others follows, and anything else is HTTP.
	Forward Kind = iota
	// Reverse is one origin: what comes goes to Listener.Origin.
	Reverse
	// Invisible is every origin: TLS goes to the host that its SNI names, at
	// port 443 unless the Host field says another, and a request in
	// origin-form to its Host field. Clients that know of the proxy are served
	// as by Forward, except by TLS to it.
	Invisible
)

// arrive finds out what a new connection speaks, and tells whether requests
// can be read from it.
func (c *client) arrive() bool {
	e := c.entry
	if e.Kind == Reverse && !e.TLS {
		c.unaware = true
		return c.begin(e.Origin)
	}
	first, ok := c.firstByte()
	if !ok {
		return false
	}
	if first != recordHandshake {
		switch {
		case e.TLS:
			c.lastWord(&flow.Error{Status: 400, Reason: flow.ReasonBadRequest,
				Detail: "This listener of Holdfast speaks TLS.", Next: "Write https:// in front of its address."})
			return false
		case first == socksVersion:
			return c.socks()
		}
		return true
	}
	if e.Kind != Forward {
		c.unaware = true
		origin := e.Origin
		if e.Kind == Invisible {
			origin = flow.Origin{TLS: true, Port: 443} // the host comes with SNI
		}
		return c.begin(origin)
	}
	if err := c.front(); err != nil {
		c.complain(err)
		return false
	}
	if first, ok = c.firstByte(); ok && first == socksVersion {
		return c.socks()
	}
	return ok
}

// firstByte waits for the first byte of what comes next and leaves it there.
func (c *client) firstByte() (byte, bool) {
	c.br.Idle()
	c.in.enter(inIdle)
	first, err := c.br.Peek(1)
	if err != nil {
		return 0, false // a client that thought better of it
	}
	return first[0], true
}

// front ends TLS that a client speaks to the proxy itself.
func (c *client) front() error {
	if c.s.front == nil {
		return fmt.Errorf("%v wants TLS with the proxy, for which there is no certificate authority", c.raw.RemoteAddr())
	}
	begun, err := c.take(flow.Origin{Host: c.here()})
	if err != nil {
		return err
	}
	if err = c.shake(begun, c.s.front); err == nil {
		c.promised = c.rw.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2"
	}
	return err
}

// here is the address that the client has connected to.
func (c *client) here() string {
	host, _, err := net.SplitHostPort(c.raw.LocalAddr().String())
	if err != nil {
		return LocalHost
	}
	host, _, _ = strings.Cut(host, "%")
	return host
}

// complain tells of a connection that failed outside of a flow, unless the
// server or the client has ended it.
func (c *client) complain(err error) {
	if c.ctx.Err() == nil {
		c.s.cfg.OnError(err)
	}
}

// meant sets what a request means that a client sent who does not know of the
// proxy: through a reverse listener the Host field becomes the origin's, unless
// Listener.KeepHost, and through an invisible one its port is the origin's.
func (c *client) meant(f *flow.Flow) {
	if !c.unaware {
		return
	}
	if c.entry.Kind == Reverse {
		if !c.entry.KeepHost {
			setHost(f, authorityText(f.Origin))
		}
		return
	}
	named, err := ParseAuthority(string(f.Request.Host()), f.Origin.Port)
	if err == nil && named.Host == f.Origin.Host {
		f.Origin.Port = named.Port
	}
}

// byHost is the origin of a request in origin-form through an invisible
// listener.
func (c *client) byHost(f *flow.Flow) (flow.Handler, error) {
	host := f.Request.Host()
	if len(host) == 0 {
		return nil, &flow.Error{Status: 400, Reason: flow.ReasonBadRequest, Detail: "The request names no host, so there is nowhere it can go.",
			Next: "Send a Host line, or set this address as the client's proxy."}
	}
	origin, err := c.find(false, host)
	f.Origin = origin
	if err != nil {
		return nil, err
	}
	return c.handlerFor(origin), nil
}

// setHost replaces the value of the request's Host line, or of its authority
// by HTTP/2. A request without one stays without.
func setHost(f *flow.Flow, host string) {
	if string(f.Request.Host()) == host {
		return
	}
	r := f.Edit()
	for i := range r.NumFields() {
		name, _ := r.Field(i)
		if isHostField(name) {
			if r.SetFieldValue(i, []byte(host)) != nil {
				return // never: the name of a host holds no line ends
			}
		}
	}
}

func isHostField(name []byte) bool {
	return string(name) == ":authority" || bytes.EqualFold(name, []byte("Host"))
}

// authorityText is the host with its port, unless that is the scheme's own.
func authorityText(o flow.Origin) string {
	return o.URL(nil)[len(o.Scheme())+len("://"):]
}

// errPassed ends a handshake that is not ours to do.
var errPassed = errors.New("the connection is passed through")

// greeted is asked about a ClientHello before it is answered. It settles the
// origin where only SNI knows its name, and whether the connection is looked
// into at all.
func (s *Server) greeted(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	begun, ok := hello.Conn.(*begunConn)
	if !ok {
		return nil, nil
	}
	name := strings.ToLower(serverName(hello))
	switch {
	case begun.c.unaware && begun.c.entry.Kind == Reverse:
		begun.kept, begun.keeping = nil, false
		return s.configFor(hello)
	case begun.origin.Host == "" && name == "":
		return nil, errors.New("it names no host by SNI, so there is nowhere it can go; set Holdfast as the client's proxy instead")
	case begun.origin.Host == "":
		begun.origin.Host = name
	case name != "" && net.ParseIP(begun.origin.Host) != nil:
		// The client resolved the name itself: it goes where it said, under
		// the name that rules and certificates are about.
		begun.origin.Host, begun.origin.Address = name, begun.origin.Host
	}
	if begun.why = s.passes(begun.c.raw, begun.origin); begun.why != "" {
		begun.mute = true
		return nil, errPassed
	}
	begun.kept, begun.keeping = nil, false
	return s.configFor(hello)
}
