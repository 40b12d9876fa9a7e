package proxy

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// LocalHost is the name under which a client reaches the proxy itself through
// the proxy: http://holdfast/.
const LocalHost = "holdfast"

// A caller is whom the credentials name.
type caller struct {
	credentials    []byte // as received; nil when there were none
	identity, tool string
	denied         bool // the password is missing or wrong
}

// A route is an authority taken apart. Requests on one connection mostly go to
// one origin, so the last one is kept.
type route struct {
	tls       bool
	authority []byte
	origin    flow.Origin
	err       error
}

// direct sets the flow's tool, identity and origin, turns a request that is
// meant for a proxy into the one for its origin, and returns who answers it.
func (c *client) direct(x *exchange) (flow.Handler, error) {
	f := &x.flow
	f.Identity, f.Tool = c.seen.identity, c.seen.tool
	if c.tunnel != nil {
		f.Origin = *c.tunnel
		c.meant(f)
		return c.handlerFor(f.Origin), nil
	}
	scheme, authority, rest := splitAbsolute(x.request.Target())
	if scheme == "" && c.entry.Kind == Invisible {
		return c.byHost(f)
	}
	c.recognize(&x.request)
	f.Identity, f.Tool = c.seen.identity, c.seen.tool
	if c.seen.denied {
		return nil, deniedError()
	}
	if target := x.request.Target(); scheme == "" && !bytes.HasPrefix(target, []byte("/")) {
		return nil, authorityError(string(target), "it begins with neither http:// nor https://")
	}
	if scheme == "" {
		f.Origin = flow.Origin{Host: LocalHost, Port: 80}
		return c.local(), nil
	}
	origin, err := c.find(scheme == "https", authority)
	f.Origin = origin
	if err != nil {
		return nil, err
	}
	if err := toOriginForm(f.Edit(), authority, rest); err != nil {
		return nil, badRequest(err)
	}
	return c.handlerFor(origin), nil
}

func (c *client) handlerFor(o flow.Origin) flow.Handler {
	if o.Host == LocalHost {
		return c.local()
	}
	return c.s.cfg.Handler
}

func (c *client) local() flow.Handler {
	if c.s.cfg.Local != nil {
		return c.s.cfg.Local
	}
	return LocalPages(nil, nil)
}

// find takes an authority apart and refuses the proxy's own address.
func (c *client) find(tls bool, authority []byte) (flow.Origin, error) {
	if c.route.authority != nil && c.route.tls == tls && bytes.Equal(authority, c.route.authority) {
		return c.route.origin, c.route.err
	}
	port := uint16(80)
	if tls {
		port = 443
	}
	origin, err := ParseAuthority(string(authority), port)
	origin.TLS = tls
	if err == nil && c.s.isSelf(origin) {
		err = selfError(string(authority))
	}
	if err == nil && c.s.at(origin, c.s.IsShielded) {
		err = ShieldedError(string(authority))
	}
	if len(authority) <= maxRoute {
		c.route = route{tls: tls, authority: bytes.Clone(authority), origin: origin, err: err}
	}
	return origin, err
}

// splitAbsolute takes an absolute-form target apart (RFC 9112 §3.2.2). The
// scheme is "http" or "https", also for a WebSocket's ws and wss (RFC 6455 §3),
// "" for any other target; rest begins behind the authority.
func splitAbsolute(target []byte) (scheme string, authority, rest []byte) {
	before, after, ok := bytes.Cut(target, []byte("://"))
	switch {
	case ok && (strings.EqualFold(string(before), "http") || strings.EqualFold(string(before), "ws")):
		scheme = "http"
	case ok && (strings.EqualFold(string(before), "https") || strings.EqualFold(string(before), "wss")):
		scheme = "https"
	default:
		return "", nil, nil
	}
	end := bytes.IndexAny(after, "/?#")
	if end < 0 {
		end = len(after)
	}
	return scheme, after[:end], after[end:]
}

// toOriginForm makes of a request to a proxy the one to the origin: see the
// package's doc for what is changed.
func toOriginForm(r *wire.Request, authority, rest []byte) error {
	rest, _, _ = bytes.Cut(rest, []byte("#"))
	var target []byte
	switch {
	case len(rest) == 0 && string(r.Method()) == "OPTIONS":
		target = []byte("*")
	case len(rest) == 0 || rest[0] == '?':
		target = append([]byte("/"), rest...)
	default:
		target = bytes.Clone(rest)
	}
	host := string(authority[bytes.LastIndexByte(authority, '@')+1:])
	if err := r.SetTarget(target); err != nil {
		return err
	}
	r.Del("Proxy-Connection")
	r.Del("Proxy-Authorization")
	r.Del("Proxy-Authenticate")
	if r.Has("Host") {
		return nil
	}
	return r.Add("Host", host)
}

// ParseAuthority reads "host", "host:port" or "[IPv6]:port", with or without
// credentials before an @, which are dropped. Errors are *flow.Error.
func ParseAuthority(authority string, port uint16) (flow.Origin, error) {
	text := authority[strings.LastIndexByte(authority, '@')+1:]
	host, digits := text, ""
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		host, digits = text[:i], text[i+1:]
	}
	if digits != "" {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 {
			return flow.Origin{}, authorityError(authority, "its port is none")
		}
		port = uint16(n)
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
		if ip, _, _ := strings.Cut(host, "%"); net.ParseIP(ip) == nil {
			return flow.Origin{}, authorityError(authority, "there is no address in the brackets")
		}
	} else if strings.ContainsAny(host, ":[]") {
		return flow.Origin{}, authorityError(authority, "an IPv6 address stands in brackets")
	}
	if len(host) > maxHost {
		return flow.Origin{}, authorityError(authority, "no host has so long a name")
	}
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == '\\' }) {
		return flow.Origin{}, authorityError(authority, "it names no host")
	}
	return flow.Origin{Host: strings.ToLower(host), Port: port}, nil
}

// How long a name may be (RFC 1035 §2.3.4 with a dot behind it), the authority
// that a connection remembers, and the part of one that an error shows.
const (
	maxHost  = 255
	maxRoute = 1 << 10
	maxShown = 200
)

func authorityError(authority, why string) error {
	if len(authority) > maxShown {
		authority = authority[:maxShown] + "…"
	}
	return &flow.Error{Status: 400, Reason: flow.ReasonBadRequest,
		Detail: fmt.Sprintf("%q is not where a request can go: %s.", authority, why),
		Next:   "Ask for http://HOST:PORT/PATH, or CONNECT HOST:PORT."}
}

// isSelf tells whether an origin is one of the server's listeners: its port,
// and an address of this machine that the listener covers. Names are not
// resolved here; IsSelf is for the one who does.
func (s *Server) isSelf(o flow.Origin) bool { return s.at(o, s.IsSelf) }

// at asks about the addresses that an origin surely has.
func (s *Server) at(o flow.Origin, is func(net.Addr) bool) bool {
	host := strings.TrimSuffix(o.Host, ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return is(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(o.Port)}) ||
			is(&net.TCPAddr{IP: net.IPv6loopback, Port: int(o.Port)})
	}
	host, _, _ = strings.Cut(host, "%")
	ip := net.ParseIP(host)
	if ip == nil {
		ip = looseIP(host)
	}
	return ip != nil && is(&net.TCPAddr{IP: ip, Port: int(o.Port)})
}

// looseIP reads an IPv4 address as inet_aton(3) does, and so resolvers and other
// proxies on the way: in decimal, octal or hexadecimal, and with fewer than four
// parts, of which the last has the rest. nil: it is none.
func looseIP(host string) net.IP {
	parts := strings.Split(host, ".")
	if len(parts) > net.IPv4len {
		return nil
	}
	var ip uint64
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 0, 32)
		left := 8 * (net.IPv4len - i) // bits
		if err != nil || strings.Contains(part, "_") || i < len(parts)-1 && n > 255 || n>>left > 0 {
			return nil
		}
		if i < len(parts)-1 {
			n <<= left - 8
		}
		ip |= n
	}
	return net.IPv4(byte(ip>>24), byte(ip>>16), byte(ip>>8), byte(ip))
}

// IsSelf tells whether an address that was dialled is one of the server's
// listeners, so that a request cannot go round in circles.
func (s *Server) IsSelf(remote net.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ln := range s.listeners {
		if reaches(remote, ln.Addr()) {
			return true
		}
	}
	return false
}

// Shield keeps clients from an address of this machine that something listens
// at which is not for them. It is to be called before Serve.
func (s *Server) Shield(addr net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shielded = append(s.shielded, addr)
}

// IsShielded tells whether an address that was dialled is one of those.
func (s *Server) IsShielded(remote net.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.shielded, func(a net.Addr) bool { return reaches(remote, a) })
}

// ShieldedError is what a client is told that asks for such an address.
func ShieldedError(authority string) error {
	return &flow.Error{Status: 403, Reason: flow.ReasonShielded, Detail: fmt.Sprintf("The request asks Holdfast to proxy to its own API at %s.", authority),
		Next: "Ask the API directly, without a proxy; pages and tools behind Holdfast cannot reach it."}
}

// reaches tells whether an address that was dialled leads to a listener.
func reaches(remote, listener net.Addr) bool {
	a, ok := remote.(*net.TCPAddr)
	l, listens := listener.(*net.TCPAddr)
	if !ok || !listens || l.Port != a.Port {
		return false
	}
	// Dialling the unspecified address reaches this machine.
	return l.IP.Equal(a.IP) || a.IP.IsUnspecified() || l.IP.IsUnspecified() && isLocal(a.IP)
}

// Connections is how many connections with clients are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// isLocal tells whether an address is this machine's.
func isLocal(ip net.IP) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}

func selfError(authority string) error {
	return &flow.Error{Status: 508, Reason: flow.ReasonLoop,
		Detail: fmt.Sprintf("%s is Holdfast's own address, so the request would go round in circles.", authority),
		Next:   "Set this address as the client's proxy, and ask for the origin's URL. http://" + LocalHost + "/ is Holdfast's own page."}
}
