package wire_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-proxy/holdfast/wire"
)

type encoder struct {
	name string
	open func(io.Writer) (io.WriteCloser, error)
}

func (e encoder) encode(tb testing.TB, p []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := e.open(&b)
	if err == nil {
		_, err = w.Write(p)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

var encoders = []encoder{
	{"gzip", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }},
	{"deflate", func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil }},
	{"Deflate", func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 5) }},
	{"br", func(w io.Writer) (io.WriteCloser, error) { return brotli.NewWriterLevel(w, 4), nil }},
	{"zstd", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) }},
}

func TestDecodeContent(t *testing.T) {
	const text = "the quick brown fox, the quick brown fox"
	enc := func(p []byte, i int) []byte { return encoders[i].encode(t, p) }
	gz := enc([]byte(text), 0)
	tests := []struct {
		name, encodings string
		payload         []byte
		want            string
		err             error
	}{
		{"no encoding", "", []byte(text), text, nil},
		{"identity", "identity", []byte(text), text, nil},
		{"gzip", "gzip", gz, text, nil},
		{"the old name of gzip, in odd case", "X-GZIP", gz, text, nil},
		{"deflate with zlib wrapping", "deflate", enc([]byte(text), 1), text, nil},
		{"deflate without", "deflate", enc([]byte(text), 2), text, nil},
		{"brotli", "br", enc([]byte(text), 3), text, nil},
		{"zstandard", "zstd", enc([]byte(text), 4), text, nil},
		{"stacked, with empty elements and identity", "gzip,, identity , zstd", enc(gz, 4), text, nil},
		{"two gzip members", "gzip", append(bytes.Clone(gz), gz...), text + text, nil},
		{"bytes behind a gzip member", "gzip", append(bytes.Clone(gz), "<!-- x -->"...), text, nil},
		{"nothing to decode", "gzip", nil, "", nil},
		{"an unknown encoding", "compress", []byte(text), "", wire.ErrEncoding},
		{"too many encodings", strings.Repeat("gzip,", 6), gz, "", wire.ErrEncoding},
		{"gzip cut short", "gzip", gz[:len(gz)-9], text, io.ErrUnexpectedEOF},
		{"gzip that is none", "gzip", []byte("plain text, not compressed"), "", gzip.ErrHeader},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wire.DecodeContent([]byte(tt.encodings), tt.payload, 0)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if string(got) != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestDecodeContentStopsAtTheLimit(t *testing.T) {
	zeros := make([]byte, 2<<20)
	for _, e := range encoders {
		bomb := e.encode(t, zeros)
		got, err := wire.DecodeContent([]byte(e.name), bomb, 1000)
		if !errors.Is(err, wire.ErrTooLarge) || len(got) != 1000 {
			t.Errorf("%s: %d bytes, %v; want 1000 and ErrTooLarge", e.name, len(got), err)
		}
		got, err = wire.DecodeContent([]byte(e.name+", gzip"), encoders[0].encode(t, bomb), 20<<20)
		if err != nil || len(got) != len(zeros) {
			t.Errorf("%s in gzip: %d bytes, %v", e.name, len(got), err)
		}
	}
}

func TestDecodeContentStopsAtTheLimitInEveryLayer(t *testing.T) {
	inner := encoders[0].encode(t, make([]byte, 2<<20)) // two thousand bytes
	got, err := wire.DecodeContent([]byte("gzip, br"), encoders[3].encode(t, inner), 500)
	if !errors.Is(err, wire.ErrTooLarge) || len(got) > 500 {
		t.Errorf("%d bytes, %v; want at most 500 and ErrTooLarge", len(got), err)
	}
}

func TestDecodeChunked(t *testing.T) {
	tests := []struct {
		name, raw         string
		payload, trailers string
		err               error
	}{
		{"two chunks", "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n", "hello!", "", nil},
		{"no payload", "0\r\n\r\n", "", "", nil},
		{"trailers", "1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n", "x", "A: b\r\nC: d\r\n", nil},
		{"LF alone", "1\nx\n0\nA: b\n\n", "x", "A: b\n", nil},
		{"cut short", "5\r\nhel", "hel", "", io.ErrUnexpectedEOF},
		{"cut before the end", "5\r\nhello\r\n", "hello", "", io.ErrUnexpectedEOF},
		{"nothing", "", "", "", io.ErrUnexpectedEOF},
		{"too large", "8\r\n01234567\r\n8\r\n89abcdef\r\n0\r\n\r\n", "0123456789", "", wire.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			payload, trailers, err := wire.DecodeChunked([]byte(tt.raw), 10)
			if err != tt.err || string(payload) != tt.payload || string(trailers) != tt.trailers {
				t.Errorf("%q %q %v, want %q %q %v", payload, trailers, err, tt.payload, tt.trailers, tt.err)
			}
		})
	}
}

func TestDecodeChunkedTellsWhatIsBroken(t *testing.T) {
	for _, raw := range []string{"x", "1\r\nxy", "0\r\n\r\nmore", "1;" + strings.Repeat("x", wire.MaxChunkLine), "0\r\n" + strings.Repeat("x", wire.MaxTrailers+1)} {
		_, _, err := wire.DecodeChunked([]byte(raw), 0)
		var perr *wire.ParseError
		if !errors.As(err, &perr) {
			t.Errorf("%.20q: %v, want a ParseError", raw, err)
		}
	}
}

func TestAppendChunkRoundTrip(t *testing.T) {
	raw := wire.AppendChunk(nil, []byte(strings.Repeat("x", 300)))
	raw = wire.AppendChunk(raw, nil)
	raw = wire.AppendChunk(raw, []byte("end"))
	raw = wire.AppendLastChunk(raw, []byte("A: b\r\n"))
	payload, trailers, err := wire.DecodeChunked(raw, 0)
	if err != nil || string(payload) != strings.Repeat("x", 300)+"end" || string(trailers) != "A: b\r\n" {
		t.Errorf("%q %q %v", payload, trailers, err)
	}
}
