package upstream

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// connectLimits bound what a proxy answers to CONNECT.
func connectLimits() wire.Limits { return wire.Limits{Head: 64 << 10, Fields: 200} }

// maxShed bounds how many connections are closed for the sake of a new one.
const maxShed = 8

// hop opens the connection to the origin, or to the proxy in front of it.
func (p *Pool) hop(ctx context.Context, k key, w *way) (net.Conn, error) {
	addr := w.address
	if w.proxy != nil {
		addr = w.proxy.Address()
	}
	open, network := p.cfg.Dial, "tcp"
	if w.source.IsValid() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: w.source.AsSlice(), Zone: w.source.Zone()}}
		open, network = d.DialContext, "tcp6"
		if w.source.Is4() {
			network = "tcp4"
		}
	}
	dialing, cancel := limited(ctx, p.limits.Dial)
	defer cancel()
	raw, err := open(dialing, network, addr)
	for shed := 0; errors.Is(err, syscall.EMFILE) && shed < maxShed && p.Shed(); shed++ {
		raw, err = open(dialing, network, addr)
	}
	if err == nil && p.cfg.Refuse != nil {
		if err := p.cfg.Refuse(raw.RemoteAddr()); err != nil {
			raw.Close()
			return nil, err
		}
	}
	switch {
	case err == nil:
		return raw, nil
	case w.proxy != nil && ctx.Err() == nil:
		return nil, proxyDown(w.proxy, err)
	case w.source.IsValid() && errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, &flow.Error{Status: 502, Reason: flow.ReasonUnreachable, Cause: err,
			Detail: fmt.Sprintf("This machine has no address %s to reach %s from.", w.source, address(k.origin)),
			Next:   "Correct source: of the origin in the configuration."}
	}
	told := address(k.origin)
	if w.moved {
		told += " at " + w.address
	}
	return nil, p.dialError(ctx, told, err)
}

// through opens a way through the proxy that c is connected to, unless that is
// to be asked in absolute-form. When it fails, c is closed.
func (p *Pool) through(ctx context.Context, c *conn, w *way) error {
	proxy := w.proxy
	if proxy == nil {
		return nil
	}
	settle := c.until(ctx)
	err := p.negotiate(ctx, c, w)
	if doomed := settle(); err == nil {
		err = doomed
	}
	if err == nil {
		return nil
	}
	c.close()
	err = c.why(err)
	var known *flow.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errClosing):
		return closingError(err)
	case errors.As(err, &known):
		return known
	}
	return proxyDown(proxy, err)
}

// negotiate speaks with the proxy within the limits.
func (p *Pool) negotiate(ctx context.Context, c *conn, w *way) error {
	proxy := w.proxy
	if proxy.Scheme == SchemeHTTPS {
		at := flow.Origin{TLS: true, Host: strings.ToLower(proxy.Host), Port: proxy.Port}
		secured := tls.Client(c.raw, p.tlsFor(p.routes.to(at, ""), at, "", []string{"http/1.1"}))
		shaking, cancel := limited(ctx, p.limits.Handshake)
		err := secured.HandshakeContext(shaking)
		cancel()
		if err != nil {
			return p.proxyHandshakeError(proxy, c.why(err))
		}
		c.become(secured)
	}
	if proxy.speaksHTTP() && !c.key.origin.TLS && !c.key.tunnel {
		c.proxy = proxy
		return nil
	}
	asking, cancel := limited(ctx, p.limits.Dial)
	defer cancel()
	settle := c.until(asking)
	defer settle() // the caller looks at what comes of it
	if proxy.speaksHTTP() {
		return p.openTunnel(c, w)
	}
	return p.openSOCKS(asking, c.rw, w)
}

// become has the connection go on in another form.
func (c *conn) become(rw net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doomed == nil {
		c.rw = rw
	}
}

// openTunnel asks for a tunnel (RFC 9110 §9.3.6).
func (p *Pool) openTunnel(c *conn, w *way) error {
	head := "CONNECT " + w.address + " HTTP/1.1\r\nHost: " + w.address + "\r\n"
	if w.proxy.hasCredentials() {
		head += "Proxy-Authorization: " + w.proxy.basic() + "\r\n"
	}
	if _, err := c.rw.Write([]byte(head + "\r\n")); err != nil {
		return err
	}
	br := wire.NewReader(c.rw, connectLimits())
	defer br.Release()
	var answer wire.Response
	for n := 0; ; n++ {
		if err := br.ReadResponse(&answer); err != nil {
			return err
		}
		if status := answer.Status(); status >= 200 || status == 101 || n >= p.limits.Interim {
			break
		}
	}
	if answer.Status()/100 != 2 {
		return refusedBy(w.proxy, w.address, &answer)
	}
	// An origin may greet before it is spoken to, as HTTP/2 servers do.
	if n := br.Buffered(); n > 0 {
		rest := make([]byte, n)
		n, _ = br.Read(rest)
		c.become(&ahead{Conn: c.rw, rest: rest[:n]})
	}
	return nil
}

// ahead is a connection of which a part was read already.
type ahead struct {
	net.Conn
	rest []byte
}

func (a *ahead) Read(p []byte) (int, error) {
	if len(a.rest) > 0 {
		n := copy(p, a.rest)
		a.rest = a.rest[n:]
		return n, nil
	}
	return a.Conn.Read(p)
}

// CloseWrite tells the other end that nothing more will come.
func (a *ahead) CloseWrite() error {
	if half, ok := a.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (p *Proxy) hasCredentials() bool { return p.User != "" || p.Password != "" }

// basic is RFC 7617 §2.
func (p *Proxy) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.User+":"+p.Password))
}

// fitsAbsolute tells whether an HTTP proxy, asked for the request in
// absolute-form, hands on the same request. It does not where it would make
// another Host of it (RFC 9112 §3.2.2), and it may not hand on an upgrade (RFC
// 9110 §7.8): then the way is a tunnel.
func fitsAbsolute(f *flow.Flow) bool {
	r := f.Request
	if target := r.Target(); len(target) == 0 || target[0] != '/' {
		return false
	}
	if _, upgrade := r.Get("Upgrade"); upgrade || r.Proto() == wire.HTTP2 {
		return false
	}
	host, port := string(r.Host()), ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host, port = host[:i], host[i+1:]
	}
	if !strings.EqualFold(strings.Trim(host, "[]"), f.Origin.Host) {
		return false
	}
	return port == portText(f.Origin.Port) || port == "" && f.Origin.Port == 80
}

// absolute is the request's head for a proxy. The flow's own stays as it is:
// the proxy's credentials are nobody's business.
func (p *Proxy) absolute(f *flow.Flow) ([]byte, error) {
	r := f.Request.Clone()
	if err := r.SetTarget([]byte(f.Origin.URL(f.Request.Target()))); err != nil {
		return nil, err
	}
	r.Del("Proxy-Authorization")
	if p.hasCredentials() {
		if err := r.Set("Proxy-Authorization", p.basic()); err != nil {
			return nil, err
		}
	}
	return r.Bytes(), nil
}

// forHop is the head that is written on c: the request's own, byte for byte,
// except to a proxy that is asked in absolute-form.
func (c *conn) forHop(f *flow.Flow) ([]byte, error) {
	if c.proxy == nil {
		return f.Request.Bytes(), nil
	}
	head, err := c.proxy.absolute(f)
	if err != nil {
		return nil, err
	}
	c.pool.tell(f, "sent to the proxy "+c.proxy.String()+" in absolute-form")
	return head, nil
}

// fromHop is an error when the answer is not the origin's but says that the
// proxy does not know us.
func (c *conn) fromHop(answer *wire.Response) error {
	if c.proxy != nil && answer.Status() == 407 {
		return refusedBy(c.proxy, address(c.key.origin), answer)
	}
	return nil
}

// tell writes into the flow's trace what a tester should know.
func (p *Pool) tell(f *flow.Flow, what string) {
	f.Trace.Add(flow.Event{At: p.cfg.Clock().Sub(f.Start), Actor: "upstream", Action: flow.ActionNote, Detail: what})
}

func proxyDown(proxy *Proxy, cause error) error {
	e := &flow.Error{Status: 502, Reason: flow.ReasonProxyDown, Cause: cause,
		Detail: fmt.Sprintf("The proxy %s cannot be reached.", proxy),
		Next:   "Check that it runs there, or name another with --upstream or upstream: in the configuration."}
	var parse *wire.ParseError
	var dns *net.DNSError
	var socks *socksError
	switch {
	case errors.As(cause, &socks), errors.As(cause, &parse):
		e.Detail = fmt.Sprintf("What answers at %s is no proxy of that kind: %v.", proxy, cause)
		e.Next = "Check the scheme: http, https, socks5 or socks5h."
	case errors.As(cause, &dns):
		e.Detail = fmt.Sprintf("The name of the proxy %s does not resolve.", proxy)
	case timedOut(cause):
		e.Status = 504
		e.Detail = fmt.Sprintf("The proxy %s does not answer in time.", proxy)
	case errors.Is(cause, syscall.ECONNREFUSED):
		e.Detail = fmt.Sprintf("The proxy %s refuses connections.", proxy)
	}
	return e
}

// refusedBy is the proxy's own answer that is no way to the origin.
func refusedBy(proxy *Proxy, addr string, answer *wire.Response) error {
	e := &flow.Error{Status: 502, Reason: flow.ReasonProxyRefused,
		Detail: fmt.Sprintf("The proxy %s does not open a way to %s: it answered %d %s.", proxy, addr, answer.Status(), answer.Reason()),
		Next:   "Look into the proxy's log, or reach the host without it: direct: in the configuration."}
	switch answer.Status() {
	case 407:
		e.Reason = flow.ReasonProxyLogin
		e.Next = "Name a user and a password in the proxy's URL."
		if proxy.hasCredentials() {
			e.Next = "Correct the user and the password in the proxy's URL."
		}
		schemes := answer.Combined("Proxy-Authenticate")
		e.Detail = fmt.Sprintf("The proxy %s wants credentials.", proxy)
		if proxy.hasCredentials() {
			e.Detail = fmt.Sprintf("The proxy %s does not take the credentials.", proxy)
		}
		if len(schemes) > 0 && !strings.Contains(strings.ToLower(string(schemes)), "basic") {
			e.Next = "Put a proxy in between that speaks its kind of authentication; Holdfast sends Basic."
		}
	case 502, 503, 504:
		e.Detail = fmt.Sprintf("The proxy %s cannot reach %s: it answered %d %s.", proxy, addr, answer.Status(), answer.Reason())
		e.Next = "Check that the origin can be reached from where the proxy runs."
	}
	return e
}

func (p *Pool) proxyHandshakeError(proxy *Proxy, err error) error {
	var untrusted *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	e := &flow.Error{Status: 502, Reason: flow.ReasonProxyDown, Cause: err,
		Detail: fmt.Sprintf("The TLS handshake with the proxy %s failed.", proxy),
		Next:   "Check that it is an https proxy."}
	switch {
	case errors.As(err, &untrusted):
		e.Detail = fmt.Sprintf("The certificate of the proxy %s does not verify: %s.", proxy, certificateFault(untrusted))
		e.Next = "Trust its root with --upstream-ca, or ca: for its host in the configuration."
	case errors.As(err, &noTLS):
		e.Detail = fmt.Sprintf("The proxy %s does not speak TLS.", proxy)
		e.Next = "Write http:// for a proxy that is spoken to without TLS."
	}
	return e
}
