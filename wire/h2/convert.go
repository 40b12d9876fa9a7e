package h2

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// A ConvertError is a message that has no form in the other version of HTTP
// which would mean the same to everybody.
type ConvertError struct{ Reason string }

func (e *ConvertError) Error() string { return "the message cannot be converted: " + e.Reason }

// RequestTo2 gives an HTTP/1 request the form of HTTP/2 (RFC 9113 §8.3.1).
// notes name what was left out or changed beyond names in lower case.
func RequestTo2(r *wire.Request, tls bool) (to *wire.Request, notes []string, err error) {
	to = new(wire.Request)
	to.Reset(wire.HTTP2)
	scheme := "http"
	if tls {
		scheme = "https"
	}
	host := r.Host()
	add := func(name, value string) { to.AppendField([]byte(name), []byte(value), 0) }
	add(":method", string(r.Method()))
	if string(r.Method()) != "CONNECT" {
		add(":scheme", scheme)
	}
	if host != nil {
		add(":authority", string(host))
	}
	if string(r.Method()) != "CONNECT" {
		path := r.Path()
		if len(path) == 0 {
			path = []byte("/")
		}
		target := bytes.Clone(path)
		if q := r.Query(); q != nil {
			target = append(append(target, '?'), q...)
		}
		add(":path", string(target))
	}
	notes, err = fieldsTo2(&to.Head, &r.Head, func(name string, value []byte) bool {
		return name == "host" && bytes.Equal(value, host)
	})
	return to, notes, err
}

// ResponseTo2 gives an HTTP/1 answer the form of HTTP/2 (RFC 9113 §8.3.2).
func ResponseTo2(r *wire.Response) (to *wire.Response, notes []string, err error) {
	to = new(wire.Response)
	to.Reset(wire.HTTP2)
	to.AppendField([]byte(":status"), []byte(strconv.Itoa(r.Status())), 0)
	notes, err = fieldsTo2(&to.Head, &r.Head, func(string, []byte) bool { return false })
	return to, notes, err
}

// fieldsTo2 copies fields, without those of the connection (§8.2.2).
func fieldsTo2(to, from *wire.Head, skip func(name string, value []byte) bool) (notes []string, err error) {
	for i := range from.NumFields() {
		name, value := from.Field(i)
		if len(name) == 0 {
			notes = append(notes, "a line that is no field was left out")
			continue
		}
		lower := strings.ToLower(string(name))
		if skip(lower, value) {
			continue
		}
		switch {
		case connectionSpecific([]byte(lower)), lower == "http2-settings", from.HasToken("Connection", lower):
			if lower != "connection" && lower != "transfer-encoding" || lower == "connection" && !bytes.EqualFold(value, []byte("keep-alive")) && !bytes.EqualFold(value, []byte("close")) {
				notes = append(notes, lower+" belongs to an HTTP/1 connection and was left out")
			}
			continue
		case lower == "te" && !bytes.EqualFold(value, []byte("trailers")):
			notes = append(notes, "TE other than trailers was left out")
			continue
		}
		if reason := unsafeName([]byte(lower)); reason != "" {
			return notes, &ConvertError{reason}
		}
		if malformedValue(value) {
			value = unfold(value)
			notes = append(notes, "the folded value of "+lower+" became one line")
			if malformedValue(value) {
				return notes, &ConvertError{"CR, LF or NUL in a field value"}
			}
		}
		to.AppendField([]byte(lower), value, 0)
	}
	return notes, nil
}

// unfold is RFC 9112 §5.2: a folded line's end and the space behind it become
// spaces.
func unfold(v []byte) []byte {
	v = bytes.ReplaceAll(v, []byte("\r\n"), []byte("  "))
	return bytes.ReplaceAll(v, []byte("\n"), []byte(" "))
}

// RequestTo1 gives an HTTP/2 request the form of HTTP/1.1. body says whether
// anything follows the head; if it states no length, it goes in chunks.
func RequestTo1(r *wire.Request, body bool) (to *wire.Request, notes []string, err error) {
	method, target := r.Method(), r.Target()
	if !token(method) {
		return nil, nil, &ConvertError{"the method is no token"}
	}
	if len(target) == 0 || bytes.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return nil, nil, &ConvertError{"the path is empty, or has white space or control characters"}
	}
	b := append(append(append([]byte(nil), method...), ' '), target...)
	b = append(b, " HTTP/1.1\r\n"...)
	host := r.Host()
	if malformedValue(host) {
		return nil, nil, &ConvertError{"line ends in :authority"}
	}
	if authority, ok := r.Get(":authority"); ok {
		if h, has := r.Get("host"); has && !bytes.Equal(h, authority) {
			notes = append(notes, "Host differed from :authority, which took its place")
		}
	}
	if host != nil {
		b = append(append(append(b, "Host: "...), host...), "\r\n"...)
	}
	b, length, notes, err := fieldsTo1(b, &r.Head, notes)
	if err != nil {
		return nil, notes, err
	}
	if body && length < 0 {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	to, err = wire.ParseRequest(append(b, "\r\n"...))
	if err != nil {
		return nil, notes, &ConvertError{err.Error()}
	}
	return to, notes, nil
}

// ResponseTo1 gives an HTTP/2 answer the form of HTTP/1.1. body is as for
// requests; framed says that the client knows chunks, so that a body without a
// length is sent in them, else it lasts until the connection closes. Where there
// is no body, the head says so only if it did before: whether it has to depends
// on the request's method.
func ResponseTo1(r *wire.Response, body, framed bool) (to *wire.Response, notes []string, err error) {
	status := r.Status()
	if status < 100 {
		return nil, nil, &ConvertError{"the answer has no status"}
	}
	b := append([]byte("HTTP/1.1 "), strconv.Itoa(status)...)
	b = append(append(b, ' '), Phrase(status)...)
	b = append(b, "\r\n"...)
	b, length, notes, err := fieldsTo1(b, &r.Head, nil)
	if err != nil {
		return nil, notes, err
	}
	final := status >= 200 && status != 204 && status != 304
	switch {
	case length >= 0 || !final:
	case body && framed:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case body:
		b = append(b, "Connection: close\r\n"...)
	}
	to, err = wire.ParseResponse(append(b, "\r\n"...))
	if err != nil {
		return nil, notes, &ConvertError{err.Error()}
	}
	return to, notes, nil
}

// fieldsTo1 writes fields as lines: no pseudo-headers, Host done already,
// cookies joined (§8.2.3). Names and values that would become other lines are
// refused (§10.3), and so is what would frame the body in another way.
func fieldsTo1(b []byte, h *wire.Head, notes []string) (out []byte, length int64, more []string, err error) {
	length = -1
	cookie := 0
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if len(name) > 0 && name[0] == ':' {
			switch string(name) {
			case ":method", ":scheme", ":path", ":authority", ":status", ":protocol":
			default:
				notes = append(notes, "an unknown pseudo-header was left out")
			}
			continue
		}
		if reason := unsafeName(name); reason != "" {
			return b, 0, notes, &ConvertError{reason}
		}
		if malformedValue(value) {
			return b, 0, notes, &ConvertError{"CR, LF or NUL in a field value"}
		}
		lower := bytes.ToLower(name)
		switch string(lower) {
		case "host":
			if !h.Has(":status") {
				continue
			}
		case "transfer-encoding":
			return b, 0, notes, &ConvertError{"Transfer-Encoding, which HTTP/2 does not have"}
		case "connection", "proxy-connection", "keep-alive", "upgrade":
			notes = append(notes, string(lower)+" has no meaning in HTTP/2 and was left out")
			continue
		case "content-length":
			n, ok := number(value)
			if !ok || length >= 0 && n != length {
				return b, 0, notes, &ConvertError{"Content-Length is no number, or repeated with different values"}
			}
			if length >= 0 {
				notes = append(notes, "a repeated Content-Length was left out")
				continue
			}
			length = n
		case "cookie":
			if cookie++; cookie > 1 {
				continue // written with the first
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = joinCookies(b, h)
			b = append(b, "\r\n"...)
			continue
		}
		b = append(append(append(b, name...), ": "...), value...)
		b = append(b, "\r\n"...)
	}
	return b, length, notes, nil
}

// joinCookies appends the values of all Cookie fields as one.
func joinCookies(b []byte, h *wire.Head) []byte {
	first := true
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if !bytes.EqualFold(name, []byte("cookie")) || malformedValue(value) {
			continue
		}
		if !first {
			b = append(b, "; "...)
		}
		first = false
		b = append(b, value...)
	}
	return b
}

// TrailersTo1 are the lines of a trailer section, without the blank line
// behind them; fields that could change how a message is read are left out
// (RFC 9110 §6.5.1).
func TrailersTo1(h *wire.Head) []byte {
	if h == nil {
		return nil
	}
	var b []byte
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if unsafeName(name) != "" || malformedValue(value) || !trailing(name) {
			continue
		}
		b = append(append(append(b, name...), ": "...), value...)
		b = append(b, "\r\n"...)
	}
	return b
}

// TrailersTo2 is the reverse of TrailersTo1; nil when there are none.
func TrailersTo2(lines []byte) *wire.Head {
	var h wire.Head
	h.Reset(wire.HTTP2)
	for len(lines) > 0 {
		line := lines
		if i := bytes.IndexByte(lines, '\n'); i >= 0 {
			line, lines = lines[:i], lines[i+1:]
		} else {
			lines = nil
		}
		name, value, ok := bytes.Cut(bytes.TrimRight(line, "\r"), []byte(":"))
		name = bytes.ToLower(name)
		value = bytes.Trim(value, " \t")
		if ok && unsafeName(name) == "" && !malformedValue(value) && trailing(name) && !connectionSpecific(name) {
			h.AppendField(name, value, 0)
		}
	}
	if h.NumFields() == 0 {
		return nil
	}
	return &h
}

func trailing(name []byte) bool {
	switch strings.ToLower(string(name)) {
	case "content-length", "transfer-encoding", "host", "trailer", "content-encoding", "content-type", "content-range", "connection", "te":
		return false
	}
	return true
}

// unsafeName tells why a name cannot stand in a line of its own.
func unsafeName(name []byte) string {
	if !token(name) {
		return "a field name that is no token"
	}
	return ""
}

// token is RFC 9110 §5.6.2.
func token(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// Phrase is the usual reason phrase of a status (RFC 9110 §15), which HTTP/2
// does not carry; "" for those without.
func Phrase(status int) string {
	switch status {
	case 100:
		return "Continue"
	case 101:
		return "Switching Protocols"
	case 103:
		return "Early Hints"
	case 200:
		return "OK"
	case 201:
		return "Created"
	case 202:
		return "Accepted"
	case 204:
		return "No Content"
	case 206:
		return "Partial Content"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 303:
		return "See Other"
	case 304:
		return "Not Modified"
	case 307:
		return "Temporary Redirect"
	case 308:
		return "Permanent Redirect"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 409:
		return "Conflict"
	case 410:
		return "Gone"
	case 415:
		return "Unsupported Media Type"
	case 422:
		return "Unprocessable Content"
	case 429:
		return "Too Many Requests"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	}
	return ""
}
