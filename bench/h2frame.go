package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The parts of RFC 9113 that both ends and the reference share: frames as they
// stand, no stream states. x/net's hpack does the header compression.
const (
	h2Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2FrameHeader = 9
	h2MaxFrame    = 16 << 10 // the initial SETTINGS_MAX_FRAME_SIZE (§6.5.2)
	h2Window      = 65535    // the initial flow-control window (§6.9.2)
	h2BigWindow   = 16 << 20 // the window which our client grants
)

const (
	h2Data         = 0x0
	h2Headers      = 0x1
	h2Reset        = 0x3
	h2Settings     = 0x4
	h2Ping         = 0x6
	h2GoAway       = 0x7
	h2WindowUpdate = 0x8
	h2Continuation = 0x9
)

const (
	h2FlagEndStream  = 0x1 // also ACK of SETTINGS and PING
	h2FlagEndHeaders = 0x4
	h2FlagPadded     = 0x8
	h2FlagPriority   = 0x20
)

const (
	h2SettingTableSize     = 0x1
	h2SettingInitialWindow = 0x4
	h2SettingMaxFrame      = 0x5
)

var errH2Padding = errors.New("bench: padding longer than its frame")

// An h2Frame is one frame; payload is valid until the next read.
type h2Frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// An h2Reader reads frames. One goroutine uses it.
type h2Reader struct {
	r   *bufio.Reader
	buf []byte
	hdr [h2FrameHeader]byte
}

func newH2Reader(r io.Reader) *h2Reader {
	return &h2Reader{r: bufio.NewReaderSize(r, h2MaxFrame+h2FrameHeader), buf: make([]byte, h2MaxFrame)}
}

// buffered reports whether a next frame has at least begun to arrive.
func (r *h2Reader) buffered() bool { return r.r.Buffered() > 0 }

func (r *h2Reader) next() (h2Frame, error) {
	if _, err := io.ReadFull(r.r, r.hdr[:]); err != nil {
		return h2Frame{}, err
	}
	n := int(r.hdr[0])<<16 | int(r.hdr[1])<<8 | int(r.hdr[2])
	if n > len(r.buf) {
		return h2Frame{}, fmt.Errorf("bench: HTTP/2 frame of %d bytes, more than the %d allowed", n, len(r.buf))
	}
	f := h2Frame{
		kind:    r.hdr[3],
		flags:   r.hdr[4],
		stream:  binary.BigEndian.Uint32(r.hdr[5:]) & 0x7fffffff,
		payload: r.buf[:n],
	}
	_, err := io.ReadFull(r.r, f.payload)
	return f, err
}

// headerBlock returns the fragment in a HEADERS frame, without padding and
// priority (§6.2), or of a CONTINUATION frame.
func (f h2Frame) headerBlock() ([]byte, error) {
	p := f.payload
	if f.kind == h2Continuation {
		return p, nil
	}
	p, err := f.unpadded()
	if err != nil {
		return nil, err
	}
	if f.flags&h2FlagPriority != 0 {
		if len(p) < 5 {
			return nil, errH2Padding
		}
		p = p[5:]
	}
	return p, nil
}

// unpadded returns the payload of a DATA or HEADERS frame without padding.
func (f h2Frame) unpadded() ([]byte, error) {
	p := f.payload
	if f.flags&h2FlagPadded == 0 {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) > len(p)-1 {
		return nil, errH2Padding
	}
	return p[1 : len(p)-int(p[0])], nil
}

// appendH2 appends one frame to dst.
func appendH2(dst []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	dst = binary.BigEndian.AppendUint32(dst, stream)
	return append(dst, payload...)
}

// appendH2Window appends a WINDOW_UPDATE frame (§6.9).
func appendH2Window(dst []byte, stream uint32, n int) []byte {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(n))
	return appendH2(dst, h2WindowUpdate, 0, stream, p[:])
}

// appendH2Setting appends the payload of one setting (§6.5.1).
func appendH2Setting(dst []byte, id uint16, value uint32) []byte {
	dst = binary.BigEndian.AppendUint16(dst, id)
	return binary.BigEndian.AppendUint32(dst, value)
}

// eachH2Setting calls fn for each setting of a SETTINGS payload.
func eachH2Setting(p []byte, fn func(id uint16, value uint32)) {
	for ; len(p) >= 6; p = p[6:] {
		fn(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:]))
	}
}
