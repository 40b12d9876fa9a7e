package wire

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// ErrUnsafe is returned by every edit whose new text would create a line, or a
// field with another name, than the caller asked for: text with CR, LF or NUL,
// or a name that is empty, starts with white space or contains a colon.
var ErrUnsafe = errors.New("wire: the new text contains CR, LF or NUL, or is no field name")

// Set gives the first field of that name a new value; its line keeps the name
// and spacing it had. Further fields of the name stay as they are. When there
// is none, Set adds one like [Head.Add].
func (h *Head) Set(name, value string) error {
	if i := h.find(name, 0); i >= 0 {
		return h.SetFieldValue(i, []byte(value))
	}
	return h.Add(name, value)
}

// Add appends a field after the last one, "Name: value" with the line end that
// the start line has. In HTTP/2 the name is written in lower case (RFC 9113
// §8.2.1).
func (h *Head) Add(name, value string) error { return addField(h, name, value) }

// AddBytes is Add for a value that is bytes already. It copies them.
func (h *Head) AddBytes(name string, value []byte) error { return addField(h, name, value) }

func addField[T string | []byte](h *Head, name string, value T) error {
	if !safeName(name) || !safeText(value) {
		return ErrUnsafe
	}
	if h.proto == HTTP2 {
		return h.AppendField([]byte(strings.ToLower(name)), []byte(value), 0)
	}
	end := "\r\n"
	if n := h.startHi; n == 1 || n > 1 && h.buf[n-2] != '\r' {
		end = "\n"
	}
	lo := h.end()
	n := len(name) + len(": ") + len(value) + len(end)
	h.buf = slices.Grow(h.buf, n)[:len(h.buf)+n]
	gap := h.buf[lo:]
	copy(gap[n:], gap)
	gap = gap[copy(gap, name):]
	gap = gap[copy(gap, ": "):]
	gap = gap[copy(gap, value):]
	copy(gap, end)
	nameHi := lo + uint32(len(name))
	valHi := nameHi + 2 + uint32(len(value))
	h.fields = append(h.fields, field{lo: lo, nameHi: nameHi, valLo: nameHi + 2, valHi: valHi, hi: valHi + uint32(len(end))})
	return nil
}

// AppendField appends a field verbatim to an HTTP/2 head, whatever its bytes:
// name and value are copied, order and flags are kept. It is for the codec that
// decodes a field section; others use Add. For HTTP/1 it is Add.
func (h *Head) AppendField(name, value []byte, flags FieldFlags) error {
	if h.proto != HTTP2 {
		return h.Add(string(name), string(value))
	}
	lo := uint32(len(h.buf))
	h.buf = append(append(h.buf, name...), value...)
	nameHi, hi := lo+uint32(len(name)), uint32(len(h.buf))
	h.fields = append(h.fields, field{lo: lo, nameHi: nameHi, valLo: nameHi, valHi: hi, hi: hi, flags: flags})
	return nil
}

// Del removes every field of that name with its lines and tells how many.
func (h *Head) Del(name string) int {
	n := 0
	for i := h.find(name, 0); i >= 0; i = h.find(name, i) {
		h.DelField(i)
		n++
	}
	return n
}

// DelField removes the i-th field with its lines.
func (h *Head) DelField(i int) {
	f := h.fields[i]
	h.buf = slices.Delete(h.buf, int(f.lo), int(f.hi))
	h.fields = slices.Delete(h.fields, i, i+1)
	h.shift(i, f.lo-f.hi)
}

// SetFieldValue replaces the value of the i-th field and nothing else. The
// lines of a folded value become one.
func (h *Head) SetFieldValue(i int, value []byte) error {
	f := &h.fields[i]
	if !safeText(value) {
		return ErrUnsafe
	}
	if f.flags&NoColon != 0 && (len(value) == 0 || isSpace(value[0])) {
		return ErrUnsafe // the line would end the head, or fold into the one before
	}
	h.buf = slices.Replace(h.buf, int(f.valLo), int(f.valHi), value...)
	valHi := f.valLo + uint32(len(value))
	delta := valHi - f.valHi
	f.valHi = valHi
	f.hi += delta
	if f.flags&NoColon == 0 && bytes.IndexByte(h.buf[f.lo:f.hi], '\n') == int(f.hi-f.lo)-1 {
		f.flags &^= Folded
	}
	h.shift(i+1, delta)
	return nil
}

// end is where the last field ends and the blank line starts.
func (h *Head) end() uint32 {
	if n := len(h.fields); n > 0 {
		return h.fields[n-1].hi
	}
	return h.startHi
}

// shift moves the spans of the fields from the i-th on. A delta that makes
// them smaller wraps around, and so does the sum.
func (h *Head) shift(i int, delta uint32) {
	for ; i < len(h.fields); i++ {
		f := &h.fields[i]
		f.lo += delta
		f.nameHi += delta
		f.valLo += delta
		f.valHi += delta
		f.hi += delta
	}
}

// setWord replaces the i-th word of the start line, or the pseudo-header which
// holds it in HTTP/2; a missing one is put before all others, where
// pseudo-headers belong (RFC 9113 §8.3).
func (h *Head) setWord(i int, pseudo string, text []byte) error {
	if !safeText(text) {
		return ErrUnsafe
	}
	if h.proto == HTTP2 {
		if j := h.pseudo(pseudo); j >= 0 {
			return h.SetFieldValue(j, text)
		}
		line := append([]byte(pseudo), text...)
		h.shift(0, uint32(len(line)))
		h.buf = slices.Insert(h.buf, 0, line...)
		nameHi, hi := uint32(len(pseudo)), uint32(len(line))
		h.fields = slices.Insert(h.fields, 0, field{nameHi: nameHi, valLo: nameHi, valHi: hi, hi: hi})
		return nil
	}
	s := &h.part[i]
	h.buf = slices.Replace(h.buf, int(s.lo), int(s.hi), text...)
	delta := s.lo + uint32(len(text)) - s.hi
	s.hi += delta
	for j := i + 1; j < len(h.part); j++ {
		h.part[j].lo += delta
		h.part[j].hi += delta
	}
	h.startHi += delta
	h.shift(0, delta)
	return nil
}

func safeText[T string | []byte](text T) bool {
	for i := range len(text) {
		if b := text[i]; b < ' ' && (b == '\n' || b == '\r' || b == 0) {
			return false
		}
	}
	return true
}

func safeName(s string) bool {
	return s != "" && !isSpace(s[0]) && !isSpace(s[len(s)-1]) && !strings.ContainsAny(s, ":\r\n\x00")
}
