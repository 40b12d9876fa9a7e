package h2

import (
	"bytes"

	"github.com/holdfast-proxy/holdfast/wire"
)

// malformedRequest is RFC 9113 §8.1.1 to §8.3.1 and RFC 8441 §4, if extended
// CONNECT was offered; "" is a good request.
func malformedRequest(h *wire.Head, extended bool) string {
	var p pseudos
	regular := false
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if len(name) == 0 || name[0] != ':' {
			regular = true
			if reason := malformedField(name, value); reason != "" {
				return reason
			}
			continue
		}
		if regular {
			return "a pseudo-header behind a field"
		}
		one := p.of(name, extended)
		if one == nil {
			return "an unknown pseudo-header"
		}
		one.value = value
		one.times++
		if malformedValue(value) {
			return "CR, LF or NUL in a pseudo-header"
		}
	}
	if reason := p.malformed(); reason != "" {
		return reason
	}
	return malformedLength(h)
}

// pseudos are the pseudo-headers of a request.
type pseudos struct{ method, scheme, path, authority, protocol pseudo }

type pseudo struct {
	value []byte
	times int
}

func (p *pseudos) of(name []byte, extended bool) *pseudo {
	switch string(name) {
	case ":method":
		return &p.method
	case ":scheme":
		return &p.scheme
	case ":path":
		return &p.path
	case ":authority":
		return &p.authority
	case ":protocol":
		if extended {
			return &p.protocol
		}
	}
	return nil
}

func (p *pseudos) malformed() string {
	connect := string(p.method.value) == "CONNECT"
	extended := p.protocol.times > 0
	switch {
	case p.method.times != 1 || len(p.method.value) == 0:
		return ":method is missing, empty or repeated"
	case extended && !connect:
		return ":protocol without CONNECT" // RFC 8441 §4
	case extended && (p.protocol.times > 1 || !token(p.protocol.value)):
		return ":protocol is repeated, or no token"
	case connect && !extended && (p.scheme.times > 0 || p.path.times > 0 || p.authority.times != 1):
		return "CONNECT has :authority and nothing else" // §8.5
	case connect && !extended:
		return ""
	case p.scheme.times != 1:
		return ":scheme is missing or repeated"
	case p.path.times != 1 || len(p.path.value) == 0:
		return ":path is missing, empty or repeated"
	case extended && p.path.value[0] != '/':
		return ":path does not begin with a slash" // §8.3.1
	case extended && bytes.EqualFold(p.protocol.value, []byte("websocket")) &&
		string(p.scheme.value) != "https" && string(p.scheme.value) != "http":
		return ":scheme of a WebSocket is neither https nor http" // RFC 8441 §5
	case p.authority.times > 1:
		return ":authority is repeated"
	}
	return ""
}

// malformedResponse is RFC 9113 §8.1.1 to §8.3.2.
func malformedResponse(h *wire.Head, interim, end bool) string {
	status, regular := 0, false
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if len(name) == 0 || name[0] != ':' {
			regular = true
			if reason := malformedField(name, value); reason != "" {
				return reason
			}
			continue
		}
		if regular {
			return "a pseudo-header behind a field"
		}
		if string(name) != ":status" {
			return "a pseudo-header that answers do not have"
		}
		status++
		if len(value) != 3 || value[0] < '1' || value[0] > '9' || value[1] < '0' || value[1] > '9' || value[2] < '0' || value[2] > '9' {
			return ":status is no number of three digits"
		}
		if string(value) == "101" {
			return "101, which HTTP/2 does not have" // §8.6
		}
	}
	switch {
	case status != 1:
		return ":status is missing or repeated"
	case interim && end:
		return "an interim answer ends the stream" // §8.1
	}
	return malformedLength(h)
}

// malformedTrailers: no pseudo-headers in there (§8.1).
func malformedTrailers(h *wire.Head) string {
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if len(name) > 0 && name[0] == ':' {
			return "a pseudo-header among the trailers"
		}
		if reason := malformedField(name, value); reason != "" {
			return reason
		}
	}
	return ""
}

// malformedField is §8.2.1 and §8.2.2.
func malformedField(name, value []byte) string {
	if len(name) == 0 {
		return "a field without a name"
	}
	for _, ch := range name {
		if ch <= ' ' || ch >= 0x7f || ch == ':' || 'A' <= ch && ch <= 'Z' {
			return "a field name with upper case or an invalid byte"
		}
	}
	if malformedValue(value) {
		return "CR, LF or NUL in a field value"
	}
	if connectionSpecific(name) || string(name) == "te" && string(value) != "trailers" {
		return "a field of the connection, which HTTP/2 does not have"
	}
	return ""
}

func malformedValue(v []byte) bool {
	return bytes.IndexByte(v, '\r') >= 0 || bytes.IndexByte(v, '\n') >= 0 || bytes.IndexByte(v, 0) >= 0
}

// connectionSpecific are the fields of RFC 9113 §8.2.2, in lower case.
func connectionSpecific(name []byte) bool {
	switch string(name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// malformedLength: lengths that differ, or are none (RFC 9110 §8.6).
func malformedLength(h *wire.Head) string {
	if h.Has("content-length") && contentLength(h) < 0 {
		return "Content-Length is no number, or repeated with different values"
	}
	return ""
}
