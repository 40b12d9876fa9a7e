package wire_test

import (
	"bytes"
	"io"
	"net/http/httputil"
	"testing"
	"testing/iotest"

	"github.com/holdfast-proxy/holdfast/wire"
)

// sameFields compares what two heads say.
func sameFields(t *testing.T, a, b *wire.Head) {
	t.Helper()
	if a.NumFields() != b.NumFields() {
		t.Fatalf("%d fields against %d:\n%q\n%q", a.NumFields(), b.NumFields(), a.Bytes(), b.Bytes())
	}
	for i := range a.NumFields() {
		an, av := a.Field(i)
		bn, bv := b.Field(i)
		if !bytes.Equal(an, bn) || !bytes.Equal(av, bv) {
			t.Fatalf("field %d: %q %q against %q %q", i, an, av, bn, bv)
		}
	}
}

func seed(f *testing.F, response bool) {
	for _, v := range loadVectors(f) {
		if v.response == response {
			f.Add(v.raw, uint8(len(v.raw)))
		}
	}
}

// FuzzRequest: a head is its bytes, the pace of the peer does not matter, and
// an edit of one field or word changes its span and nothing else.
func FuzzRequest(f *testing.F) {
	seed(f, false)
	f.Fuzz(func(t *testing.T, raw []byte, pick uint8) {
		for _, p := range []wire.Policy{wire.Strict, wire.Lenient, wire.Raw} {
			whole := readOne(bytes.NewReader(raw), false, "", p)
			sameResult(t, whole, readOne(iotest.OneByteReader(bytes.NewReader(raw)), false, "", p))
			if joined := append(append(whole.head, whole.body...), whole.rest...); whole.headErr == nil && whole.bodyErr == nil {
				if !bytes.HasSuffix(raw, joined) || len(bytes.Trim(raw[:len(raw)-len(joined)], "\r\n")) > 0 {
					t.Fatalf("bytes changed: %q to %q", raw, joined)
				}
			}
		}
		req, err := wire.ParseRequest(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(req.Bytes(), raw) {
			t.Fatalf("%q came back as %q", raw, req.Bytes())
		}
		req.Host()
		req.Path()
		req.KeepAlive()
		editField(t, &req.Head, int(pick))
		editTarget(t, req)
		addAndDelete(t, req)
	})
}

func editField(t *testing.T, h *wire.Head, pick int) {
	if h.NumFields() == 0 {
		return
	}
	i := pick % h.NumFields()
	raw := h.Bytes()
	_, old := h.Field(i)
	// The old value is a slice of the head, so its place is known exactly.
	lo := 0
	for len(old) > 0 && &raw[lo] != &old[0] {
		lo++
	}
	before := append([]byte(nil), raw...)
	if err := h.SetFieldValue(i, []byte("new value")); err != nil {
		t.Fatal(err)
	}
	if len(old) > 0 {
		want := append(append(append([]byte(nil), before[:lo]...), "new value"...), before[lo+len(old):]...)
		if !bytes.Equal(h.Bytes(), want) {
			t.Fatalf("an edit of field %d of %q gave %q, want %q", i, before, h.Bytes(), want)
		}
	}
	again, err := wire.ParseRequest(h.Bytes())
	if err != nil {
		t.Fatalf("%q does not parse after an edit: %v", h.Bytes(), err)
	}
	sameFields(t, h, &again.Head)
}

func editTarget(t *testing.T, req *wire.Request) {
	hasVersion := len(req.Version()) > 0
	method, version := string(req.Method()), string(req.Version())
	if err := req.SetTarget([]byte("/new?target")); err != nil {
		t.Fatal(err)
	}
	again, err := wire.ParseRequest(req.Bytes())
	if err != nil {
		t.Fatalf("%q does not parse: %v", req.Bytes(), err)
	}
	sameFields(t, &req.Head, &again.Head)
	if hasVersion && (string(again.Method()) != method || string(again.Version()) != version || string(again.Target()) != "/new?target") {
		t.Fatalf("%q: words %q %q %q", req.Bytes(), again.Method(), again.Target(), again.Version())
	}
}

func addAndDelete(t *testing.T, req *wire.Request) {
	if req.Has("X-Fuzz-Added") {
		return
	}
	before := append([]byte(nil), req.Bytes()...)
	if err := req.Set("X-Fuzz-Added", "1"); err != nil {
		t.Fatal(err)
	}
	again, err := wire.ParseRequest(req.Bytes())
	if err != nil {
		t.Fatalf("%q does not parse: %v", req.Bytes(), err)
	}
	sameFields(t, &req.Head, &again.Head)
	if n := req.Del("x-fuzz-added"); n != 1 || !bytes.Equal(req.Bytes(), before) {
		t.Fatalf("removed %d: %q, want %q", n, req.Bytes(), before)
	}
}

// FuzzResponse: as FuzzRequest, without the edits.
func FuzzResponse(f *testing.F) {
	seed(f, true)
	f.Fuzz(func(t *testing.T, raw []byte, pick uint8) {
		method := [...]string{"GET", "HEAD", "CONNECT"}[pick%3]
		for _, p := range []wire.Policy{wire.Strict, wire.Raw} {
			whole := readOne(bytes.NewReader(raw), true, method, p)
			sameResult(t, whole, readOne(iotest.OneByteReader(bytes.NewReader(raw)), true, method, p))
			if whole.headErr == nil && whole.bodyErr == nil {
				if joined := append(append(whole.head, whole.body...), whole.rest...); !bytes.Equal(joined, raw) {
					t.Fatalf("bytes changed: %q to %q", raw, joined)
				}
			}
		}
		if resp, err := wire.ParseResponse(raw); err == nil && !bytes.Equal(resp.Bytes(), raw) {
			t.Fatalf("%q came back as %q", raw, resp.Bytes())
		}
	})
}

// FuzzChunked: the raw pass changes nothing, whatever the size of the reads;
// decoding a kept body gives what the stream's payload gives; and where
// Strict takes it, net/http's reader, which is more tolerant, decodes the same.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\nrest"), uint8(3))
	f.Add([]byte("1\nx\n0\n\n"), uint8(1))
	f.Add([]byte("a \r\n0123456789\r\n0\r\n\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, raw []byte, step uint8) {
		for _, loose := range []bool{false, true} {
			body, rest, err := passChunked(raw, int(step)+1, loose)
			whole, wholeRest, wholeErr := passChunked(raw, len(raw)+1, loose)
			if !bytes.Equal(body, whole) || !bytes.Equal(rest, wholeRest) || (err == nil) != (wholeErr == nil) {
				t.Fatalf("steps of %d: %q %q %v, at once %q %q %v", step+1, body, rest, err, whole, wholeRest, wholeErr)
			}
			if err != nil {
				continue
			}
			if joined := append(append([]byte(nil), body...), rest...); !bytes.Equal(joined, raw) {
				t.Fatalf("%q passed as %q", raw, joined)
			}
			payload, _, err := wire.DecodeChunked(body, 0)
			if err != nil {
				t.Fatalf("%q passed, but does not decode: %v", body, err)
			}
			if streamed := streamPayload(t, body, int(step)+1); !bytes.Equal(streamed, payload) {
				t.Fatalf("streamed payload %q, decoded %q", streamed, payload)
			}
			if loose {
				continue
			}
			theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body)))
			if err == nil && !bytes.Equal(theirs, payload) {
				t.Fatalf("net/http decodes %q as %q, we as %q", body, theirs, payload)
			}
		}
	})
}

// stepReader gives step bytes at a time.
type stepReader struct {
	raw  []byte
	step int
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.raw) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.raw[:min(s.step, len(s.raw))])
	s.raw = s.raw[n:]
	return n, nil
}

func passChunked(raw []byte, step int, loose bool) (body, rest []byte, err error) {
	r := wire.NewReader(&stepReader{raw, step}, wire.Limits{})
	defer r.Release()
	b := r.Body(wire.Framing{Kind: wire.Chunked, LooseChunks: loose})
	for err == nil {
		var piece []byte
		piece, err = b.Next()
		body = append(body, piece...)
	}
	if err != io.EOF {
		return body, nil, err
	}
	rest, err = io.ReadAll(r)
	return body, rest, err
}

func streamPayload(t *testing.T, body []byte, step int) (payload []byte) {
	r := wire.NewReader(&stepReader{body, step}, wire.Limits{})
	defer r.Release()
	p := wire.Payload(r.Body(wire.Framing{Kind: wire.Chunked, LooseChunks: true}))
	for {
		piece, err := p.Next()
		payload = append(payload, piece...)
		if err == io.EOF {
			return payload
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzDecodeContent: no input panics, hangs or passes the limit, and what was
// encoded comes back.
func FuzzDecodeContent(f *testing.F) {
	for _, e := range encoders {
		f.Add(e.name, e.encode(f, []byte("hello, hello, hello")))
	}
	f.Add("gzip, br", []byte("x"))
	f.Add("deflate", []byte("\x78\x9c"))
	f.Fuzz(func(t *testing.T, encodings string, payload []byte) {
		const limit = 1 << 16
		out, err := wire.DecodeContent([]byte(encodings), payload, limit)
		if len(out) > max(limit, len(payload)) {
			t.Fatalf("%d bytes past the limit (%v)", len(out), err)
		}
		for _, e := range encoders {
			if back, err := wire.DecodeContent([]byte(e.name), e.encode(t, payload), limit); err != nil && len(payload) <= limit || err == nil && !bytes.Equal(back, payload) {
				t.Fatalf("%s: %q came back as %q, %v", e.name, payload, back, err)
			}
		}
	})
}
