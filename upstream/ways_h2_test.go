package upstream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// HTTP/2 takes the same ways out: by proxies, with each identity's certificate.
func TestWaysOfHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	at := netip.MustParseAddrPort(s.Listener.Addr().String())
	origin := flow.Origin{TLS: true, Host: at.Addr().String(), Port: at.Port()}
	for _, scheme := range []string{"", upstream.SchemeHTTP, upstream.SchemeSOCKS5H} {
		t.Run("by "+scheme, func(t *testing.T) {
			ways := upstream.Ways{Settings: []upstream.Settings{
				{Identities: []string{"alice"}, Certificate: clientCertificate(t, "Alice")},
				{Identities: []string{"bob"}, Certificate: clientCertificate(t, "Bob")},
			}}
			var m *middle
			if scheme != "" {
				m = newMiddle(t, scheme, nil, nil)
				ways.Proxies = by(m.at).Proxies
			}
			p := newPool(t, upstream.Config{Roots: []*x509.Certificate{s.Certificate()}, Ways: ways})
			for range 3 {
				for identity, name := range map[string]string{"alice": "Alice", "bob": "Bob"} {
					f := as(by2(t, origin), identity)
					if err := p.Send(t.Context(), f); err != nil {
						t.Fatal(err)
					}
					if got := answer(t, f); !strings.HasSuffix(got, "HTTP/2.0 "+name) {
						t.Errorf("%s came as %q", identity, got)
					}
				}
			}
			wantReason(t, p.Send(t.Context(), as(by2(t, origin), "carol")), flow.ReasonClientCert)
			if m != nil && len(m.seen()) > 5 { // two links, and carol's tries
				t.Errorf("the proxy was asked %d times: %q", len(m.seen()), m.seen())
			}
		})
	}
}

// by2 is a request that came by HTTP/2.
func by2(t testing.TB, at flow.Origin) *flow.Flow {
	t.Helper()
	r := new(wire.Request)
	r.Reset(wire.HTTP2)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}} {
		if err := r.AppendField([]byte(field[0]), []byte(field[1]), 0); err != nil {
			t.Fatal(err)
		}
	}
	return &flow.Flow{Origin: at, Received: r, Request: r, Start: time.Now()}
}

// TestAFlowThatEndsWhileTheOriginGreets: a connection whose first flow is
// cancelled in that moment serves the next one, or nobody.
func TestAFlowThatEndsWhileTheOriginGreets(t *testing.T) {
	for range 200 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			for {
				raw, err := ln.Accept()
				if err != nil {
					return
				}
				group.Go(func() {
					defer raw.Close()
					conn := h2.New(raw, raw, h2.Config{Accept: func(s *h2.Stream) {
						var head wire.Head
						head.Reset(wire.HTTP2)
						head.AppendField([]byte(":status"), []byte("204"), 0)
						s.WriteHead(&head, true)
						s.Flush()
						s.Done()
					}})
					conn.Start(false)
					cancel()
					conn.Run()
				})
			}
		})
		p := newPool(t, upstream.Config{})
		at := netip.MustParseAddrPort(ln.Addr().String())
		origin := flow.Origin{Host: at.Addr().String(), Port: at.Port()}
		p.Send(ctx, by2(t, origin))
		if err := p.Send(t.Context(), by2(t, origin)); err != nil {
			t.Fatal(err)
		}
		p.Close()
		ln.Close()
		group.Wait()
	}
}

// The connection that found out what the origin speaks serves the first flow,
// also one that must not be sent twice: that session tickets lie on it unread
// (RFC 8446 §4.6.1) says nothing.
func TestTheConnectionThatAskedServesTheFirstFlow(t *testing.T) {
	leaf, err := newAuthority(t).Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t, nil)
	o.at.TLS = true
	// Asked for a certificate, the client has to finish before it gets tickets.
	o.Listener = tls.NewListener(o.Listener, &tls.Config{Certificates: []tls.Certificate{*leaf}, ClientAuth: tls.RequestClientCert})
	done := make(chan struct{})
	ready := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := o.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if err := conn.(*tls.Conn).Handshake(); err != nil { // with the tickets
			t.Error(err)
		}
		close(ready)
		r := wire.NewReader(conn, wire.Limits{})
		var req wire.Request
		if err := r.ReadRequest(&req); err != nil || !drain(r, &req) {
			t.Errorf("the first connection brought no request: %v", err)
		}
		io.WriteString(conn, okAnswer)
	}()
	p := newPool(t, upstream.Config{Insecure: true})
	if speaks, err := p.SpeaksHTTP2(t.Context(), o.at); speaks || err != nil {
		t.Fatalf("speaks HTTP/2: %v, %v", speaks, err)
	}
	<-ready
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f := request(t, o.at, "POST", "body")
	if err := p.Send(ctx, f); err != nil {
		t.Fatal(err)
	}
	answer(t, f)
	<-done
}
