package wire

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

const (
	// DefaultDecode is the limit for decoding where none is given, in bytes.
	DefaultDecode = 64 << 20
	// MaxEncodings is how many content encodings may be stacked.
	MaxEncodings = 5

	maxZstdWindow = 8 << 20 // RFC 9659 §3
)

// ErrTooLarge is returned with the bytes up to the limit.
var ErrTooLarge = errors.New("wire: the decoded content exceeds its limit")

// ErrEncoding is wrapped by errors about content encodings that are not known
// here, or are too many.
var ErrEncoding = errors.New("content encoding not supported")

// DecodeContent undoes the content encodings (RFC 9110 §8.4) of a payload.
// encodings is the combined value of Content-Encoding (see [Head.Combined]), in
// the order in which they were applied: gzip, x-gzip, deflate (with or without
// the zlib wrapping that the standard asks for), br, zstd, identity; any case.
// Without an encoding, and when it is empty, the payload itself is returned.
//
// No layer may yield more than limit bytes (DefaultDecode if that is not
// positive). With an error comes what was decoded before it: ErrTooLarge,
// io.ErrUnexpectedEOF for a payload cut short, ErrEncoding, or that of the
// decoder. Bytes behind the end of a gzip member that start no other are
// ignored, as browsers do.
func DecodeContent(encodings, payload []byte, limit int) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultDecode
	}
	if len(payload) == 0 {
		return payload, nil // as with HEAD, 304 or a length of 0
	}
	var words [][]byte
	for len(encodings) > 0 {
		var word []byte
		word, encodings = cutList(encodings)
		if len(word) == 0 || equalFold(word, "identity") {
			continue
		}
		if words = append(words, word); len(words) > MaxEncodings {
			return nil, fmt.Errorf("wire: more than %d stacked encodings: %w", MaxEncodings, ErrEncoding)
		}
	}
	if len(words) == 0 {
		return payload, nil
	}
	var src io.Reader = bytes.NewReader(payload)
	for i := len(words) - 1; i >= 0; i-- {
		dec, err := decoder(words[i], src)
		if err != nil {
			return nil, err
		}
		if c, ok := dec.(io.Closer); ok {
			defer c.Close()
		}
		src = &limitedReader{dec, limit}
	}
	return io.ReadAll(src)
}

// Text is what a kept body says, for those who look for something in it: raw,
// as it stood on the wire under a head, without chunks and content encodings,
// at most limit bytes of each layer. Of what cannot be decoded it is what was
// good, else what stood there. The result may be raw itself.
func Text(h *Head, kind FramingKind, raw []byte, limit int) []byte {
	payload := raw
	if kind == Chunked {
		p, _, err := DecodeChunked(raw, limit)
		if err != nil && len(p) == 0 {
			return raw
		}
		payload = p
	}
	if !h.Has("Content-Encoding") {
		return payload
	}
	text, err := DecodeContent(h.Combined("Content-Encoding"), payload, limit)
	if err != nil && !errors.Is(err, ErrTooLarge) && len(text) == 0 {
		return payload
	}
	return text
}

// decoder undoes one encoding.
func decoder(name []byte, src io.Reader) (io.Reader, error) {
	switch {
	case equalFold(name, "gzip"), equalFold(name, "x-gzip"):
		return &gzipReader{src: bufio.NewReader(src)}, nil
	case equalFold(name, "deflate"):
		return deflateReader(bufio.NewReader(src))
	case equalFold(name, "br"):
		return brotli.NewReader(src), nil
	case equalFold(name, "zstd"):
		// Concurrency 1 decodes in this goroutine. Memory is the window's.
		dec, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		return dec.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("wire: %.40q: %w", name, ErrEncoding)
}

// gzipReader reads members (RFC 1952 §2.2) up to the end or to bytes that
// start no further one.
type gzipReader struct {
	src  *bufio.Reader
	gzip *gzip.Reader
	last bool
}

func (g *gzipReader) Read(p []byte) (int, error) {
	if g.gzip == nil && !g.last {
		z, err := gzip.NewReader(g.src)
		if err != nil {
			return 0, errShort(err)
		}
		z.Multistream(false)
		g.gzip = z
	}
	for !g.last {
		n, err := g.gzip.Read(p)
		if err == io.EOF {
			if g.last = g.gzip.Reset(g.src) != nil; !g.last {
				g.gzip.Multistream(false)
			}
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}

// deflateReader takes zlib data (RFC 1950), or bare deflate data (RFC 1951) as
// some servers send under that name, told by the first two bytes.
func deflateReader(src *bufio.Reader) (io.Reader, error) {
	b, _ := src.Peek(2)
	if len(b) == 2 && b[0]&0x0f == 8 && (uint(b[0])<<8|uint(b[1]))%31 == 0 {
		return zlib.NewReader(src)
	}
	return flate.NewReader(src), nil
}

// limitedReader returns ErrTooLarge instead of the first byte behind the limit.
type limitedReader struct {
	src  io.Reader
	left int
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.src.Read(p)
	if n > l.left {
		n, err = l.left, ErrTooLarge
	}
	l.left -= n
	return n, err
}
