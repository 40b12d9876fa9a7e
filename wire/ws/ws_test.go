package ws_test

import (
	"bytes"
	"compress/flate"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// compress is what a sender makes of messages (RFC 7692 §7.2.1).
func compress(t testing.TB, messages [][]byte, noContext bool) (frames []byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		b.Reset()
		if noContext {
			w.Reset(&b)
		}
		w.Write(m)
		w.Flush()
		frames = ws.AppendFrame(frames, ws.Header{Fin: true, Rsv: ws.Rsv1, Opcode: ws.OpBinary}, bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff")))
	}
	return frames
}

func TestLargeCompressedMessagesShareTheWindow(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, 200_000) // words far apart, so that the window matters
	for i := range text {
		text[i] = "abcdefgh"[random.IntN(8)]
	}
	messages := [][]byte{text[:70_000], text[50_000:], text[:10], nil, text, text[100_000:]}
	for _, noContext := range []bool{false, true} {
		stream := compress(t, messages, noContext)
		for _, size := range []int{1000, len(stream)} {
			_, got, all := decode(ws.Config{Deflate: &ws.Deflate{NoContext: noContext}, Payloads: true}, stream, size)
			if len(got) != len(messages) {
				t.Fatalf("%d messages, want %d", len(got), len(messages))
			}
			for i, m := range messages {
				if !bytes.Equal(got[i].data, m) || !all[i].Compressed || all[i].Size != int64(len(m)) || all[i].Notes != 0 {
					t.Errorf("no context %v: message %d is %d bytes, size %d, notes %q", noContext, i, len(got[i].data), all[i].Size, all[i].Notes.Strings())
				}
			}
		}
	}
}

func TestLimits(t *testing.T) {
	zeros := make([]byte, 3<<20)
	limits := ws.Limits{Message: 1000, Compressed: 4000, Inflated: 1 << 20}
	plain := func(p []byte) []byte {
		return ws.AppendFrame(nil, ws.Header{Fin: true, Opcode: ws.OpBinary}, p)
	}
	for name, c := range map[string]struct {
		stream  []byte
		deflate *ws.Deflate
		data    int // bytes of the first message's Data
		size    int64
		notes   ws.Notes
		second  ws.Notes
	}{
		"a message beyond the limit is cut":    {append(plain(zeros), plain(nil)...), nil, 1000, 3 << 20, 0, 0},
		"an inflated one too":                  {compress(t, [][]byte{zeros[:5000], zeros[:10]}, false), &ws.Deflate{}, 1000, 5000, 0, 0},
		"a bomb is not inflated":               {compress(t, [][]byte{zeros[:2<<20], zeros[:10]}, false), &ws.Deflate{}, 1000, 0, ws.NoteTooLarge, ws.NoteInflate},
		"a bomb is forgotten without context":  {compress(t, [][]byte{zeros[:2<<20], zeros[:10]}, true), &ws.Deflate{NoContext: true}, 1000, 0, ws.NoteTooLarge, 0},
		"too much to inflate is not kept":      {compress(t, [][]byte{noise(8000), zeros[:10]}, false), &ws.Deflate{}, 1000, 0, ws.NoteTooLarge, ws.NoteInflate},
		"too much to inflate, without context": {compress(t, [][]byte{noise(8000), zeros[:10]}, true), &ws.Deflate{NoContext: true}, 1000, 0, ws.NoteTooLarge, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, all := decode(ws.Config{Deflate: c.deflate, Payloads: true, Limits: limits}, c.stream, 16<<10)
			if len(all) != 2 {
				t.Fatalf("%d messages", len(all))
			}
			first := all[0]
			if len(first.Data) > c.data || c.notes == 0 && len(first.Data) != c.data || c.size > 0 && first.Size != c.size || first.Notes != c.notes || all[1].Notes != c.second {
				t.Errorf("%d bytes of %d, notes %q, then %q", len(first.Data), first.Size, first.Notes.Strings(), all[1].Notes.Strings())
			}
		})
	}
}

func noise(n int) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func TestHeaders(t *testing.T) {
	for _, length := range []uint64{0, 1, 125, 126, 127, 65535, 65536, 1 << 32, math.MaxInt64} {
		for _, extended := range []int{0, 2, 8} {
			for _, isMasked := range []bool{false, true} {
				h := ws.Header{Fin: true, Rsv: ws.Rsv2, Opcode: 11, Masked: isMasked, Length: length, Extended: extended}
				if isMasked {
					h.Mask = [4]byte{1, 2, 3, 4}
				}
				raw := ws.AppendHeader(nil, h)
				for n := range raw {
					if _, size, err := ws.ParseHeader(raw[:n]); size != 0 || err != nil {
						t.Fatalf("%d of %d bytes: size %d, %v", n, len(raw), size, err)
					}
				}
				got, size, err := ws.ParseHeader(raw)
				if err != nil || size != len(raw) || size != h.Size() || size > ws.MaxHeader || got.Length != length || got.IsMinimal() != h.IsMinimal() {
					t.Errorf("%+v became %+v, size %d of %d, %v", h, got, size, len(raw), err)
				}
				if again := ws.AppendHeader(nil, got); !bytes.Equal(again, raw) {
					t.Errorf("% x came back as % x", raw, again)
				}
			}
		}
	}
}

func TestMask(t *testing.T) {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	if p := []byte("Hello"); true { // RFC 6455 §5.7
		if ws.Mask(p, key, 0); !bytes.Equal(p, []byte{0x7f, 0x9f, 0x4d, 0x51, 0x58}) {
			t.Errorf("% x", p)
		}
	}
	plain := noise(100)
	whole := bytes.Clone(plain)
	ws.Mask(whole, key, 0)
	for cut := range whole {
		p := bytes.Clone(plain)
		ws.Mask(p[:cut], key, 0)
		ws.Mask(p[cut:], key, uint64(cut))
		if !bytes.Equal(p, whole) {
			t.Fatalf("cut at %d", cut)
		}
	}
}

func TestHandshake(t *testing.T) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	if got := ws.Accept(key); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455 §1.3
		t.Errorf("Accept: %s", got)
	}
	full, none := "GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "+key+"\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"
	answer := func(lines ...string) string {
		return "HTTP/1.1 101 Switching Protocols\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
	}
	const up, accept, ext = "Upgrade: websocket", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-WebSocket-Extensions: "
	both := func(client, origin ws.Deflate) ws.Handshake { return ws.Handshake{Client: &client, Origin: &origin} }
	for name, c := range map[string]struct {
		req, resp string
		ok        bool
		want      ws.Handshake
	}{
		"plain":                      {full, answer(up, accept), true, ws.Handshake{}},
		"another protocol":           {full, answer("Upgrade: h2c"), false, ws.Handshake{}},
		"not asked for":              {none, answer(up, accept), false, ws.Handshake{}},
		"not 101":                    {full, "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\n\r\n", false, ws.Handshake{}},
		"no accept":                  {full, answer(up), true, ws.Handshake{BadAccept: true}},
		"a wrong accept":             {full, answer(up, accept+"x"), true, ws.Handshake{BadAccept: true}},
		"deflate":                    {full, answer(up, accept, ext+"permessage-deflate"), true, both(ws.Deflate{}, ws.Deflate{})},
		"deflate with everything":    {full, answer(up, accept, ext+`Permessage-Deflate ; server_no_context_takeover;client_no_context_takeover; server_max_window_bits=10; client_max_window_bits="12"`), true, both(ws.Deflate{NoContext: true, WindowBits: 12}, ws.Deflate{NoContext: true, WindowBits: 10})},
		"bits out of range":          {full, answer(up, accept, ext+"permessage-deflate; server_max_window_bits=16; client_max_window_bits"), true, both(ws.Deflate{}, ws.Deflate{})},
		"in two lines, with another": {full, answer(up, accept, ext+"x-mux", ext+"permessage-deflate"), true, ws.Handshake{Client: &ws.Deflate{}, Origin: &ws.Deflate{}, Unknown: "x-mux"}},
		"an unknown parameter":       {full, answer(up, accept, ext+"permessage-deflate; level=3"), true, ws.Handshake{Client: &ws.Deflate{}, Origin: &ws.Deflate{}, Unknown: "level"}},
	} {
		req, err := wire.ParseRequest([]byte(c.req))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := wire.ParseResponse([]byte(c.resp))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := ws.Upgraded(req, resp)
		same := func(a, b *ws.Deflate) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
		if ok != c.ok || !same(got.Client, c.want.Client) || !same(got.Origin, c.want.Origin) || got.Unknown != c.want.Unknown || got.BadAccept != c.want.BadAccept {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
}
