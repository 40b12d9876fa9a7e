package ws

import (
	"compress/flate"
	"errors"
	"io"
	"sync"
)

// errInflated is a message that would become larger than Limits.Inflated.
var errInflated = errors.New("ws: the message is inflated to more than its limit")

var (
	errLost   = errors.New("ws: an earlier message could not be inflated, and this one builds on it")
	errBlocks = errors.New("ws: too many final blocks in one message")
)

// maxFinal bounds how many final blocks a message may have: each begins a new
// decompression, which costs a copy of the window.
const maxFinal = 64

// inflatePiece is how much is inflated at once, in bytes.
const inflatePiece = 4 << 10

// tail is what a sender takes off the end of a message (RFC 7692 §7.2.1), and
// a final block, so that the decompression ends.
const tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// A decompressor is what inflating a message needs. Between messages a
// connection keeps only its window.
type decompressor struct {
	flate  io.ReadCloser
	source source
	piece  [inflatePiece]byte
}

// decompressors is a cache: nothing can be observed through it.
var decompressors = sync.Pool{New: func() any {
	d := new(decompressor)
	d.flate = flate.NewReader(&d.source)
	return d
}}

// source gives a message and its tail, byte by byte, so that no byte behind a
// final block is taken.
type source struct {
	raw  []byte
	tail string
}

func (s *source) ReadByte() (byte, error) {
	if len(s.raw) > 0 {
		b := s.raw[0]
		s.raw = s.raw[1:]
		return b, nil
	}
	if len(s.tail) > 0 {
		b := s.tail[0]
		s.tail = s.tail[1:]
		return b, nil
	}
	return 0, io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n := copy(p, s.raw)
	s.raw = s.raw[n:]
	m := copy(p[n:], s.tail)
	s.tail = s.tail[m:]
	if n+m == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n + m, nil
}

func (s *source) ended() bool { return len(s.raw)+len(s.tail) == 0 }

// inflater inflates the messages of one direction, one after the other.
type inflater struct {
	noContext bool
	size      int    // of the window
	window    []byte // the end of what was inflated before
	lost      bool
}

func newInflater(p Deflate) *inflater {
	bits := p.WindowBits
	switch {
	case bits == 8:
		bits = 9 // zlib writes 9 where 8 was agreed on
	case bits < 8 || bits > 15:
		bits = 15
	}
	return &inflater{noContext: p.NoContext, size: 1 << bits}
}

// lose says that a message was left out: later ones may build on it.
func (f *inflater) lose() {
	if !f.noContext {
		f.lost, f.window = true, nil
	}
}

// inflate appends the first keep bytes of a message to data, which is empty,
// and returns the size of all. More than limit bytes are errInflated.
func (f *inflater) inflate(raw, data []byte, keep int, limit int64) (_ []byte, size int64, err error) {
	if f.lost {
		return nil, 0, errLost
	}
	d := decompressors.Get().(*decompressor)
	defer func() {
		d.source = source{}
		decompressors.Put(d)
		if err != nil {
			f.lose()
		}
		if f.noContext {
			f.window = f.window[:0]
		}
	}()
	d.source = source{raw, tail}
	slid := 0 // bytes of data that the window has
	for range maxFinal {
		if err := d.flate.(flate.Resetter).Reset(&d.source, f.window); err != nil {
			return nil, 0, err
		}
		for err = nil; err == nil; {
			var n int
			n, err = d.flate.Read(d.piece[:])
			if size += int64(n); size > limit {
				return nil, size, errInflated
			}
			kept := min(n, keep-len(data))
			data = append(data, d.piece[:kept]...)
			if kept < n {
				f.slide(data[slid:])
				f.slide(d.piece[kept:n])
				slid = len(data)
			}
		}
		if err != io.EOF {
			return nil, 0, err
		}
		f.slide(data[slid:])
		slid = len(data)
		if d.source.ended() {
			return data, size, nil
		}
	}
	return nil, 0, errBlocks
}

// slide moves the window over what was inflated.
func (f *inflater) slide(p []byte) {
	if over := len(f.window) + len(p) - f.size; over > 0 {
		over = min(over, len(f.window))
		f.window = f.window[:copy(f.window, f.window[over:])]
		p = p[max(0, len(p)-f.size):]
	}
	f.window = append(f.window, p...)
}
