package wire

import (
	"bytes"
	"strconv"
)

// A Request is the head of a request.
type Request struct{ Head }

// Clone is a copy that shares no memory with r.
func (r *Request) Clone() *Request { return &Request{r.clone()} }

// CopyTo makes dst a copy of r, in the memory that dst has.
func (r *Request) CopyTo(dst *Request) { r.copyTo(&dst.Head) }

// Method is the first word of the request line, or :method.
func (r *Request) Method() []byte { return r.word(0, ":method") }

// Target is what stands between method and version, spaces inside it
// included; in HTTP/2 :path, or :authority for a CONNECT without path.
func (r *Request) Target() []byte { return r.requestTarget() }

// Version is the last word of the request line if that looks like "HTTP/…",
// else empty; "HTTP/2" in HTTP/2.
func (r *Request) Version() []byte {
	if r.proto == HTTP2 {
		return []byte("HTTP/2")
	}
	return r.word(2, "")
}

// Path is the path of an origin-form or absolute-form target as it stands
// there, escapes untouched; "*" for the asterisk-form, empty for CONNECT.
func (r *Request) Path() []byte {
	_, path, _ := r.splitTarget()
	return path
}

// Query is what follows the first question mark of the target, untouched.
func (r *Request) Query() []byte {
	_, _, query := r.splitTarget()
	return query
}

// Host is where the request says that it goes, with the port if it names one:
// the authority of an absolute-form target or of CONNECT (RFC 9112 §3.2.2), or
// :authority, else the first Host field. Credentials before an @ are left out.
func (r *Request) Host() []byte {
	if r.proto == HTTP2 {
		if a := r.word(0, ":authority"); a != nil {
			return a
		}
	} else if a, _, _ := r.splitTarget(); a != nil {
		return a[bytes.LastIndexByte(a, '@')+1:]
	}
	host, _ := r.Get("host")
	return host
}

// KeepAlive tells whether the sender of the request means the connection to
// persist (RFC 9112 §9.3).
func (r *Request) KeepAlive() bool { return r.keepAlive(r.part[2]) }

// SetMethod replaces the method.
func (r *Request) SetMethod(method []byte) error { return r.setWord(0, ":method", method) }

// SetTarget replaces the target.
func (r *Request) SetTarget(target []byte) error { return r.setWord(1, ":path", target) }

func (h *Head) requestTarget() []byte {
	t := h.word(1, ":path")
	if t == nil && h.proto == HTTP2 {
		return h.word(1, ":authority")
	}
	return t
}

// splitTarget takes the target apart: RFC 9112 §3.2. authority is nil in
// origin-form and asterisk-form.
func (r *Request) splitTarget() (authority, path, query []byte) {
	rest := r.Target()
	if string(r.Method()) == "CONNECT" && (r.proto == HTTP1 || r.pseudo(":path") < 0) {
		return rest, nil, nil
	}
	if i := schemeLen(rest); i > 0 {
		rest = rest[i:]
		end := bytes.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		authority, rest = rest[:end:end], rest[end:]
	}
	if i := bytes.IndexByte(rest, '?'); i >= 0 {
		return authority, rest[:i:i], rest[i+1:]
	}
	return authority, rest, nil
}

// schemeLen is the length of a leading "scheme://", or 0.
func schemeLen(t []byte) int {
	for i, c := range t {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', i > 0 && (c == '+' || c == '-' || c == '.' || '0' <= c && c <= '9'):
		case c == ':' && i > 0 && bytes.HasPrefix(t[i:], []byte("://")):
			return i + len("://")
		default:
			return 0
		}
	}
	return 0
}

// A Response is the head of a response.
type Response struct{ Head }

// Clone is a copy that shares no memory with r.
func (r *Response) Clone() *Response { return &Response{r.clone()} }

// Status is the status code, 0 when an HTTP/2 head has none of three digits.
func (r *Response) Status() int {
	s := r.word(1, ":status")
	if len(s) != 3 {
		return 0
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// SetStatus replaces the status code, a number of three digits; the text after
// it stays.
func (r *Response) SetStatus(code int) error {
	if code < 100 || code > 999 {
		return ErrUnsafe
	}
	return r.setWord(1, ":status", strconv.AppendInt(nil, int64(code), 10))
}

// Reason is the text after the status code; HTTP/2 has none.
func (r *Response) Reason() []byte {
	if r.proto == HTTP2 {
		return nil
	}
	return r.word(2, "")
}

// Version is the first word of the status line; "HTTP/2" in HTTP/2.
func (r *Response) Version() []byte {
	if r.proto == HTTP2 {
		return []byte("HTTP/2")
	}
	return r.word(0, "")
}

// KeepAlive tells whether the sender of the response means the connection to
// persist (RFC 9112 §9.3). A body that lasts until the connection closes is
// not considered.
func (r *Response) KeepAlive() bool { return r.keepAlive(r.part[0]) }

// keepAlive is RFC 9112 §9.3: close ends a connection; HTTP/1.1 and later
// persist without saying so, HTTP/1.0 only with keep-alive.
func (h *Head) keepAlive(version span) bool {
	if h.proto == HTTP2 {
		return true
	}
	if h.HasToken("Connection", "close") {
		return false
	}
	if v := h.buf[version.lo:version.hi]; isVersion1(v) && v[len(v)-1] != '0' {
		return true
	}
	return h.HasToken("Connection", "keep-alive")
}

// isVersion1 accepts "HTTP/1." and one digit: RFC 9112 §2.3.
func isVersion1(v []byte) bool {
	return len(v) == len("HTTP/1.1") && string(v[:7]) == "HTTP/1." && '0' <= v[7] && v[7] <= '9'
}
