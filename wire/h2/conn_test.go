package h2_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

func TestAMessageArrivesAsItWasSent(t *testing.T) {
	client, server := pair(t)
	sent := head(":path= /a?b", ":method= POST", "accept= */*", ":scheme= https", "X-Case= Kept",
		"cookie= a=1", "cookie= b=2", ":authority= shop.example", ":odd= pseudo", "connection= keep-alive", "x-evil= a\r\nb: c")
	sent.AppendField([]byte("authorization"), []byte("Bearer secret"), wire.NeverIndex)
	serve(t, server, h2.Config{Policy: wire.Raw}, func(s *h2.Stream) {
		if got := text(&s.Request().Head); got != text(sent) {
			t.Errorf("the request arrived as\n%swant\n%s", got, text(sent))
		}
		body := s.Body()
		got, err := readAll(body)
		if err != nil || got != "some body" || text(body.Framing().Trailers) != "x-sum= 9\n" {
			t.Errorf("body %q (%v), trailers %q", got, err, text(body.Framing().Trailers))
		}
		s.WriteHead(head(":status= 103", "link= x"), false)
		s.WriteHead(head(":status= 200", "server= t"), false)
		s.Write([]byte("answer"), false)
		s.WriteTrailers(head("grpc-status= 0"))
	})
	c := run(t, client, h2.Config{Client: true, Policy: wire.Raw})
	s, err := c.Open(sent, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Write([]byte("some body"), false)
	s.WriteTrailers(head("x-sum= 9"))
	s.Flush()
	for _, want := range []string{":status= 103\nlink= x\n", ":status= 200\nserver= t\n"} {
		r, err := s.Head()
		if err != nil || text(&r.Head) != want {
			t.Fatalf("a head was %v, %v; want %q", r, err, want)
		}
	}
	got, err := readAll(s.Body())
	if err != nil || got != "answer" || text(s.Body().Framing().Trailers) != "grpc-status= 0\n" {
		t.Errorf("answer %q (%v), trailers %q", got, err, text(s.Body().Framing().Trailers))
	}
}

func TestManyStreamsShareAConnection(t *testing.T) {
	client, server := pair(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB: beyond every window
	serve(t, server, h2.Config{}, func(s *h2.Stream) {
		got, err := readAll(s.Body())
		if err != nil {
			t.Error(err)
			return
		}
		s.WriteHead(head(":status= 200"), false)
		s.Write([]byte(got), true)
		s.Flush()
	})
	c := run(t, client, h2.Config{Client: true})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			s, err := c.Open(head(":method= POST", ":scheme= http", ":path= /", ":authority= a"), false)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Done()
			go func() {
				s.Write(large, true)
				s.Flush()
			}()
			if _, err := s.Head(); err != nil {
				t.Error(err)
				return
			}
			if got, err := readAll(s.Body()); err != nil || got != string(large) {
				t.Errorf("%d bytes came back (%v), want %d", len(got), err, len(large))
			}
		})
	}
	wg.Wait()
	if n := c.Active(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestAHeadLargerThanAFrameIsContinued(t *testing.T) {
	client, server := pair(t)
	value := strings.Repeat("~", 60000) // no shorter in Huffman's code
	serve(t, server, h2.Config{}, func(s *h2.Stream) {
		v, _ := s.Request().Get("x-large")
		s.WriteHead(head(":status= 200", "x-large= "+string(v)), true)
	})
	c := run(t, client, h2.Config{Client: true})
	s, err := c.Open(head(":method= GET", ":scheme= http", ":path= /", "x-large= "+value), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Flush()
	r, err := s.Head()
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := r.Get("x-large"); string(v) != value {
		t.Errorf("%d bytes came back, want %d", len(v), len(value))
	}
}

func TestShutdownLetsStreamsEnd(t *testing.T) {
	client, server := pair(t)
	release, over := make(chan bool), make(chan bool, 1)
	srv := serve(t, server, h2.Config{Over: func() { over <- true }}, func(s *h2.Stream) {
		<-release
		s.WriteHead(head(":status= 200"), true)
	})
	c := run(t, client, h2.Config{Client: true})
	s, err := c.Open(head(":method= GET", ":scheme= http", ":path= /"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Done()
	s.Flush()
	for srv.Active() == 0 {
	}
	srv.Shutdown()
	close(release)
	if _, err := s.Head(); err != nil {
		t.Errorf("a stream under way ended with %v", err)
	}
	<-over
	if _, open := c.Room(); open {
		t.Error("the client would open another stream")
	}
}

// counted counts the calls of Read.
type counted struct {
	io.Reader
	calls int
}

func (c *counted) Read(p []byte) (int, error) {
	c.calls++
	return c.Reader.Read(p)
}

// A connection without a stream holds no buffer while it waits for a frame; it
// must not read the frame itself that way.
func TestAFrameIsReadInOnePiece(t *testing.T) {
	var sent bytes.Buffer
	sent.WriteString(h2.Preface)
	framer := http2.NewFramer(&sent, nil)
	framer.AllowIllegalWrites = true
	framer.WriteSettings()
	large := bytes.Repeat([]byte("\x84"), 1<<14)
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: large})
	framer.WriteContinuation(1, false, large)
	framer.WriteContinuation(1, false, large)
	r := &counted{Reader: &sent}
	if err := h2.New(r, io.Discard, h2.Config{}).Run(); err != nil { // closed, with no stream open
		t.Errorf("the connection ended with %v", err)
	}
	if r.calls > 20 {
		t.Errorf("%d reads for 3 frames", r.calls)
	}
}
