package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// What a benchmark's request and answer are: fixed sizes, so that neither the
// client nor the origin has anything to parse or to allocate.
var (
	benchHead = "User-Agent: bench\r\nAccept: */*\r\nCookie: sid=0123456789abcdef0123456789abcdef\r\n\r\n"
	benchBody = bytes.Repeat([]byte("0123456789abcdef"), 64)
)

func benchAnswer() []byte {
	return append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nServer: bench\r\nContent-Length: 1024\r\n\r\n"), benchBody...)
}

// answerEach answers each request of the given length on every connection.
func answerEach(ln net.Listener, request int) {
	answer := benchAnswer()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, request)
			for {
				if _, err := io.ReadFull(conn, buffer); err != nil {
					return
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// benchClients runs b.N requests over connections that dial makes. It reports
// the processor time of the whole process: client, proxy and origin.
func benchClients(b *testing.B, connections int, request string, dial func() net.Conn) {
	b.Helper()
	var conns []net.Conn
	for range connections {
		conns = append(conns, dial())
	}
	size := len(benchAnswer())
	round := func(conn net.Conn, n int, buffer []byte) {
		for range n {
			if _, err := conn.Write([]byte(request)); err != nil {
				b.Error(err)
				return
			}
			if _, err := io.ReadFull(conn, buffer); err != nil {
				b.Error(err)
				return
			}
		}
	}
	round(conns[0], 1, make([]byte, size))
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	var wg sync.WaitGroup
	for i, conn := range conns {
		n := b.N / connections
		if i < b.N%connections {
			n++
		}
		wg.Go(func() { round(conn, n, make([]byte, size)) })
	}
	wg.Wait()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}

const benchConnections = 32

func BenchmarkPlain(b *testing.B) {
	w := newWorld(b, proxy.Config{}, upstream.Config{}, nil)
	ln := listen(b)
	host := authorityOf(ln)
	go answerEach(ln, len("GET / HTTP/1.1\r\nHost: "+host+"\r\n"+benchHead))
	benchClients(b, benchConnections, "GET http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\n"+benchHead, w.plainConn)
}

func (w *world) plainConn() net.Conn {
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return conn
}

func BenchmarkIntercepted(b *testing.B) {
	w := newWorld(b, proxy.Config{}, upstream.Config{}, nil)
	ln := listenTLS(b, w.ca, listen(b))
	host := authorityOf(ln)
	request := "GET / HTTP/1.1\r\nHost: " + host + "\r\n" + benchHead
	go answerEach(ln, len(request))
	benchClients(b, benchConnections, request, func() net.Conn {
		conn := w.plainConn()
		write(b, conn, "CONNECT "+host+" HTTP/1.1\r\n\r\n")
		read(b, conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		return w.secure(conn, "127.0.0.1")
	})
}

// BenchmarkReference is what cannot be saved: TLS on both sides, one read and
// one write each, no look at the bytes.
func BenchmarkReference(b *testing.B) {
	authority := newAuthority(b)
	ln := listenTLS(b, authority, listen(b))
	host := authorityOf(ln)
	request := "GET / HTTP/1.1\r\nHost: " + host + "\r\n" + benchHead
	go answerEach(ln, len(request))
	front := listenTLS(b, authority, listen(b))
	go func() {
		for {
			conn, err := front.Accept()
			if err != nil {
				return
			}
			go reference(conn, authority, host)
		}
	}()
	benchClients(b, benchConnections, request, func() net.Conn { return trusting(b, authority, authorityOf(front)) })
}

// BenchmarkDirect is the client and the origin alone.
func BenchmarkDirect(b *testing.B) {
	authority := newAuthority(b)
	ln := listenTLS(b, authority, listen(b))
	host := authorityOf(ln)
	request := "GET / HTTP/1.1\r\nHost: " + host + "\r\n" + benchHead
	go answerEach(ln, len(request))
	benchClients(b, benchConnections, request, func() net.Conn { return trusting(b, authority, host) })
}

func reference(client net.Conn, authority *ca.Authority, host string) {
	defer client.Close()
	origin, err := tls.Dial("tcp", host, &tls.Config{RootCAs: authority.Pool()})
	if err != nil {
		return
	}
	defer origin.Close()
	buffer := make([]byte, 16<<10)
	for from, to := net.Conn(client), net.Conn(origin); ; from, to = to, from {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func trusting(b *testing.B, authority *ca.Authority, addr string) net.Conn {
	b.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: authority.Pool()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

func newAuthority(t testing.TB) *ca.Authority {
	t.Helper()
	authority, err := ca.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}
