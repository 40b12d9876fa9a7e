package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-proxy/holdfast/flow"
)

// maxWays is for how many origins (and identities, where those matter) the way
// is remembered; then it is looked up anew.
const maxWays = 4096

// Ways say how origins are reached. The zero value: directly, and all alike.
// In each list the first entry that covers an origin wins; of Settings the
// first one that says something about the matter. Entries without hosts cover
// every origin. Nobody may change it once a pool has it.
type Ways struct {
	Direct   flow.HostPatterns // no proxy for these, whatever Proxies say
	Proxies  []ProxyFor
	Names    []Name
	Settings []Settings
}

// ProxyFor says for which origins there is a proxy on the way.
type ProxyFor struct {
	Hosts flow.HostPatterns
	Proxy Proxy
}

// The protocols that are spoken to proxies.
const (
	SchemeHTTP    = "http"    // CONNECT (RFC 9110 §9.3.6), absolute-form for plain HTTP (RFC 9112 §3.2.2)
	SchemeHTTPS   = "https"   // the same over TLS
	SchemeSOCKS5  = "socks5"  // RFC 1928; names are resolved here
	SchemeSOCKS5H = "socks5h" // RFC 1928; names are resolved by the proxy
)

// Proxy is a proxy between us and origins.
type Proxy struct {
	Scheme string // one of the Scheme constants
	Host   string // name or IP literal without brackets
	Port   uint16
	// User and Password are for Basic (RFC 7617) and for RFC 1929; both empty:
	// none are sent.
	User, Password string
}

// Address is host:port of the proxy.
func (p *Proxy) Address() string { return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))) }

// String is the proxy as a URL without its credentials.
func (p *Proxy) String() string { return p.Scheme + "://" + p.Address() }

// speaksHTTP tells whether it is an HTTP proxy.
func (p *Proxy) speaksHTTP() bool {
	return p != nil && (p.Scheme == SchemeHTTP || p.Scheme == SchemeHTTPS)
}

// Name says where a host is found in place of what its name resolves to. What
// the origin is told (Host, SNI) stays as it is.
type Name struct {
	Hosts   flow.HostPatterns
	Address string // IP address or other name; with a port, that replaces the origin's
}

// Settings are how we present ourselves to an origin, and what we accept of it.
// Zero values say nothing.
type Settings struct {
	Hosts      flow.HostPatterns
	Identities []string // none: whoever the flow speaks for

	Certificate *tls.Certificate    // shown when the origin asks for one
	MinTLS      uint16              // tls.VersionTLS10 to tls.VersionTLS13
	Legacy      *bool               // offer also cipher suites that are broken or weak
	Verify      *bool               // check the origin's certificate
	Roots       []*x509.Certificate // trusted besides all others
	Source      netip.Addr          // local address of connections; Config.Dial is not asked then
}

// A way is what Ways say about one origin.
type way struct {
	proxy   *Proxy // nil: directly
	address string // host:port to connect to, or to have the proxy connect to
	source  netip.Addr
	tls     *tls.Config
	moved   bool // address is not the origin's own
	// own says that connections are one identity's: what they are like, or
	// whose certificate they carry, depends on it.
	own bool
}

// routes are Ways with a memory.
type routes struct {
	ways  Ways
	plain bool // everything is reached the same way
	base  *tls.Config

	mu    sync.RWMutex
	known map[wayKey]*way
}

type wayKey struct {
	origin   flow.Origin
	identity string
}

func newRoutes(w Ways, base *tls.Config) *routes {
	return &routes{ways: w, base: base, known: map[wayKey]*way{},
		plain: len(w.Proxies) == 0 && len(w.Names) == 0 && len(w.Settings) == 0}
}

// to is the way of an identity to an origin.
func (r *routes) to(o flow.Origin, identity string) *way {
	k := wayKey{origin: o, identity: identity}
	r.mu.RLock()
	w := r.known[k]
	r.mu.RUnlock()
	if w != nil {
		return w
	}
	w = r.find(o, identity)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxWays {
		clear(r.known)
	}
	r.known[k] = w
	return w
}

func covers(hosts flow.HostPatterns, o flow.Origin) bool { return len(hosts) == 0 || hosts.Match(o) }

func (r *routes) find(o flow.Origin, identity string) *way {
	w := &way{address: address(o), tls: r.base}
	if !r.ways.Direct.Match(o) {
		for i := range r.ways.Proxies {
			if p := &r.ways.Proxies[i]; covers(p.Hosts, o) {
				w.proxy = &p.Proxy
				break
			}
		}
	}
	if o.Address != "" { // the client resolved the name
		w.address, w.moved = withPort(o.Address, o.Port), true
	}
	for _, n := range r.ways.Names {
		if covers(n.Hosts, o) {
			w.address, w.moved = withPort(n.Address, o.Port), true
			break
		}
	}
	r.settle(w, o, identity)
	return w
}

// withPort adds the port to an address that has none.
func withPort(addr string, port uint16) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), strconv.Itoa(int(port)))
}

// settle applies the Settings.
func (r *routes) settle(w *way, o flow.Origin, identity string) {
	var s Settings
	for i := range r.ways.Settings {
		e := &r.ways.Settings[i]
		if !covers(e.Hosts, o) {
			continue
		}
		w.own = w.own || e.Certificate != nil || len(e.Identities) > 0
		if len(e.Identities) > 0 && !slices.Contains(e.Identities, identity) {
			continue
		}
		first(&s.Certificate, e.Certificate)
		first(&s.MinTLS, e.MinTLS)
		first(&s.Legacy, e.Legacy)
		first(&s.Verify, e.Verify)
		first(&s.Source, e.Source)
		if s.Roots == nil {
			s.Roots = e.Roots
		}
	}
	w.source = s.Source
	if s.Certificate == nil && s.MinTLS == 0 && s.Legacy == nil && s.Verify == nil && s.Roots == nil {
		return
	}
	w.tls = r.base.Clone()
	s.apply(w.tls)
}

// first sets what no entry before has set.
func first[T comparable](into *T, value T) {
	var unsaid T
	if *into == unsaid {
		*into = value
	}
}

func (s *Settings) apply(cfg *tls.Config) {
	if s.Certificate != nil {
		// The one that was named for the origin, also when the origin's list
		// of authorities (RFC 8446 §4.2.4) does not have its issuer.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.Certificate, nil }
	}
	if s.MinTLS != 0 {
		cfg.MinVersion = s.MinTLS
	}
	if s.Legacy != nil && *s.Legacy {
		for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
			cfg.CipherSuites = append(cfg.CipherSuites, suite.ID)
		}
	}
	if s.Verify != nil {
		cfg.InsecureSkipVerify = !*s.Verify
	}
	if len(s.Roots) > 0 {
		cfg.RootCAs = trust(cfg.RootCAs, s.Roots)
	}
}

// trust adds roots to those of a pool; nil is the system's.
func trust(pool *x509.CertPool, roots []*x509.Certificate) *x509.CertPool {
	if pool == nil {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil { // a system without a store: the given roots alone
			pool = x509.NewCertPool()
		}
	} else {
		pool = pool.Clone()
	}
	for _, root := range roots {
		pool.AddCert(root)
	}
	return pool
}

// tickets is a part of the memory for TLS resumption: a session is resumed only
// with the origin, the port and the identity that it was made with, since it
// carries the client certificate that was shown then (RFC 8446 §2.2).
type tickets struct {
	tls.ClientSessionCache
	part string
}

func (t tickets) Get(name string) (*tls.ClientSessionState, bool) {
	return t.ClientSessionCache.Get(t.part + name)
}

func (t tickets) Put(name string, s *tls.ClientSessionState) {
	t.ClientSessionCache.Put(t.part+name, s)
}

// tlsFor is the configuration for one connection.
func (p *Pool) tlsFor(w *way, o flow.Origin, identity string, offer []string) *tls.Config {
	cfg := w.tls.Clone()
	cfg.NextProtos = offer
	cfg.ServerName = o.Host // also checked when an IP; sent only when a name
	cfg.ClientSessionCache = tickets{cfg.ClientSessionCache, address(o) + "\x00" + identity + "\x00"}
	return cfg
}

// keyOf says which connections may carry the flow. It allocates nothing for
// an origin that is known.
func (p *Pool) keyOf(f *flow.Flow) key {
	k := key{origin: f.Origin}
	if p.routes.plain {
		return k
	}
	w := p.routes.to(f.Origin, f.Identity)
	if w.own {
		k.identity = f.Identity
	}
	if w.proxy.speaksHTTP() && !f.Origin.TLS {
		k.tunnel = w.moved || !fitsAbsolute(f)
	}
	return k
}

// linkKey is keyOf for HTTP/2, which no proxy in absolute-form understands.
func (p *Pool) linkKey(o flow.Origin, identity string) key {
	k := key{origin: o}
	if p.routes.plain {
		return k
	}
	w := p.routes.to(o, identity)
	if w.own {
		k.identity = identity
	}
	k.tunnel = w.proxy.speaksHTTP() && !o.TLS
	return k
}
