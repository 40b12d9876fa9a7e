package main

import (
	"bytes"
	"errors"
	"io"
)

// streamBuffer is the size of an HTTP/1 reader's buffer: a head must fit in
// it, and a body passes through it in pieces of at most this size. It holds a
// full TLS record (16 KiB) after a head.
const streamBuffer = 20 << 10

var (
	errHeadTooLong = errors.New("bench: a message head is longer than the buffer")
	errBadHead     = errors.New("bench: malformed message head")
	errBadChunk    = errors.New("bench: malformed chunk size")
)

// bodyKind says how the end of a body is found (RFC 9112 §6.3).
type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyUntilClose
)

// A head1 is the head of one HTTP/1 message, read just far enough to frame it.
type head1 struct {
	raw    []byte // start line to blank line; valid until the reader's next call
	body   bodyKind
	length int64
	close  bool // Connection: close
}

// method returns the first word of a request line.
func (h *head1) method() []byte {
	before, _, _ := bytes.Cut(h.raw, []byte(" "))
	return before
}

// target returns the second word of a request line.
func (h *head1) target() []byte {
	_, rest, _ := bytes.Cut(h.raw, []byte(" "))
	before, _, _ := bytes.Cut(rest, []byte(" "))
	return before
}

// status returns the status code of a response, 0 when there is none.
func (h *head1) status() int {
	i := bytes.IndexByte(h.raw, ' ')
	if i < 0 || len(h.raw) < i+4 {
		return 0
	}
	n := 0
	for _, c := range h.raw[i+1 : i+4] {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// A stream1 reads HTTP/1 messages from one connection. One goroutine uses it.
type stream1 struct {
	r          io.Reader
	buf        []byte
	start, end int // unread bytes
	headLen    int // bytes of the last head, which still stand at buf[start:]
}

func newStream1(r io.Reader) *stream1 {
	return &stream1{r: r, buf: make([]byte, streamBuffer)}
}

// fill reads once into the free end of the buffer.
func (s *stream1) fill() error {
	n, err := s.r.Read(s.buf[s.end:])
	s.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// readHead reads up to the next blank line. It returns io.EOF when the peer
// closed between messages. The body of the message before must have been taken.
func (s *stream1) readHead() (head1, error) {
	if s.start == s.end {
		s.start, s.end = 0, 0
	} else if s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	scanned := 0
	for {
		if i := bytes.Index(s.buf[scanned:s.end], []byte("\r\n\r\n")); i >= 0 {
			s.headLen = scanned + i + 4
			return parseHead(s.buf[:s.headLen])
		}
		scanned = max(0, s.end-3)
		if s.end == len(s.buf) {
			return head1{}, errHeadTooLong
		}
		if err := s.fill(); err != nil {
			if err == io.EOF && s.end > 0 {
				err = io.ErrUnexpectedEOF
			}
			return head1{}, err
		}
	}
}

// readRequest reads the head of a request.
func (s *stream1) readRequest() (head1, error) { return s.readHead() }

// readResponse reads the head of the answer to a request; head1.raw of an
// interim answer is not special: callers ask again on status 1xx.
func (s *stream1) readResponse(toHEAD bool) (head1, error) {
	h, err := s.readHead()
	if err != nil {
		return h, err
	}
	code := h.status()
	switch {
	case code < 200 || code == 204 || code == 304 || toHEAD:
		h.body, h.length = bodyNone, 0
	case h.body == bodyNone:
		h.body, h.close = bodyUntilClose, true
	}
	return h, nil
}

// forward writes the last head and its body to dst as they stand, the head and
// what arrived with it in one write. A nil dst drops the message. It returns
// the bytes of the body.
func (s *stream1) forward(h head1, dst io.Writer) (int64, error) {
	scan := bodyScan{kind: h.body, left: h.length}
	n, done, err := scan.take(s.buf[s.start+s.headLen : s.end])
	if err != nil {
		return 0, err
	}
	total := int64(n)
	if dst != nil {
		if _, err := dst.Write(s.buf[s.start : s.start+s.headLen+n]); err != nil {
			return total, err
		}
	}
	s.start += s.headLen + n
	for !done {
		s.start, s.end = 0, 0
		if err := s.fill(); err != nil {
			if err == io.EOF && h.body == bodyUntilClose {
				return total, nil
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return total, err
		}
		if n, done, err = scan.take(s.buf[:s.end]); err != nil {
			return total, err
		}
		total += int64(n)
		if dst != nil {
			if _, err := dst.Write(s.buf[:n]); err != nil {
				return total, err
			}
		}
		s.start = n
	}
	return total, nil
}

// parseHead looks for the three fields which frame a message.
func parseHead(raw []byte) (head1, error) {
	h := head1{raw: raw}
	rest := raw[bytes.IndexByte(raw, '\n')+1:]
	for len(rest) > 2 {
		eol := bytes.IndexByte(rest, '\n')
		line := rest[:eol]
		rest = rest[eol+1:]
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 {
			return h, errBadHead
		}
		name := line[:colon]
		if c := name[0] | 0x20; c != 'c' && c != 't' {
			continue
		}
		value := bytes.TrimSpace(line[colon+1:])
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			n, ok := parseDecimal(value)
			if !ok {
				return h, errBadHead
			}
			if h.body != bodyChunked {
				h.body, h.length = bodyLength, n
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			h.body, h.length = bodyChunked, 0
		case bytes.EqualFold(name, []byte("connection")):
			h.close = bytes.EqualFold(value, []byte("close"))
		}
	}
	return h, nil
}

// parseDecimal reads up to 18 digits.
func parseDecimal(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// chunkState is a place inside a chunked body (RFC 9112 §7.1).
type chunkState uint8

const (
	chunkSize     chunkState = iota // in the digits
	chunkExt                        // after the digits, before the line's end
	chunkData                       // in the data and its CRLF
	chunkTrailer                    // at the start of a trailer line
	chunkTrailer2                   // inside a trailer line
)

// A bodyScan finds the end of a body without changing a byte of it.
type bodyScan struct {
	kind   bodyKind
	left   int64 // of the body, or of the chunk
	state  chunkState
	digits int
}

// take says how many bytes of p belong to the body, and whether it ends there.
func (b *bodyScan) take(p []byte) (n int, done bool, err error) {
	switch b.kind {
	case bodyNone:
		return 0, true, nil
	case bodyUntilClose:
		return len(p), false, nil
	case bodyLength:
		n = int(min(b.left, int64(len(p))))
		b.left -= int64(n)
		return n, b.left == 0, nil
	}
	return b.takeChunked(p)
}

func (b *bodyScan) takeChunked(p []byte) (n int, done bool, err error) {
	for n < len(p) {
		c := p[n]
		switch b.state {
		case chunkSize:
			if d := hexDigit(c); d >= 0 && b.digits < 15 {
				b.left = b.left<<4 | int64(d)
				b.digits++
				n++
				continue
			}
			if b.digits == 0 || b.digits == 15 {
				return n, false, errBadChunk
			}
			b.state = chunkExt
		case chunkExt:
			n++
			if c != '\n' {
				continue
			}
			b.digits = 0
			if b.left == 0 {
				b.state = chunkTrailer
				continue
			}
			b.left += 2 // the CRLF after the data
			b.state = chunkData
		case chunkData:
			k := int(min(b.left, int64(len(p)-n)))
			n += k
			if b.left -= int64(k); b.left == 0 {
				b.state = chunkSize
			}
		case chunkTrailer:
			n++
			if c == '\n' {
				return n, true, nil
			}
			if c != '\r' {
				b.state = chunkTrailer2
			}
		case chunkTrailer2:
			n++
			if c == '\n' {
				b.state = chunkTrailer
			}
		}
	}
	return n, false, nil
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
