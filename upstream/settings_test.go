package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

// A visit is one connection as a TLS origin saw it.
type visit struct {
	name    string // of the client certificate
	version uint16
	suite   uint16
	resumed bool
	number  int // of the connection
}

// newTLSOrigin answers each request with okAnswer and tells who came, request
// by request.
func newTLSOrigin(t testing.TB, cfg *tls.Config) (flow.Origin, <-chan visit) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	visits := make(chan visit, 100)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for n := 1; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				r := wire.NewReader(conn, wire.Limits{})
				for {
					var req wire.Request
					if r.ReadRequest(&req) != nil || !drain(r, &req) {
						return
					}
					state := conn.(*tls.Conn).ConnectionState()
					v := visit{version: state.Version, suite: state.CipherSuite, resumed: state.DidResume, number: n}
					if len(state.PeerCertificates) > 0 {
						v.name = state.PeerCertificates[0].Subject.CommonName
					}
					visits <- v
					if close := strings.HasPrefix(string(req.Target()), "/close"); close {
						io.WriteString(conn, strings.Replace(okAnswer, "\r\n", "\r\nConnection: close\r\n", 1))
						return
					}
					io.WriteString(conn, okAnswer)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return flow.Origin{TLS: true, Host: "127.0.0.1", Port: uint16(ln.Addr().(*net.TCPAddr).Port)}, visits
}

// serving is a configuration with a certificate of the authority.
func serving(t testing.TB, authority *ca.Authority) *tls.Config {
	t.Helper()
	leaf, err := authority.Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{*leaf}}
}

// clientCertificate is one of the name, which signs itself.
func clientCertificate(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func as(f *flow.Flow, identity string) *flow.Flow {
	f.Identity = identity
	return f
}

func to(t testing.TB, at flow.Origin, path string) *flow.Flow {
	t.Helper()
	return withHead(t, at, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
}

// sendTo sends, whatever head the answer has.
func sendTo(t testing.TB, p *upstream.Pool, f *flow.Flow) {
	t.Helper()
	if err := p.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	answer(t, f)
}

func TestClientCertificates(t *testing.T) {
	authority := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cfg := serving(t, authority)
			cfg.MinVersion, cfg.MaxVersion, cfg.ClientAuth = version, version, tls.RequestClientCert
			at, visits := newTLSOrigin(t, cfg)
			here := patterns(t, "127.0.0.1")
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}, Ways: upstream.Ways{Settings: []upstream.Settings{
				{Hosts: patterns(t, "other.example"), Certificate: clientCertificate(t, "wrong")},
				{Hosts: here, Identities: []string{"alice"}, Certificate: clientCertificate(t, "Alice")},
				{Hosts: here, Identities: []string{"bob", "robert"}, Certificate: clientCertificate(t, "Bob")},
			}}})
			seen := map[int]string{}
			for range 3 {
				for identity, want := range map[string]string{"alice": "Alice", "bob": "Bob", "robert": "Bob", "carol": "", "": ""} {
					// A connection kept, then one that is closed: the next is new, and may resume.
					for _, path := range []string{"/", "/close"} {
						sendTo(t, p, as(to(t, at, path), identity))
						v := <-visits
						if v.name != want {
							t.Errorf("%q came as %q, resumed %v", identity, v.name, v.resumed)
						}
						if who, known := seen[v.number]; known && who != identity {
							t.Errorf("%q and %q shared connection %d", who, identity, v.number)
						}
						seen[v.number] = identity
					}
				}
			}
		})
	}
}

func TestResumption(t *testing.T) {
	authority := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cfg := serving(t, authority)
			cfg.MinVersion, cfg.MaxVersion, cfg.ClientAuth = version, version, tls.RequestClientCert
			at, visits := newTLSOrigin(t, cfg)
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}, Ways: upstream.Ways{Settings: []upstream.Settings{
				{Certificate: clientCertificate(t, "everybody's")}}}})
			for _, c := range []struct {
				identity string
				resumed  bool
			}{{"alice", false}, {"alice", true}, {"bob", false}, {"bob", true}, {"alice", true}, {"", false}} {
				sendTo(t, p, as(to(t, at, "/close"), c.identity))
				if v := <-visits; v.resumed != c.resumed || v.name != "everybody's" {
					t.Errorf("%q: resumed %v, certificate %q", c.identity, v.resumed, v.name)
				}
			}
		})
	}
}

func TestOriginWantsACertificate(t *testing.T) {
	authority := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cfg := serving(t, authority)
			cfg.MinVersion, cfg.MaxVersion, cfg.ClientAuth = version, version, tls.RequireAndVerifyClientCert
			cfg.ClientCAs = x509.NewCertPool()
			at, _ := newTLSOrigin(t, cfg)
			for _, settings := range [][]upstream.Settings{nil, {{Certificate: clientCertificate(t, "unknown")}}} {
				p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}, Ways: upstream.Ways{Settings: settings}})
				reason := flow.ReasonClientCert
				if version == tls.VersionTLS12 && settings == nil {
					reason = flow.ReasonUnreachable // handshake_failure, which may mean other things too
				}
				e := wantReason(t, p.Send(t.Context(), to(t, at, "/")), reason)
				if !strings.Contains(e.Next, "certificate") {
					t.Errorf("the next step is %q", e.Next)
				}
			}
		})
	}
}

func TestOldTLS(t *testing.T) {
	authority := newAuthority(t)
	yes, no := true, false
	for _, c := range []struct {
		about    string
		origin   func(*tls.Config)
		settings upstream.Settings
		works    bool
	}{
		{"TLS 1.0 is refused", func(o *tls.Config) { o.MinVersion, o.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, upstream.Settings{}, false},
		{"TLS 1.0 where it is allowed", func(o *tls.Config) { o.MinVersion, o.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 },
			upstream.Settings{MinTLS: tls.VersionTLS10}, true},
		{"TLS 1.1 is not 1.0", func(o *tls.Config) { o.MinVersion, o.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 },
			upstream.Settings{MinTLS: tls.VersionTLS11}, false},
		{"TLS 1.2 where 1.3 is wanted", func(o *tls.Config) { o.MaxVersion = tls.VersionTLS12 }, upstream.Settings{MinTLS: tls.VersionTLS13}, false},
		{"RC4 is refused", func(o *tls.Config) {
			o.MaxVersion, o.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
		}, upstream.Settings{}, false},
		{"RC4 where it is allowed", func(o *tls.Config) {
			o.MaxVersion, o.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
		}, upstream.Settings{Legacy: &yes}, true},
		{"RC4 where it is said not to be", func(o *tls.Config) {
			o.MaxVersion, o.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
		}, upstream.Settings{Legacy: &no}, false},
		{"a modern origin where legacy is allowed", func(*tls.Config) {}, upstream.Settings{Legacy: &yes, MinTLS: tls.VersionTLS10}, true},
	} {
		t.Run(c.about, func(t *testing.T) {
			cfg := serving(t, authority)
			c.origin(cfg)
			at, visits := newTLSOrigin(t, cfg)
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{authority.Root()}, Ways: upstream.Ways{Settings: []upstream.Settings{c.settings}}})
			err := p.Send(t.Context(), to(t, at, "/"))
			if !c.works {
				wantReason(t, err, flow.ReasonUnreachable)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if v := <-visits; cfg.MaxVersion != 0 && v.version != cfg.MaxVersion || len(cfg.CipherSuites) > 0 && v.suite != cfg.CipherSuites[0] {
				t.Errorf("agreed on %s, %s", tls.VersionName(v.version), tls.CipherSuiteName(v.suite))
			}
		})
	}
}

func TestTrustPerHost(t *testing.T) {
	authority := newAuthority(t)
	at, _ := newTLSOrigin(t, serving(t, authority))
	yes, no := true, false
	here, elsewhere := patterns(t, "127.0.0.0/8"), patterns(t, "other.example")
	roots := []*x509.Certificate{authority.Root()}
	for _, c := range []struct {
		about  string
		config upstream.Config
		works  bool
	}{
		{"not trusted", upstream.Config{}, false},
		{"not checked", upstream.Config{Ways: upstream.Ways{Settings: []upstream.Settings{{Hosts: here, Verify: &no}}}}, true},
		{"not checked elsewhere", upstream.Config{Ways: upstream.Ways{Settings: []upstream.Settings{{Hosts: elsewhere, Verify: &no}}}}, false},
		{"checked here", upstream.Config{Insecure: true, Ways: upstream.Ways{Settings: []upstream.Settings{{Hosts: here, Verify: &yes}}}}, false},
		{"the first that says it", upstream.Config{Ways: upstream.Ways{Settings: []upstream.Settings{
			{Hosts: here, MinTLS: tls.VersionTLS12}, {Hosts: here, Verify: &yes}, {Verify: &no}}}}, false},
		{"a root of its own", upstream.Config{Ways: upstream.Ways{Settings: []upstream.Settings{{Hosts: here, Roots: roots}}}}, true},
		{"a root of another", upstream.Config{Ways: upstream.Ways{Settings: []upstream.Settings{{Hosts: elsewhere, Roots: roots}}}}, false},
		{"everybody's root besides its own", upstream.Config{Roots: roots, Ways: upstream.Ways{Settings: []upstream.Settings{
			{Hosts: here, Roots: []*x509.Certificate{newAuthority(t).Root()}}}}}, true},
	} {
		t.Run(c.about, func(t *testing.T) {
			p := newPool(t, c.config)
			err := p.Send(t.Context(), to(t, at, "/"))
			if !c.works {
				wantReason(t, err, flow.ReasonTLS)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}
