//go:build linux || darwin || freebsd || netbsd || openbsd

package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// resting is how many connections rest. They show in the stacks of their
// goroutines, and nowhere else.
func resting() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "proxy.awaitReadable(")
}

// oftenLooked are limits with which a connection rests after a few milliseconds.
func oftenLooked() proxy.Limits { return proxy.Limits{HalfClosed: 4 * time.Millisecond} }

func TestIdleConnectionRestsAndGoesOn(t *testing.T) {
	ways := map[string]func(w *world) net.Conn{
		"to the proxy":       func(w *world) net.Conn { return w.dial() },
		"through the tunnel": func(w *world) net.Conn { return w.tunnel("x.example:80") },
		"through TLS":        func(w *world) net.Conn { return w.secure(w.tunnel("x.example:443"), "x.example") },
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, proxy.Config{Limits: oftenLooked()}, upstream.Config{}, answerOK)
			conn := way(w)
			for range 3 {
				for range 2 {
					write(t, conn, get("x.example", ""))
					readOK(t, conn)
				}
				eventually(t, "the connection rests", func() bool { return resting() == 1 })
			}
			conn.Close()
			eventually(t, "the connection is over", func() bool { return resting() == 0 })
		})
	}
}

// takeOK reads one answer of answerOK.
func takeOK(conn net.Conn) error {
	answer := make([]byte, 0, 512)
	for !strings.HasSuffix(string(answer), "\r\n\r\n"+okBody) {
		n, err := conn.Read(answer[len(answer):cap(answer)])
		if answer = answer[:len(answer)+n]; err != nil {
			return fmt.Errorf("%q: %w", answer, err)
		}
		if len(answer) == cap(answer) {
			break
		}
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") {
		return fmt.Errorf("%q", answer)
	}
	return nil
}

func readOK(t testing.TB, conn net.Conn) {
	t.Helper()
	if err := takeOK(conn); err != nil {
		t.Fatal("the answer: ", err)
	}
}

// slowWriter holds the second half of each write back until it may go.
type slowWriter struct {
	net.Conn
	before func()
}

func (s *slowWriter) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	if s.before != nil {
		s.before()
	}
	m, err := s.Conn.Write(p[len(p)/2:])
	return n + m, err
}

func TestHalfARecordRestsToo(t *testing.T) {
	w := newWorld(t, proxy.Config{Limits: oftenLooked()}, upstream.Config{}, answerOK)
	slow := &slowWriter{Conn: w.tunnel("x.example:443")}
	conn := w.secure(slow, "x.example")
	write(t, conn, get("x.example", ""))
	readOK(t, conn)
	eventually(t, "the connection rests", func() bool { return resting() == 1 })
	slow.before = func() {
		// The half ends the first rest; being no whole record, it begins no request.
		eventually(t, "the connection rests", func() bool { return resting() == 1 })
	}
	write(t, conn, get("x.example", ""))
	readOK(t, conn)
}

func TestRestEnds(t *testing.T) {
	start := func(t *testing.T) (*world, net.Conn) {
		w := newWorld(t, proxy.Config{Limits: oftenLooked()}, upstream.Config{}, answerOK)
		conn := w.secure(w.tunnel("x.example:443"), "x.example")
		write(t, conn, get("x.example", ""))
		readOK(t, conn)
		eventually(t, "the connection rests", func() bool { return resting() == 1 })
		return w, conn
	}
	wantEnd := func(t *testing.T, conn net.Conn) {
		t.Helper()
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%v, want the end", err)
		}
	}
	t.Run("with its limit", func(t *testing.T) {
		limits := oftenLooked()
		limits.Idle = enough // much later than the rest begins
		w := newWorld(t, proxy.Config{Limits: limits}, upstream.Config{}, answerOK)
		wantEnd(t, w.dial())
		conn := w.tunnel("x.example:80")
		write(t, conn, get("x.example", ""))
		readOK(t, conn)
		wantEnd(t, conn)
	})
	t.Run("with a shutdown", func(t *testing.T) {
		w, conn := start(t)
		if err := w.server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		wantEnd(t, conn)
	})
	t.Run("with the server", func(t *testing.T) {
		w, conn := start(t)
		w.server.Close()
		wantEnd(t, conn)
	})
}

// Requests arrive at the moments at which connections are about to rest: none
// may be lost to the deadline that ends the read before.
func TestRequestsMeetTheRest(t *testing.T) {
	w := newWorld(t, proxy.Config{Limits: oftenLooked()}, upstream.Config{}, answerOK)
	var all sync.WaitGroup
	for i := range 16 {
		conn := w.secure(w.tunnel("x.example:443"), "x.example")
		all.Add(1)
		go func() {
			defer all.Done()
			for n := range 100 {
				pause := time.Duration(1500+(i*37+n*91)%1500) * time.Microsecond
				<-time.After(pause)
				if _, err := io.WriteString(conn, get("x.example", "")); err != nil {
					t.Error(err)
					return
				}
				if err := takeOK(conn); err != nil {
					t.Errorf("request %d of client %d: %v", n, i, err)
					return
				}
			}
		}()
	}
	all.Wait()
}
