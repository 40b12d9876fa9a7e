package proxy_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// A parting is where one end leaves: after so many bytes of the request or of
// the answer. Beyond their length nobody leaves.
type parting struct {
	clientSends, clientReads int
	originReads, originSends int
	kept                     bool // on a connection to the origin that answered before
}

const stays = 1 << 20

// TestPartings has either end leave at each byte of a request and an answer:
// every flow ends once, and no request that is not idempotent is sent twice.
func TestPartings(t *testing.T) {
	requests := map[string]string{
		"GET":    "GET /r HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"POST":   "POST /r HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 6\r\n\r\nlength",
		"chunks": "POST /r HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	}
	answers := map[string]string{
		"GET":    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nlength",
		"POST":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"chunks": "HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil the end",
	}
	before := runtime.NumGoroutine()
	for _, secure := range []bool{false, true} {
		for name, request := range requests {
			answer := answers[name]
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				m := newMatrix(t, secure, request, answer)
				var all []parting
				for i := range len(request) {
					all = append(all, parting{i, stays, stays, stays, false}, parting{stays, stays, i, stays, false}, parting{stays, stays, i, stays, true})
				}
				for i := range len(answer) {
					all = append(all, parting{stays, i, stays, stays, false}, parting{stays, stays, stays, i, false}, parting{stays, stays, stays, i, true})
				}
				m.run(t, all)
			})
		}
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

type matrix struct {
	w               *world
	secure          bool
	request, answer string
	mu              sync.Mutex
	ends            map[flow.ID]int
}

func newMatrix(t *testing.T, secure bool, request, answer string) *matrix {
	m := &matrix{secure: secure, request: request, answer: answer, ends: map[flow.ID]int{}}
	m.w = newWorld(t, proxy.Config{Limits: proxy.Limits{HalfClosed: short, Linger: time.Second}}, upstream.Config{Limits: upstream.Limits{Idle: time.Second}},
		func(next flow.Handler) flow.Handler {
			return func(ctx context.Context, f *flow.Flow) error {
				id := f.ID
				f.OnEnd(func(*flow.Flow) {
					m.mu.Lock()
					m.ends[id]++
					m.mu.Unlock()
				})
				return next(ctx, f)
			}
		})
	return m
}

func (m *matrix) run(t *testing.T, all []parting) {
	var group sync.WaitGroup
	slots, done := make(chan struct{}, 8), make(chan func(), len(all))
	for _, p := range all {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			m.part(t, p, done)
		})
	}
	group.Wait()
	eventually(t, "every flow ends", func() bool { return m.w.begun.Load() == m.w.over.Load() })
	// Only now: a port that is free goes to the next case, where a request of
	// this one that is still to be sent again would count.
	close(done)
	for end := range done {
		end()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ends) < len(all)/2 {
		t.Errorf("only %d flows in %d cases", len(m.ends), len(all))
	}
	for id, n := range m.ends {
		if n != 1 {
			t.Errorf("flow %v ended %d times", id, n)
		}
	}
}

const warmUp = "GET /warm HTTP/1.1\r\nHost: h\r\n\r\n"

// part plays one case with an origin of its own, whose end it puts into done.
func (m *matrix) part(t *testing.T, p parting, done chan<- func()) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return
	}
	ln := net.Listener(plain)
	if m.secure {
		ln = listenTLS(t, m.w.ca, plain)
	}
	var came atomic.Int64
	var origin sync.WaitGroup
	origin.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			origin.Go(func() { m.serve(conn, p, &came) })
		}
	})
	done <- func() {
		plain.Close()
		origin.Wait()
		if n := came.Load(); n > 1 && !strings.HasPrefix(m.request, "GET") || n > 2 {
			t.Errorf("%+v: the request came %d times", p, n)
		}
	}
	m.visit(t, authorityOf(plain), p)
}

// visit is the client's side. Failures are part of it.
func (m *matrix) visit(t *testing.T, host string, p parting) {
	conn, err := net.Dial("tcp", m.w.addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	established := make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))
	io.WriteString(conn, "CONNECT "+host+" HTTP/1.1\r\n\r\n")
	if _, err := io.ReadFull(conn, established); err != nil {
		t.Errorf("%+v: %v", p, err)
		return
	}
	if m.secure {
		secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secured.Handshake(); err != nil {
			t.Errorf("%+v: %v", p, err)
			return
		}
		conn = secured
		defer secured.Close()
	}
	if p.kept {
		io.WriteString(conn, warmUp)
		if _, err := io.ReadFull(conn, make([]byte, len(okHead+okBody))); err != nil {
			t.Errorf("%+v: warming up: %v", p, err)
			return
		}
	}
	io.WriteString(conn, m.request[:min(p.clientSends, len(m.request))])
	if p.clientSends < len(m.request) {
		return
	}
	_, err = io.CopyN(io.Discard, conn, int64(p.clientReads))
	if isTimeout(err) {
		t.Errorf("%+v: the client waits", p)
	}
}

// serve is the origin's side.
func (m *matrix) serve(conn net.Conn, p parting, came *atomic.Int64) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if p.kept {
		first := make([]byte, len(warmUp))
		if n, err := io.ReadFull(conn, first); err != nil || string(first) != warmUp {
			if n > 0 {
				came.Add(1) // sent again, or for the first time, on a new connection
			}
			return
		}
		io.WriteString(conn, okHead+okBody)
	}
	if p.originReads < len(m.request) {
		if n, _ := io.CopyN(io.Discard, conn, int64(p.originReads)); n > 0 {
			came.Add(1) // the rest may have been on its way
		}
		return
	}
	if _, err := io.ReadFull(conn, make([]byte, len(m.request))); err != nil {
		return
	}
	came.Add(1)
	io.WriteString(conn, m.answer[:min(p.originSends, len(m.answer))])
	if p.originSends >= len(m.answer) && p.clientReads >= stays {
		return
	}
	if p.clientReads < stays { // the client leaves, not the origin
		io.Copy(io.Discard, io.LimitReader(conn, 1))
	}
}
