package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestForwardTakesOneMessageAsItStands(t *testing.T) {
	const next = "HTTP/1.1 204 No Content\r\n\r\n"
	for _, c := range []struct {
		name, message string
		toHEAD        bool
		body          int64
	}{
		{"a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, 5},
		{"a length of zero", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false, 0},
		{"a length in answer to HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, 0},
		{"not modified, with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 0},
		{"an interim answer", "HTTP/1.1 100 Continue\r\n\r\n", false, 0},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false, 15},
		{"chunks, extensions and trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"A;x=\"y\"\r\n0123456789\r\n000\r\nA: b\r\nC: d\r\n\r\n", false, 40},
		{"more than the buffer", "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("x", 60000), false, 60000},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"at once":      func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader,
		} {
			t.Run(c.name+" "+how, func(t *testing.T) {
				s := newStream1(wrap(strings.NewReader(c.message + next)))
				h, err := s.readResponse(c.toHEAD)
				if err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				n, err := s.forward(h, &out)
				if err != nil || n != c.body {
					t.Fatalf("forward: %d bytes of body, %v; want %d", n, err, c.body)
				}
				if out.String() != c.message {
					t.Fatalf("written:\n%q\nwant:\n%q", out.String(), c.message)
				}
				if h, err = s.readResponse(false); err != nil || h.status() != 204 {
					t.Fatalf("the next message: status %d, %v", h.status(), err)
				}
			})
		}
	}
}

func TestForwardUntilClose(t *testing.T) {
	const message = "HTTP/1.0 200 OK\r\n\r\nall the rest"
	s := newStream1(strings.NewReader(message))
	h, err := s.readResponse(false)
	if err != nil || !h.close {
		t.Fatalf("close %v, %v", h.close, err)
	}
	var out bytes.Buffer
	if n, err := s.forward(h, &out); err != nil || n != 12 || out.String() != message {
		t.Fatalf("%d bytes, %v: %q", n, err, out.String())
	}
}

func TestBrokenMessages(t *testing.T) {
	for _, c := range []struct {
		name, message string
		want          error
	}{
		{"nothing", "", io.EOF},
		{"half a head", "HTTP/1.1 200 OK\r\nA:", io.ErrUnexpectedEOF},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", io.ErrUnexpectedEOF},
		{"a cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", io.ErrUnexpectedEOF},
		{"a chunk without a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;\r\n", errBadChunk},
		{"a length in letters", "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", errBadHead},
		{"a line without a colon", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", errBadHead},
		{"an endless head", strings.Repeat("x", 2*streamBuffer), errHeadTooLong},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStream1(strings.NewReader(c.message))
			h, err := s.readResponse(false)
			if err == nil {
				_, err = s.forward(h, nil)
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestRequestLine(t *testing.T) {
	s := newStream1(strings.NewReader("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n"))
	h, err := s.readRequest()
	if err != nil || string(h.method()) != "CONNECT" || string(h.target()) != "a:443" || !h.close || h.body != bodyNone {
		t.Fatalf("%q %q close=%v body=%d %v", h.method(), h.target(), h.close, h.body, err)
	}
}

func TestOriginFormTakesTheAuthorityOff(t *testing.T) {
	var out bytes.Buffer
	w := &originForm{w: &out}
	for _, part := range []string{"GET http://127.0.0.1:80/a?b HTTP/1.1\r\n\r\n", "http://body/"} {
		if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
			t.Fatal(n, err)
		}
	}
	if want := "GET /a?b HTTP/1.1\r\n\r\nhttp://body/"; out.String() != want {
		t.Fatalf("%q, want %q", out.String(), want)
	}
}
