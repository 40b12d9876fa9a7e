package proxy_test

import (
	"net"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// BenchmarkHTTP2 is one request at a time on each of 32 connections, HTTP/2 on
// both sides. Client and origin are in the figure; compare with
// BenchmarkIntercepted and BenchmarkReference.
func BenchmarkHTTP2(b *testing.B) {
	w := newWorld2(b, proxy.Config{}, upstream.Config{}, nil)
	ln := listen2(b, w, "h2")
	answerHead := head2(":status= 200", "content-type= text/html", "server= bench", "content-length= 1024")
	serveOrigin2(b, ln, h2.Config{}, func(s *h2.Stream) {
		s.WriteHead(answerHead, false)
		s.Write(benchBody, true)
	})
	at := authorityOf(ln)
	request := get2(at, "/", "user-agent= bench", "accept= */*", "cookie= sid=0123456789abcdef0123456789abcdef")
	conns := make([]*h2.Conn, benchConnections)
	for i := range conns {
		raw := net.Conn(w.plainConn())
		write(b, raw, "CONNECT "+at+" HTTP/1.1\r\n\r\n")
		read(b, raw, "HTTP/1.1 200 Connection established\r\n\r\n")
		conns[i] = client2(b, w.secure2(raw, "h2"))
	}
	ask(b, conns[0], request)
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	var wg sync.WaitGroup
	for i, c := range conns {
		n := b.N / benchConnections
		if i < b.N%benchConnections {
			n++
		}
		wg.Go(func() {
			for range n {
				s, err := c.Open(request, true)
				if err != nil {
					b.Error(err)
					return
				}
				s.Flush()
				if _, err := s.Head(); err != nil {
					b.Error(err)
					return
				}
				if _, err := all2(s.Body()); err != nil {
					b.Error(err)
				}
				s.Done()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
}
