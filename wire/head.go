package wire

import (
	"bytes"
	"slices"
)

// Proto says which form of a message is the truth.
type Proto uint8

// The forms of a message.
const (
	HTTP1 Proto = iota // HTTP/1.x, and whatever looks like it: the bytes
	HTTP2              // HTTP/2: the list of fields
)

// FieldFlags tell what is remarkable about one field.
type FieldFlags uint8

// The flags of a field. NeverIndex belongs to HTTP/2, the others to HTTP/1.
const (
	NeverIndex       FieldFlags = 1 << iota // never-indexed literal, RFC 7541 §6.2.3
	SpaceBeforeColon                        // "Name : value", RFC 9112 §5.1
	NoColon                                 // a line that is no field: its name is empty, its value the line
	OddName                                 // the name begins or ends with a byte no token may hold
	Folded                                  // continued on a further line, RFC 9112 §5.2
	BareLF                                  // a line ended by LF alone, RFC 9112 §2.2
)

type span struct{ lo, hi uint32 }

// A field is its line in Head.buf, line ends and folded lines included. Name
// starts where the line does. In HTTP/2 the value follows the name directly.
type field struct {
	lo, nameHi, valLo, valHi, hi uint32
	flags                        FieldFlags
}

// A Head is a start line and the fields after it, or in HTTP/2 the list of
// fields. The zero value is an empty HTTP/1 head. Slices that its methods
// return point into it and are valid until it is edited, reset or read into.
type Head struct {
	proto   Proto
	odd     Notes // what the parser found outside of fields
	buf     []byte
	part    [3]span // the three words of the start line
	startHi uint32  // the end of the start line, line end included
	fields  []field
}

// Proto tells which form the head has.
func (h *Head) Proto() Proto { return h.proto }

// Reset empties the head and keeps its memory.
func (h *Head) Reset(p Proto) {
	*h = Head{proto: p, buf: h.buf[:0], fields: h.fields[:0]}
}

// clone copies h with a little room, so that a first edit moves bytes but
// does not allocate again.
func (h *Head) clone() Head {
	var c Head
	h.copyTo(&c)
	return c
}

// editRoom is the room for what an edit adds, in bytes: a token, mostly.
const editRoom = 256

func (h *Head) copyTo(c *Head) {
	buf, fields := c.buf[:0], c.fields[:0]
	if cap(buf) < len(h.buf)+editRoom {
		buf = make([]byte, 0, len(h.buf)+editRoom)
	}
	if cap(fields) < len(h.fields)+1 {
		fields = make([]field, 0, len(h.fields)+1)
	}
	*c = *h
	c.buf, c.fields = append(buf, h.buf...), append(fields, h.fields...)
}

// Bytes is the head as it stands on an HTTP/1 connection, blank line
// included, and not a copy. For HTTP/2 it is a new rendering in the manner of
// HTTP/1, for people and for searching.
func (h *Head) Bytes() []byte {
	if h.proto == HTTP2 {
		return h.render()
	}
	return h.buf
}

// NumFields counts the fields: in HTTP/1 the lines after the start line,
// folded ones counted once; in HTTP/2 all, pseudo-headers included.
func (h *Head) NumFields() int { return len(h.fields) }

// Field is the i-th field as received, the value without the spaces and tabs
// around it. A folded value contains its line ends. The name of an HTTP/1 line
// which is no field is empty (see [NoColon]); that of an HTTP/2 pseudo-header
// starts with a colon.
func (h *Head) Field(i int) (name, value []byte) {
	f := &h.fields[i]
	return h.buf[f.lo:f.nameHi:f.nameHi], h.buf[f.valLo:f.valHi:f.valHi]
}

// Flags are the flags of the i-th field.
func (h *Head) Flags(i int) FieldFlags { return h.fields[i].flags }

// find returns the index of the next field of that name from i on, or -1.
func (h *Head) find(name string, i int) int {
	if name == "" {
		return -1
	}
	for ; i < len(h.fields); i++ {
		f := &h.fields[i]
		if int(f.nameHi-f.lo) == len(name) && equalFold(h.buf[f.lo:f.nameHi], name) {
			return i
		}
	}
	return -1
}

// Get is the value of the first field of that name, in any ASCII case. It
// does not allocate.
func (h *Head) Get(name string) ([]byte, bool) {
	i := h.find(name, 0)
	if i < 0 {
		return nil, false
	}
	_, v := h.Field(i)
	return v, true
}

// Has tells whether a field of that name is there.
func (h *Head) Has(name string) bool { return h.find(name, 0) >= 0 }

// HasToken tells whether the comma-separated list that all fields of that
// name form (RFC 9110 §5.3) contains the token, in any ASCII case.
func (h *Head) HasToken(name, token string) bool {
	for i := h.find(name, 0); i >= 0; i = h.find(name, i+1) {
		_, v := h.Field(i)
		for len(v) > 0 {
			var word []byte
			if word, v = cutList(v); equalFold(word, token) {
				return true
			}
		}
	}
	return false
}

// Combined is the value of all fields of that name, joined by ", " (RFC 9110
// §5.3); nil when there is none. It allocates only when there are several.
func (h *Head) Combined(name string) []byte {
	i := h.find(name, 0)
	if i < 0 {
		return nil
	}
	_, v := h.Field(i)
	for i = h.find(name, i+1); i >= 0; i = h.find(name, i+1) {
		_, more := h.Field(i)
		v = append(append(v, ", "...), more...)
	}
	return v
}

// cutList takes the first element off a comma-separated list, without the
// white space around it (line ends of a folded value count as such).
func cutList(v []byte) (word, rest []byte) {
	if i := bytes.IndexByte(v, ','); i >= 0 {
		v, rest = v[:i], v[i+1:]
	}
	return trimList(v), rest
}

func trimList(v []byte) []byte {
	for len(v) > 0 && isListSpace(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && isListSpace(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

func isListSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// equalFold compares in any ASCII case. bytes.EqualFold would also take the
// Kelvin sign for a k, which no other recipient does.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		d := s[i]
		if c == d {
			continue
		}
		if c|0x20 != d|0x20 || c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return true
}

// pseudo is the index of an HTTP/2 pseudo-header, or -1. Their names have no
// upper case (RFC 9113 §8.3), so the comparison is exact.
func (h *Head) pseudo(name string) int {
	return slices.IndexFunc(h.fields, func(f field) bool { return string(h.buf[f.lo:f.nameHi]) == name })
}

// word is the i-th word of the start line, or in HTTP/2 the pseudo-header
// which holds it.
func (h *Head) word(i int, pseudo string) []byte {
	if h.proto == HTTP2 {
		if j := h.pseudo(pseudo); j >= 0 {
			_, v := h.Field(j)
			return v
		}
		return nil
	}
	s := h.part[i]
	return h.buf[s.lo:s.hi:s.hi]
}

// render writes an HTTP/2 head in the manner of HTTP/1: pseudo-headers which
// make up the start line go there, the authority becomes a Host line.
func (h *Head) render() []byte {
	b := make([]byte, 0, len(h.buf)+4*len(h.fields)+32)
	if i := h.pseudo(":status"); i >= 0 {
		_, v := h.Field(i)
		b = append(append(b, "HTTP/2 "...), v...)
	} else {
		b = append(append(b, h.word(0, ":method")...), ' ')
		b = append(append(b, h.requestTarget()...), " HTTP/2"...)
	}
	b = append(b, "\r\n"...)
	for i := range h.fields {
		name, value := h.Field(i)
		switch string(name) {
		case ":status", ":method", ":path", ":scheme":
			continue
		case ":authority":
			if h.Has("host") {
				continue
			}
			name = []byte("Host")
		}
		b = append(append(append(b, name...), ": "...), value...)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}
