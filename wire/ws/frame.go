package ws

import (
	"encoding/binary"
	"errors"
	"strconv"
)

// Opcode says what a frame is (RFC 6455 §5.2, §11.8).
type Opcode uint8

// The opcodes that have a meaning. 3 to 7 are reserved for further data frames,
// 11 to 15 for further control frames.
const (
	OpContinuation Opcode = 0
	OpText         Opcode = 1
	OpBinary       Opcode = 2
	OpClose        Opcode = 8
	OpPing         Opcode = 9
	OpPong         Opcode = 10
)

// IsControl reports whether frames of the opcode stand between those of a
// message, and not in one (RFC 6455 §5.5).
func (o Opcode) IsControl() bool { return o&8 != 0 }

// IsReserved reports whether the opcode has no meaning.
func (o Opcode) IsReserved() bool { return o > OpPong || o > OpBinary && o < OpClose }

func (o Opcode) String() string {
	switch o {
	case OpContinuation:
		return "continuation"
	case OpText:
		return "text"
	case OpBinary:
		return "binary"
	case OpClose:
		return "close"
	case OpPing:
		return "ping"
	case OpPong:
		return "pong"
	}
	return "opcode " + strconv.Itoa(int(o))
}

// The reserved bits in Header.Rsv. The first one marks a compressed message
// where permessage-deflate was agreed on (RFC 7692 §6).
const (
	Rsv1 uint8 = 4
	Rsv2 uint8 = 2
	Rsv3 uint8 = 1
)

// MaxHeader is how long a frame's head can be, in bytes.
const MaxHeader = 14

// MaxControl is how much payload a control frame may have (RFC 6455 §5.5), in
// bytes.
const MaxControl = 125

// A Header is the head of a frame.
type Header struct {
	Fin    bool
	Rsv    uint8
	Opcode Opcode
	Masked bool
	Mask   [4]byte
	Length uint64 // of the payload, in bytes
	// Extended is how many bytes the length takes behind the seven bits: 0, 2
	// or 8. AppendHeader takes more where Length needs them.
	Extended int
}

// Size is how many bytes the head takes on the wire.
func (h *Header) Size() int {
	n := 2 + h.extended()
	if h.Masked {
		n += 4
	}
	return n
}

// IsMinimal reports whether the length takes no more bytes than it needs, as
// RFC 6455 §5.2 asks for.
func (h *Header) IsMinimal() bool { return h.Extended <= needed(h.Length) }

func needed(length uint64) int {
	switch {
	case length < 126:
		return 0
	case length < 1<<16:
		return 2
	}
	return 8
}

func (h *Header) extended() int { return max(h.Extended, needed(h.Length)) }

// ErrLength is a payload length with the highest bit set, which cannot be
// (RFC 6455 §5.2).
var ErrLength = errors.New("ws: the length of a frame's payload is above 2^63")

// ParseHeader reads the head at the beginning of b and returns its size, which
// is 0 when b holds only a part of it. The only error is ErrLength, with the
// head as far as it can be told.
func ParseHeader(b []byte) (h Header, size int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	h.Fin, h.Rsv, h.Opcode = b[0]&0x80 != 0, b[0]>>4&7, Opcode(b[0]&15)
	h.Masked = b[1]&0x80 != 0
	h.Length = uint64(b[1] & 0x7f)
	switch h.Length {
	case 126:
		h.Extended = 2
	case 127:
		h.Extended = 8
	}
	size = 2 + h.Extended
	if len(b) < size {
		return h, 0, nil
	}
	switch h.Extended {
	case 2:
		h.Length = uint64(binary.BigEndian.Uint16(b[2:]))
	case 8:
		if h.Length = binary.BigEndian.Uint64(b[2:]); h.Length>>63 != 0 {
			return h, size, ErrLength
		}
	}
	if !h.Masked {
		return h, size, nil
	}
	if len(b) < size+4 {
		return h, 0, nil
	}
	copy(h.Mask[:], b[size:])
	return h, size + 4, nil
}

// AppendHeader writes a head, also one that the RFC does not allow.
func AppendHeader(dst []byte, h Header) []byte {
	first := h.Rsv&7<<4 | uint8(h.Opcode&15)
	if h.Fin {
		first |= 0x80
	}
	var second byte
	if h.Masked {
		second = 0x80
	}
	switch h.extended() {
	case 0:
		dst = append(dst, first, second|byte(h.Length))
	case 2:
		dst = append(dst, first, second|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(h.Length))
	default:
		dst = append(dst, first, second|127)
		dst = binary.BigEndian.AppendUint64(dst, h.Length)
	}
	if h.Masked {
		dst = append(dst, h.Mask[:]...)
	}
	return dst
}

// AppendFrame writes a frame with its payload, masked where h says so. Length is
// that of the payload, whatever h says.
func AppendFrame(dst []byte, h Header, payload []byte) []byte {
	h.Length = uint64(len(payload))
	dst = AppendHeader(dst, h)
	from := len(dst)
	dst = append(dst, payload...)
	if h.Masked {
		Mask(dst[from:], h.Mask, 0)
	}
	return dst
}

// Mask masks or unmasks bytes in place (RFC 6455 §5.3). offset is where in the
// payload they stand.
func Mask(p []byte, key [4]byte, offset uint64) {
	var turned [8]byte
	for i := range turned {
		turned[i] = key[(offset+uint64(i))&3]
	}
	k := binary.LittleEndian.Uint64(turned[:])
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^k)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= turned[i]
	}
}
