package rule

import (
	"bytes"

	"github.com/holdfast-proxy/holdfast/wire"
)

func cookiePlace() targetPlace {
	return targetPlace{
		prefix: "cookie:",
		key:    "name",
		trims:  true,
		check:  tokenName,
		find: func(m *Message, t *Target) ([]byte, bool) {
			field, from, to := findCookie(m.Request, t.Name)
			if field < 0 {
				return nil, false
			}
			_, value := m.Request.Field(field)
			return value[from:to], true
		},
		put:    func(m *Message, t *Target, text []byte) (bool, error) { return putCookie(m.Request, t.Name, text) },
		render: written,
		plain:  asItIs,
		refuse: func(_ *Message, text []byte) string {
			for _, c := range text {
				if c == ';' {
					return "a semicolon, which would begin another cookie"
				}
				if c < ' ' && c != '\t' || c == 0x7f {
					return "a control character"
				}
			}
			return ""
		},
		drop: func(m *Message, t *Target) { dropCookie(m.Request, t.Name) },
	}
}

// findCookie finds the first cookie of a name: which field, and where in its
// value the cookie's value is, without the white space around it and with the
// quotes that it may have (they belong to it, RFC 6265 §5.2). Semicolons part
// cookies wherever they stand, as user agents write them (RFC 6265 §4.2.1).
func findCookie(req *wire.Request, name string) (field, from, to int) {
	for i := range req.NumFields() {
		n, line := req.Field(i)
		if !equalFold(n, "Cookie") {
			continue
		}
		for at := 0; at <= len(line); {
			end := len(line)
			if semicolon := bytes.IndexByte(line[at:], ';'); semicolon >= 0 {
				end = at + semicolon
			}
			if equals := bytes.IndexByte(line[at:end], '='); equals >= 0 && string(bytes.Trim(line[at:at+equals], " \t\r\n")) == name {
				from, to = trimSpan(line, at+equals+1, end)
				return i, from, to
			}
			at = end + 1
		}
	}
	return -1, 0, 0
}

func trimSpan(b []byte, from, to int) (int, int) {
	for from < to && isSpace(b[from]) {
		from++
	}
	for to > from && isSpace(b[to-1]) {
		to--
	}
	return from, to
}

// isSpace includes the line ends inside a folded value.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// putCookie writes the cookie's value, or adds the cookie to the end of the
// last Cookie field, or adds a field.
func putCookie(req *wire.Request, name string, text []byte) (bool, error) {
	field, from, to := findCookie(req, name)
	if field >= 0 {
		_, line := req.Field(field)
		return true, req.SetFieldValue(field, splice(line, from, to, text))
	}
	for i := req.NumFields() - 1; i >= 0; i-- {
		n, line := req.Field(i)
		if !equalFold(n, "Cookie") {
			continue
		}
		pair := append([]byte(name+"="), text...)
		switch {
		case len(line) == 0:
		case line[len(line)-1] == ';':
			pair = append([]byte(" "), pair...)
		default:
			pair = append([]byte("; "), pair...)
		}
		return true, req.SetFieldValue(i, splice(line, len(line), len(line), pair))
	}
	return true, req.Add("Cookie", name+"="+string(text))
}

// splice is a copy of b with b[from:to] replaced.
func splice(b []byte, from, to int, text []byte) []byte {
	out := make([]byte, 0, len(b)-(to-from)+len(text))
	out = append(out, b[:from]...)
	out = append(out, text...)
	return append(out, b[to:]...)
}

// dropCookie takes out every cookie of a name, and a Cookie field that holds
// nothing else.
func dropCookie(req *wire.Request, name string) {
	for i := req.NumFields() - 1; i >= 0; i-- {
		n, line := req.Field(i)
		if !equalFold(n, "Cookie") {
			continue
		}
		var left [][]byte
		pairs := bytes.Split(line, []byte(";"))
		for _, pair := range pairs {
			key, _, ok := bytes.Cut(pair, []byte("="))
			if !ok || string(bytes.Trim(key, " \t\r\n")) != name {
				left = append(left, pair)
			}
		}
		switch value := bytes.TrimLeft(bytes.Join(left, []byte(";")), " \t"); {
		case len(left) == len(pairs):
		case len(value) == 0:
			req.DelField(i)
		default:
			_ = req.SetFieldValue(i, value) // parts of a value can stand in one
		}
	}
}
