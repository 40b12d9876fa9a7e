package ws_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// A testCase is one of testdata/cases: README.md says how they are written.
type testCase struct {
	name      string
	extension string
	wire      []byte
	want      []said
	notes     []string
	closed    int // -1: there is no close
	err       error
}

type said struct {
	opcode string
	data   []byte
}

func loadCases(t testing.TB) (all []testCase) {
	t.Helper()
	files, err := filepath.Glob("testdata/cases/*.txt")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d files of cases (%v)", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for block := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
			c, err := parseCase(block)
			if err != nil {
				t.Fatalf("%s: %v in:\n%s", file, err, block)
			}
			c.name = strings.TrimSuffix(filepath.Base(file), ".txt") + "/" + c.name
			all = append(all, c)
		}
	}
	if len(all) < 250 {
		t.Fatalf("only %d cases", len(all))
	}
	return all
}

func parseCase(block string) (c testCase, err error) {
	c.closed = -1
	for line := range strings.SplitSeq(block, "\n") {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "case":
			c.name = value
		case "extension":
			c.extension = value
		case "wire":
			c.wire, err = appendBytes(c.wire, value)
		case "want":
			opcode, text, _ := strings.Cut(value, " ")
			var data []byte
			data, err = appendBytes(nil, text)
			c.want = append(c.want, said{strings.Replace(opcode, "-", " ", 1), data})
		case "note":
			c.notes = append(c.notes, value)
		case "closed":
			c.closed, err = strconv.Atoi(value)
		case "error":
			c.err = map[string]error{"length": ws.ErrLength, "strange": ws.ErrStrange}[value]
		default:
			err = fmt.Errorf("no key %q", key)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

func appendBytes(to []byte, text string) ([]byte, error) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		switch text[0] {
		case '"':
			plain, rest, ok := strings.Cut(text[1:], `"`)
			if !ok {
				return nil, errors.New("a text has no end")
			}
			to, text = append(to, plain...), rest
		case '{':
			inside, rest, ok := strings.Cut(text[1:], "}")
			count, what, _ := strings.Cut(inside, " ")
			n, err := strconv.Atoi(count)
			one, err2 := appendBytes(nil, what)
			if !ok || err != nil || err2 != nil {
				return nil, errors.New("a repetition is {N bytes}")
			}
			to, text = append(to, bytes.Repeat(one, n)...), rest
		default:
			word, rest, _ := strings.Cut(text, " ")
			b, err := hex.DecodeString(word)
			if err != nil {
				return nil, err
			}
			to, text = append(to, b...), rest
		}
	}
	return to, nil
}

// masked is a stream as the client would send it.
func masked(stream []byte) (out []byte) {
	var s ws.Scanner
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	for p := stream; len(p) > 0; {
		var piece ws.Piece
		if piece, p = s.Next(p); piece.Header == nil {
			return append(out, piece.Raw...)
		}
		h := *piece.Header
		h.Masked, h.Mask = true, key
		if piece.First {
			out = ws.AppendHeader(out, h)
		}
		from := len(out)
		out = append(out, piece.Payload...)
		ws.Mask(out[from:], key, piece.Offset)
	}
	return out
}

// deflate is what an answer with the extension agrees on.
func deflate(t testing.TB, extension string) (h ws.Handshake) {
	t.Helper()
	lines := ""
	if extension != "" {
		lines = "Sec-WebSocket-Extensions: " + extension + "\r\n"
	}
	req, err := wire.ParseRequest([]byte("GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := wire.ParseResponse([]byte("HTTP/1.1 101 S\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + lines + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	h, ok := ws.Upgraded(req, resp)
	if !ok || h.BadAccept || h.Unknown != "" {
		t.Fatalf("%q: %+v, %v", extension, h, ok)
	}
	return h
}

// decode feeds a stream in pieces of a size, and tells what came of it.
func decode(cfg ws.Config, stream []byte, size int) (d *ws.Decoder, all []said, messages []ws.Message) {
	d = ws.NewDecoder(cfg)
	take := func() {
		for m := d.Next(); m != nil; m = d.Next() {
			data := bytes.Clone(m.Data)
			all = append(all, said{m.Opcode.String(), data})
			one := *m
			one.Data = data
			messages = append(messages, one)
		}
	}
	for piece := range slices.Chunk(stream, size) {
		d.Feed(bytes.Clone(piece))
		take()
	}
	d.End()
	take()
	return d, all, messages
}

func TestCases(t *testing.T) {
	for _, c := range loadCases(t) {
		t.Run(c.name, func(t *testing.T) {
			h := deflate(t, c.extension)
			for _, fromClient := range []bool{false, true} {
				stream, params := c.wire, h.Origin
				if fromClient {
					stream, params = masked(c.wire), h.Client
				}
				for _, size := range []int{1, 2, 3, 7, 997, len(stream)} {
					if size == 0 || len(stream)/size > 20000 {
						continue
					}
					c.check(t, ws.Config{FromClient: fromClient, Deflate: params, Payloads: true}, stream, size)
				}
			}
		})
	}
}

func (c *testCase) check(t *testing.T, cfg ws.Config, stream []byte, size int) {
	t.Helper()
	d, got, _ := decode(cfg, stream, size)
	where := fmt.Sprintf("from the client %v, in pieces of %d", cfg.FromClient, size)
	same := func(a, b said) bool { return a.opcode == b.opcode && bytes.Equal(a.data, b.data) }
	if !slices.EqualFunc(got, c.want, same) {
		t.Errorf("%s: got %.300q, want %.300q", where, got, c.want)
	}
	if notes := d.Notes().Strings(); !slices.Equal(notes, c.notes) {
		t.Errorf("%s: notes %q, want %q", where, notes, c.notes)
	}
	if d.Err() != c.err {
		t.Errorf("%s: error %v, want %v", where, d.Err(), c.err)
	}
	code, _, closed := d.Closed()
	if closed != (c.closed >= 0) || closed && code != c.closed {
		t.Errorf("%s: closed %v with %d, want %d", where, closed, code, c.closed)
	}
	// Without payloads nothing is said, and the close is found all the same.
	cfg.Payloads = false
	light, none, _ := decode(cfg, stream, size)
	lightCode, _, lightClosed := light.Closed()
	if lightCode != code || lightClosed != closed || light.Messages() != d.Messages() || len(none) > 0 || light.Err() != d.Err() {
		t.Errorf("%s, heads only: closed %v with %d after %d messages, error %v, and %d are told", where, lightClosed, lightCode, light.Messages(), light.Err(), len(none))
	}
}
