package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// FuzzExchange plays both ends: what a client writes into a tunnel, and what
// the origin answers, each in pieces. What reaches the origin are the client's
// requests as our reader sees them, byte for byte, none of them more often than
// the trace says; what reaches the client are the answers to these, in order,
// or the proxy's own; and everything ends.
//
// Bits of mode are the policy (0 and 1) and whether the origin says all it has
// at its first request (2).
func FuzzExchange(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		tr, err := readTranscript(file)
		if err != nil {
			f.Fatal(err)
		}
		said := map[string]string{}
		for _, s := range tr.steps {
			if s.verb == "" {
				said[s.who] += strings.NewReplacer("{to}", "", "{host}", "x").Replace(s.text)
			}
		}
		if len(said[">"])+len(said["«"]) < 4<<10 { // size is the transcripts' business
			f.Add([]byte(said[">"]), []byte(said["«"]), uint32(len(file)), uint8(tr.policy))
		}
	}
	for i, p := range loadPayloads(f) {
		text := strings.NewReplacer("{to}", "", "{host}", "x").Replace(p.text)
		f.Add([]byte(text), []byte(okHead+okBody+okHead+okBody), uint32(i), uint8(i%8))
	}
	f.Fuzz(func(t *testing.T, client, origin []byte, cuts uint32, mode uint8) {
		if len(client) > 16<<10 || len(origin) > 16<<10 || mode&3 > uint8(wire.Raw) || bytes.Contains(client, []byte(h2.PrefaceHead)) {
			return // HTTP/2 has targets of its own
		}
		x := &fuzzed{t: t, policy: wire.Policy(mode & 3), atOnce: mode&4 != 0, client: client, origin: origin, cuts: cuts}
		x.play()
		x.judge()
	})
}

// fuzzed is one exchange, or several on one connection of a client.
type fuzzed struct {
	t              *testing.T
	policy         wire.Policy
	atOnce         bool
	client, origin []byte
	cuts           uint32

	got     []byte // by the client
	mu      sync.Mutex
	conns   []*bytes.Buffer // what the origin read, by connection
	answers []fuzzedAnswer  // what it said, in order
	retries int
	begun   int
	ended   int
}

// fuzzedAnswer is one answer, interim or final, with the request it is for.
type fuzzedAnswer struct {
	request, raw []byte
	interim      bool
}

func (a fuzzedAnswer) String() string { return fmt.Sprintf("%q to %q", a.raw, a.request) }

// pieces writes in pieces whose sizes are the bytes of cuts.
func (x *fuzzed) pieces(conn net.Conn, raw []byte) {
	for i := 0; len(raw) > 0; i++ {
		n := min(len(raw), int(byte(x.cuts>>(8*(i%4))))*4+1)
		if _, err := conn.Write(raw[:n]); err != nil {
			return
		}
		raw = raw[n:]
	}
}

func (x *fuzzed) stage(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		x.mu.Lock()
		x.begun++
		x.mu.Unlock()
		f.OnEnd(func(f *flow.Flow) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.ended++
			for _, e := range f.Trace.Events {
				if e.Action == flow.ActionRetry {
					x.retries++
				}
			}
		})
		return next(ctx, f)
	}
}

func (x *fuzzed) play() {
	ln := listen(x.t)
	var ends sync.WaitGroup
	ends.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			x.mu.Lock()
			seen := new(bytes.Buffer)
			x.conns = append(x.conns, seen)
			x.mu.Unlock()
			ends.Go(func() { x.serve(conn, seen) })
		}
	})
	pool := upstream.New(upstream.Config{Policy: x.policy})
	server := proxy.New(proxy.Config{Policy: x.policy, Handler: x.stage(pool.Send),
		Limits: proxy.Limits{HalfClosed: 2 * short, Linger: short}})
	at := listen(x.t)
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), at) }()
	w := &world{t: x.t, addr: at.Addr().String()}
	conn := w.tunnel(authorityOf(ln))
	ends.Go(func() {
		x.pieces(conn, x.client)
		conn.(*net.TCPConn).CloseWrite()
	})
	var err error
	if x.got, err = io.ReadAll(conn); isTimeout(err) {
		x.t.Errorf("the client waits for more than %q", x.got)
	}
	conn.Close()
	server.Close()
	pool.Close()
	ln.Close()
	ends.Wait()
	if err := <-served; err != nil {
		x.t.Error(err)
	}
	if x.begun != x.ended {
		x.t.Errorf("%d flows began, %d ended", x.begun, x.ended)
	}
}

// serve answers each request that our reader finds with the next answer there
// is, and leaves behind the last one.
func (x *fuzzed) serve(conn net.Conn, seen *bytes.Buffer) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := io.TeeReader(conn, seen)
	defer io.Copy(io.Discard, in) // else a reset would take the answer with it
	r := wire.NewReader(in, wire.Limits{})
	defer r.Release()
	for rest := x.origin; ; {
		at := seen.Len() - r.Buffered()
		var head wire.Request
		if r.ReadRequest(&head) != nil {
			return
		}
		framing, err := x.policy.Request(&head)
		if err != nil {
			return
		}
		method := bytes.Clone(head.Method())
		for b := r.Body(framing); err == nil && framing.Kind != wire.None; {
			_, err = b.Next()
		}
		if err != nil && err != io.EOF {
			return
		}
		request := bytes.TrimLeft(seen.Bytes()[at:seen.Len()-r.Buffered()], "\r\n")
		list, left := x.nextAnswer(rest, method)
		x.mu.Lock()
		for i, raw := range list {
			x.answers = append(x.answers, fuzzedAnswer{bytes.Clone(request), raw, i < len(list)-1})
		}
		x.mu.Unlock()
		said := rest[:len(rest)-len(left)]
		if x.atOnce {
			said, left = rest, nil
		}
		x.pieces(conn, said)
		if rest = left; len(rest) == 0 {
			conn.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// nextAnswer takes one answer off what the origin has to say, with the interim
// ones before it. What is no answer, or not a whole one, is all of it.
func (x *fuzzed) nextAnswer(raw, method []byte) (list [][]byte, rest []byte) {
	for len(raw) > 0 {
		src := bytes.NewReader(raw)
		r := wire.NewReader(src, wire.Limits{})
		var head wire.Response
		if r.ReadResponse(&head) != nil {
			return append(list, raw), nil
		}
		status := head.Status()
		if status == 101 || string(method) == "CONNECT" && status/100 == 2 {
			return append(list, raw), nil
		}
		framing, err := x.policy.Response(&head, method)
		for b := r.Body(framing); err == nil && framing.Kind != wire.None; {
			_, err = b.Next()
		}
		n := len(raw) - src.Len() - r.Buffered()
		r.Release()
		if err != nil && err != io.EOF {
			return append(list, raw), nil
		}
		list = append(list, raw[:n])
		if raw = raw[n:]; status < 100 || status > 199 {
			return list, raw
		}
	}
	return list, nil
}

// A fuzzedRequest is a span of what the client wrote.
type fuzzedRequest struct {
	start, end int
	method     string
}

// requests are those in what a client wrote, the last one maybe not whole.
func (x *fuzzed) requests(raw []byte) (list []fuzzedRequest) {
	src := bytes.NewReader(raw)
	r := wire.NewReader(src, wire.Limits{})
	defer r.Release()
	at := func() int { return len(raw) - src.Len() - r.Buffered() }
	for {
		var head wire.Request
		if r.ReadRequest(&head) != nil {
			return list
		}
		one := fuzzedRequest{start: at() - len(head.Bytes()), method: string(head.Method())}
		framing, err := x.policy.Request(&head)
		if err != nil {
			return list
		}
		for b := r.Body(framing); err == nil && framing.Kind != wire.None; {
			_, err = b.Next()
		}
		one.end = at()
		list = append(list, one)
		if err != nil && err != io.EOF {
			return list
		}
	}
}

func (x *fuzzed) judge() {
	asked := x.requests(x.client)
	x.judgeOrigin(asked)
	if !x.honest(asked, x.got, 0, x.answers) {
		x.t.Errorf("the client wrote %q\nand got %q\nwhile the origin said %v", x.client, x.got, x.answers)
	}
}

// judgeOrigin looks at what reached the origin.
func (x *fuzzed) judgeOrigin(asked []fuzzedRequest) {
	came, may := map[string]int{}, map[string]int{}
	total := 0
	for _, a := range asked {
		text := string(x.client[a.start:a.end])
		may[text]++
		if may[text] == 1 && slices.Contains([]string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}, a.method) {
			may[text] += x.retries
		}
	}
	for _, conn := range x.conns {
		rest, last := conn.Bytes(), -1
		for len(rest) > 0 {
			found := false
			for i, a := range asked {
				if i <= last {
					continue
				}
				if text := x.client[a.start:a.end]; bytes.HasPrefix(rest, text) {
					came[string(text)]++
					rest, last, found = rest[len(text):], i, true
				} else if bytes.HasPrefix(x.client[a.start:], rest) {
					rest, found = nil, true // it broke off
				}
				if found {
					total++
					break
				}
			}
			if !found && last >= 0 && bytes.HasPrefix(x.client[asked[last].end:], rest) {
				break // a tunnel
			}
			if !found {
				x.t.Fatalf("the client wrote %q\nand the origin read %q, of which %q is no request", x.client, conn.Bytes(), rest)
			}
		}
	}
	for text, n := range came {
		if n > may[text] {
			x.t.Errorf("%q came %d times, %d allowed", text, n, may[text])
		}
	}
	if total > len(asked)+x.retries {
		x.t.Errorf("the client made %d requests of %q, %d came, %d retries", len(asked), x.client, total, x.retries)
	}
}

// honest tells whether what the client got can be taken apart into answers,
// the first of which are to these requests.
func (x *fuzzed) honest(asked []fuzzedRequest, got []byte, k int, said []fuzzedAnswer) bool {
	if len(got) == 0 {
		return true
	}
	method := "GET"
	if k < len(asked) {
		method = asked[k].method
	}
	if n := ownAnswer(got, method); n > 0 && x.honest(asked, got[n:], k+1, said) {
		return true
	}
	for i, a := range said {
		if k >= len(asked) || !bytes.Equal(a.request, x.client[asked[k].start:asked[k].end]) {
			continue
		}
		if bytes.HasPrefix(a.raw, got) {
			return true // it broke off, or is the last one
		}
		next := k + 1
		if a.interim {
			next = k
		}
		if len(a.raw) > 0 && bytes.HasPrefix(got, a.raw) && x.honest(asked, got[len(a.raw):], next, said[i+1:]) {
			return true
		}
	}
	return false
}

// ownAnswer is the length of an answer of the proxy's own.
func ownAnswer(raw []byte, method string) int {
	src := bytes.NewReader(raw)
	r := wire.NewReader(src, wire.Limits{})
	defer r.Release()
	var head wire.Response
	if r.ReadResponse(&head) != nil {
		return 0
	}
	if by, ok := head.Get("Proxy-Status"); !ok || !bytes.HasPrefix(by, []byte("holdfast;")) {
		return 0
	}
	framing, err := wire.ResponseFraming(&head, []byte(method))
	for b := r.Body(framing); err == nil && framing.Kind != wire.None; {
		_, err = b.Next()
	}
	return len(raw) - src.Len() - r.Buffered()
}
