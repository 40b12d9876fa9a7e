package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
)

// PassThrough says which tunnels are not looked into. Their bytes go on as they
// are, TLS is the client's with the origin, and no certificate is made. The
// zero value looks into all of them.
type PassThrough struct {
	// Hosts are compared with what CONNECT or SOCKS asks for, and with SNI.
	Hosts flow.HostPatterns
	// After is how many times a client must refuse the certificate for a host,
	// by an alert of TLS, until that host is passed through for that client's
	// address; 0: it never is. It lasts until Forget or the server's end.
	After int
	// Covered names hosts that are looked into all the same, because somebody
	// relies on it; those are only warned about. Nil: none. Any goroutine
	// calls it.
	Covered func(host string) bool
	// Warn is told of what a person should hear of. Nil drops it. Any
	// goroutine calls it.
	Warn func(string)
}

// Passed is a host that is passed through for one client because that refused
// its certificate.
type Passed struct {
	Client string    `json:"client"` // IP address
	Host   string    `json:"host"`
	Since  time.Time `json:"since"`
	Count  int       `json:"connections"` // passed through so far
}

// maxRefusals bounds the pairs of clients and hosts that are remembered; the
// one that was heard of longest ago goes first.
const maxRefusals = 1024

type pair struct{ client, host string }

// refusals are what one client did with the certificate for one host.
type refusals struct {
	count  int
	last   uint64 // rises with each that is heard of
	passed *Passed
	told   bool // that the host is not passed through
}

// passing is the memory behind PassThrough.
type passing struct {
	mu   sync.Mutex
	seen map[pair]*refusals
	last uint64
}

// canPass tells whether any tunnel could be passed through.
func (s *Server) canPass() bool {
	return s.cfg.Tunnel != nil && (len(s.cfg.PassThrough.Hosts) > 0 || s.cfg.PassThrough.After > 0)
}

// passes tells why tunnels of the client to the origin are not looked into, ""
// if they are.
func (s *Server) passes(client net.Conn, o flow.Origin) string {
	if !s.canPass() || o.Host == LocalHost {
		return ""
	}
	host := strings.ToLower(strings.TrimSuffix(o.Host, "."))
	if s.cfg.PassThrough.Hosts.Match(o) {
		return host + " is on the pass-through list: not looked into"
	}
	if s.cfg.PassThrough.After <= 0 {
		return ""
	}
	s.passed.mu.Lock()
	defer s.passed.mu.Unlock()
	r := s.passed.seen[pair{ipOf(client), host}]
	if r == nil || r.passed == nil {
		return ""
	}
	r.passed.Count++
	return fmt.Sprintf("this client refused the certificate for %s %d times: passed through", host, r.count)
}

// rejected counts a refusal of the certificate for a host.
func (s *Server) rejected(client net.Conn, host string) {
	p := &s.cfg.PassThrough
	if p.After <= 0 || s.cfg.Tunnel == nil || host == "" {
		return
	}
	k := pair{ipOf(client), strings.ToLower(strings.TrimSuffix(host, "."))}
	covered := p.Covered != nil && p.Covered(k.host)
	if warning := s.passed.count(k, p.After, covered, s.cfg.Clock()); warning != "" && p.Warn != nil {
		p.Warn(warning)
	}
}

func (m *passing) count(k pair, after int, covered bool, now time.Time) (warning string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.seen[k]
	if r == nil {
		if len(m.seen) >= maxRefusals {
			m.dropOldest()
		}
		if m.seen == nil {
			m.seen = map[pair]*refusals{}
		}
		r = new(refusals)
		m.seen[k] = r
	}
	m.last++
	r.count, r.last = r.count+1, m.last
	switch {
	case r.count < after || r.passed != nil || r.told:
		return ""
	case covered:
		r.told = true
		return fmt.Sprintf("%s refused the certificate for %s %d times; a rule covers that host, so it is not passed through: have the client trust Holdfast's root certificate (http://%s/), or name the host with --pass-through",
			k.client, k.host, r.count, LocalHost)
	}
	r.passed = &Passed{Client: k.client, Host: k.host, Since: now}
	return fmt.Sprintf("%s refused the certificate for %s %d times: from now on it is passed through for that client, not looked into. To undo this, have the client trust Holdfast's root certificate (http://%s/) and restart, or use --no-auto-pass-through",
		k.client, k.host, r.count, LocalHost)
}

// dropOldest forgets the pair that was heard of longest ago.
func (m *passing) dropOldest() {
	var oldest pair
	first := true
	for k, r := range m.seen {
		if first || r.last < m.seen[oldest].last {
			oldest, first = k, false
		}
	}
	delete(m.seen, oldest)
}

// Passed lists what is passed through since clients refused certificates, by
// host and client.
func (s *Server) Passed() []Passed {
	s.passed.mu.Lock()
	defer s.passed.mu.Unlock()
	all := []Passed{}
	for _, r := range s.passed.seen {
		if r.passed != nil {
			all = append(all, *r.passed)
		}
	}
	slices.SortFunc(all, func(a, b Passed) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Client, b.Client))
	})
	return all
}

// Forget has every host looked into again that is passed through since clients
// refused its certificate, and forgets the refusals.
func (s *Server) Forget() {
	s.passed.mu.Lock()
	defer s.passed.mu.Unlock()
	clear(s.passed.seen)
}

// ipOf is the address of a client without its port.
func ipOf(conn net.Conn) string {
	addr := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// alerted tells whether a handshake failed because the client does not like
// the certificate (RFC 8446 §6.2): bad, unsupported, revoked, expired, unknown,
// of an unknown authority.
func alerted(err error) bool {
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" { // as crypto/tls marks alerts of the peer
		return false
	}
	text := strings.TrimPrefix(remote.Err.Error(), "tls: ") // its alerts have no other face
	for code := range uint8(255) {
		if name := refusalName(code); name != "" && name == text {
			return true
		}
	}
	return false
}

// refusalName is what crypto/tls calls the alerts of a client that does not
// like a certificate.
func refusalName(alert uint8) string {
	switch alert {
	case 42:
		return "bad certificate"
	case 43:
		return "unsupported certificate"
	case 44:
		return "revoked certificate"
	case 45:
		return "expired certificate"
	case 46:
		return "unknown certificate"
	case 48:
		return "unknown certificate authority"
	}
	return ""
}

// plainAlert is the alert that the client sent last if that was one about the
// certificate, unencrypted. OpenSSL refuses certificates of TLS 1.3 like that,
// which crypto/tls takes for an encrypted record that is broken.
func (b *begunConn) plainAlert() error {
	const recordAlert = 0x15
	t := b.tail
	name := refusalName(t[6])
	if t[0] != recordAlert || t[1] != 3 || t[3] != 0 || t[4] != 2 || t[5] < 1 || t[5] > 2 || name == "" {
		return nil
	}
	return &net.OpError{Op: "remote error", Err: errors.New("tls: " + name)}
}
