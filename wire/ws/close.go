package ws

import "encoding/binary"

// CodeNone stands for a close frame without a code (RFC 6455 §7.1.5). It never
// stands in a frame itself.
const CodeNone = 1005

// ParseClose reads the payload of a close frame (RFC 6455 §5.5.1). Without a
// code it is CodeNone. ok is false for a payload of one byte and for a code that
// nobody may send; the code is told nevertheless.
func ParseClose(payload []byte) (code int, reason []byte, ok bool) {
	switch len(payload) {
	case 0:
		return CodeNone, nil, true
	case 1:
		return CodeNone, nil, false
	}
	code = int(binary.BigEndian.Uint16(payload))
	return code, payload[2:], ValidCode(code)
}

// AppendClose writes the payload of a close frame.
func AppendClose(dst []byte, code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(code)), reason...)
}

// ValidCode reports whether a code may stand in a close frame (RFC 6455 §7.4,
// and the registry of §11.7 for 1012 to 1014).
func ValidCode(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return code >= 3000 && code <= 4999
}
