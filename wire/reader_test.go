package wire_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-proxy/holdfast/wire"
)

// script gives one text or error per read, and remembers how it was asked.
type script struct {
	steps []any
	asked []int
}

func (s *script) Read(p []byte) (int, error) {
	s.asked = append(s.asked, len(p))
	if len(s.steps) == 0 {
		return 0, io.EOF
	}
	switch step := s.steps[0].(type) {
	case error:
		s.steps = s.steps[1:]
		return 0, step
	case string:
		n := copy(p, step)
		if s.steps[0] = step[n:]; n == len(step) {
			s.steps = s.steps[1:]
		}
		return n, nil
	}
	panic("internal error: a step is a text or an error")
}

const simple = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestReaderEndings(t *testing.T) {
	tests := []struct {
		name string
		src  io.Reader
		want error
	}{
		{"closed between messages", strings.NewReader(""), io.EOF},
		{"closed after empty lines", strings.NewReader("\r\n\n"), io.EOF},
		{"closed within a head", strings.NewReader("GET"), io.ErrUnexpectedEOF},
		{"a source's own error", iotest.ErrReader(os.ErrDeadlineExceeded), os.ErrDeadlineExceeded},
		{"a source that gives nothing", iotest.ErrReader(nil), io.ErrNoProgress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var req wire.Request
			if err := wire.NewReader(tt.src, wire.Limits{}).ReadRequest(&req); err != tt.want {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestReaderGoesOnAfterADeadline(t *testing.T) {
	src := &script{steps: []any{"GET / HT", os.ErrDeadlineExceeded, "TP/1.1\r\nContent-Length: 4\r\n\r\nab", os.ErrDeadlineExceeded, "cd"}}
	r := wire.NewReader(src, wire.Limits{})
	var req wire.Request
	if err := r.ReadRequest(&req); err != os.ErrDeadlineExceeded {
		t.Fatal(err)
	}
	if err := r.ReadRequest(&req); err != nil {
		t.Fatal(err)
	}
	b := r.Body(wire.Framing{Kind: wire.Length, Length: 4})
	if p, err := b.Next(); string(p) != "ab" || err != nil {
		t.Fatalf("%q %v", p, err)
	}
	if _, err := b.Next(); err != os.ErrDeadlineExceeded {
		t.Fatal(err)
	}
	if p, err := b.Next(); string(p) != "cd" || err != io.EOF {
		t.Fatalf("%q %v, want the last piece together with io.EOF", p, err)
	}
	if p, err := b.Next(); len(p) != 0 || err != io.EOF {
		t.Fatalf("%q %v after the end", p, err)
	}
}

func TestReaderLimits(t *testing.T) {
	long := "GET / HTTP/1.1\r\nA: " + strings.Repeat("x", 100<<10) + "\r\n\r\n"
	many := "GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 50) + "\r\n"
	tests := []struct {
		name   string
		raw    string
		limits wire.Limits
		status int
	}{
		{"a long head within the limit", long, wire.Limits{}, 0},
		{"a long head", long, wire.Limits{Head: 64 << 10}, 431},
		{"a head one byte too long", simple, wire.Limits{Head: len(simple) - 1}, 431},
		{"a head just as long as allowed", simple, wire.Limits{Head: len(simple)}, 0},
		{"many fields", many, wire.Limits{Fields: 49}, 431},
		{"as many fields as allowed", many, wire.Limits{Fields: 50}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, src := range []io.Reader{strings.NewReader(tt.raw), iotest.OneByteReader(strings.NewReader(tt.raw))} {
				var req wire.Request
				err := wire.NewReader(src, tt.limits).ReadRequest(&req)
				status := 0
				if perr, ok := errors.AsType[*wire.ParseError](err); ok {
					status = perr.Status
				}
				if status != tt.status {
					t.Fatalf("%v, want status %d", err, tt.status)
				}
				if status == 0 && string(req.Bytes()) != tt.raw {
					t.Fatalf("%d of %d bytes, %v", len(req.Bytes()), len(tt.raw), err)
				}
			}
		})
	}
}

func TestReaderPipelining(t *testing.T) {
	raw := "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" +
		"POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" +
		"GET /3 HTTP/1.1\r\nA: " + strings.Repeat("y", 40<<10) + "\r\n\r\n" +
		"GET /4 HTTP/1.1\r\n\r\n"
	for name, src := range map[string]io.Reader{
		"at once":      strings.NewReader(raw),
		"byte by byte": iotest.OneByteReader(strings.NewReader(raw)),
		"with the end": iotest.DataErrReader(strings.NewReader(raw)),
	} {
		r := wire.NewReader(src, wire.Limits{})
		var req wire.Request
		var got []byte
		for {
			err := r.ReadRequest(&req)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(name, err)
			}
			got = append(got, req.Bytes()...)
			f, err := wire.RequestFraming(&req)
			if err != nil {
				t.Fatal(name, err)
			}
			b := r.Body(f)
			for err == nil {
				var p []byte
				p, err = b.Next()
				got = append(got, p...)
			}
			r.Idle()
		}
		if string(got) != raw {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestIdleWaitsWithoutABuffer(t *testing.T) {
	src := &script{steps: []any{simple, simple, simple + "x"}}
	r := wire.NewReader(src, wire.Limits{})
	var req wire.Request
	for range 2 {
		if err := r.ReadRequest(&req); err != nil {
			t.Fatal(err)
		}
	}
	r.Idle()
	if err := r.ReadRequest(&req); err != nil || string(req.Bytes()) != simple {
		t.Fatalf("%v %q", err, req.Bytes())
	}
	r.Idle() // a byte is left: nothing happens
	if r.Buffered() != 1 {
		t.Errorf("%d bytes buffered, want 1", r.Buffered())
	}
	if len(src.asked) != 4 || src.asked[0] != 16<<10 || src.asked[2] != 1 {
		t.Errorf("asked for %v bytes; want a byte first after Idle, else a buffer", src.asked)
	}
}

func TestUnreadBodyStandsInTheWay(t *testing.T) {
	r := wire.NewReader(strings.NewReader(simple+"abc"+simple), wire.Limits{})
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil {
		t.Fatal(err)
	}
	f := wire.Framing{Kind: wire.Length, Length: 3}
	b := r.Body(f)
	if err := r.ReadRequest(&req); err != wire.ErrUnread || r.Between() {
		t.Errorf("a head behind an unread body: %v", err)
	}
	if _, err := r.Body(f).Next(); err != wire.ErrUnread {
		t.Errorf("a second body: %v", err)
	}
	if p, err := b.Next(); string(p) != "abc" || err != io.EOF || !r.Between() {
		t.Errorf("%q %v", p, err)
	}
	if err := r.ReadRequest(&req); err != nil {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	r := wire.NewReader(strings.NewReader("abcdefgh"), wire.Limits{})
	first := r.Body(wire.Framing{Kind: wire.Length, Length: 3})
	if _, err := first.Next(); err != io.EOF {
		t.Fatal(err)
	}
	second := r.Body(wire.Framing{Kind: wire.Length, Length: 3})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err := second.Next(); string(p) != "def" || err != io.EOF {
		t.Errorf("closing the body before disturbed this one: %q %v", p, err)
	}
	third := r.Body(wire.Framing{Kind: wire.UntilClose})
	third.Close()
	third.Close()
	if _, err := third.Next(); err != wire.ErrClosed || r.Between() {
		t.Errorf("%v, between %v", err, r.Between())
	}
}

func TestPiecesAreWholeReads(t *testing.T) {
	const record = 16 << 10
	text := strings.Repeat("x", record)
	src := &script{steps: []any{"HTTP/1.1 200 OK\r\n\r\n", text, text, text}}
	r := wire.NewReader(src, wire.Limits{})
	var resp wire.Response
	if err := r.ReadResponse(&resp); err != nil {
		t.Fatal(err)
	}
	b := r.Body(wire.Framing{Kind: wire.UntilClose})
	for range 3 {
		if p, err := b.Next(); len(p) != record || err != nil {
			t.Errorf("a piece of %d bytes, %v; want a whole record", len(p), err)
		}
	}
	if p, err := b.Next(); len(p) != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v at the end", len(p), err)
	}
}

func TestPeekAndRead(t *testing.T) {
	r := wire.NewReader(iotest.OneByteReader(strings.NewReader("PRI * and more")), wire.Limits{})
	if p, err := r.Peek(5); string(p) != "PRI *" || err != nil {
		t.Fatalf("%q %v", p, err)
	}
	if p, err := r.Peek(100); string(p) != "PRI * and more" || err != io.EOF {
		t.Fatalf("%q %v", p, err)
	}
	if all, err := io.ReadAll(r); string(all) != "PRI * and more" || err != nil {
		t.Errorf("%q %v", all, err)
	}
	big := wire.NewReader(bytes.NewReader(make([]byte, 20<<10)), wire.Limits{})
	if p, err := big.Peek(17 << 10); len(p) != 16<<10 || err != io.ErrShortBuffer {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	big.Reset(strings.NewReader(simple))
	var req wire.Request
	if err := big.ReadRequest(&req); err != nil {
		t.Error(err)
	}
}

func TestBytesBody(t *testing.T) {
	tests := []struct {
		name    string
		framing wire.Framing
		end     error
	}{
		{"complete", wire.Framing{Kind: wire.Length, Length: 3}, io.EOF},
		{"cut short", wire.Framing{Kind: wire.Length, Length: 4}, io.ErrUnexpectedEOF},
		{"of a stream", wire.Framing{Kind: wire.Stream}, io.EOF},
	}
	for _, tt := range tests {
		b := wire.BytesBody(tt.framing, []byte("abc"))
		if p, err := b.Next(); string(p) != "abc" || err != tt.end {
			t.Errorf("%s: %q %v", tt.name, p, err)
		}
		if p, err := b.Next(); len(p) != 0 || err != tt.end || b.Close() != nil {
			t.Errorf("%s: %q %v after the end", tt.name, p, err)
		}
	}
}

func TestPayloadPassesWhatIsNotChunked(t *testing.T) {
	p := wire.Payload(wire.BytesBody(wire.Framing{Kind: wire.Length, Length: 3}, []byte("abc")))
	if piece, err := p.Next(); string(piece) != "abc" || err != io.EOF {
		t.Errorf("%q %v", piece, err)
	}
	if p.Framing().Length != 3 || p.Trailers() != nil || p.Close() != nil {
		t.Error("framing, trailers or close")
	}
}

func TestNotesAreWorded(t *testing.T) {
	seen := map[string]bool{}
	for n := wire.NoteSpaceBeforeColon; n <= wire.NoteLooseChunk; n <<= 1 {
		words := n.Strings()
		if len(words) != 1 || words[0] == "" || seen[words[0]] {
			t.Errorf("note %b: %q", n, words)
		}
		seen[words[0]] = true
	}
	if s := (wire.NoteNUL | wire.NoteFolded).String(); s != "a folded field; a NUL byte" {
		t.Errorf("%q", s)
	}
}
