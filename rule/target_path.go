package rule

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

func segmentPlace() targetPlace {
	return targetPlace{
		prefix: "path:",
		key:    "segment",
		path:   true,
		fixed:  true,
		loose:  true,
		find: func(m *Message, t *Target) ([]byte, bool) {
			target := m.Request.Target()
			at, ok := findSegment(m.Request, t.Segment)
			return target[at.from:at.to], ok
		},
		put: func(m *Message, t *Target, text []byte) (bool, error) {
			at, ok := findSegment(m.Request, t.Segment)
			if !ok {
				return false, nil
			}
			return true, m.Request.SetTarget(splice(m.Request.Target(), at.from, at.to, text))
		},
		render: func(_ *Message, dst []byte, e Encoding, value string) []byte { return e.AppendParam(dst, value) },
		plain:  func(_ *Message, text string) string { return unescape(text, false) },
		refuse: refuseSegment,
	}
}

// refuseSegment says what only {{raw:…}} can bring, and the segments that are
// taken out of a path (RFC 3986 §5.2.4).
func refuseSegment(_ *Message, text []byte) string {
	if s := strings.ToLower(string(text)); s == "." || s == ".." {
		return "dots alone, which name another path"
	}
	for _, c := range text {
		if c <= ' ' || c == 0x7f || c == '/' || c == '?' || c == '#' {
			return fmt.Sprintf("%q, which does not stand in a segment unencoded", c)
		}
	}
	return ""
}

// findSegment finds a segment in a request's target.
func findSegment(req *wire.Request, n int) (span, bool) {
	target := req.Target()
	start, end := pathOf(req)
	at, ok := segmentAt(target[start:end], n)
	return span{start + at.from, start + at.to}, ok
}

// pathOf is where the path stands in a target; an absolute-form target has an
// origin before it, and "*" and the target of a CONNECT have none.
func pathOf(req *wire.Request) (from, to int) {
	target := req.Target()
	to = len(target)
	if i := bytes.IndexAny(target, "?#"); i >= 0 {
		to = i
	}
	if string(req.Method()) == "CONNECT" {
		return 0, 0
	}
	if scheme := bytes.Index(target[:to], []byte("://")); scheme > 0 && target[0] != '/' {
		from = scheme + len("://")
	}
	slash := bytes.IndexByte(target[from:to], '/')
	if slash < 0 {
		return 0, 0
	}
	return from + slash, to
}

// segmentAt finds the n-th segment of a path that begins with a slash. The
// empty one behind a slash at the end does not count.
func segmentAt(path []byte, n int) (at span, ok bool) {
	if len(path) == 0 || path[0] != '/' {
		return at, false
	}
	count := bytes.Count(bytes.TrimSuffix(path[1:], []byte("/")), []byte("/")) + 1
	if n < 0 {
		n += count + 1
	}
	if n < 1 || n > count {
		return at, false
	}
	for ; n > 0; n-- {
		at.from = at.to + 1
		at.to = len(path)
		if slash := bytes.IndexByte(path[at.from:], '/'); slash >= 0 {
			at.to = at.from + slash
		}
	}
	return at, at.to > at.from
}

// minPlaceholder is the least length of a placeholder in bytes: a shorter one
// stands where nobody put it.
const minPlaceholder = 4

func placeholderPlace() targetPlace {
	return targetPlace{
		prefix: "placeholder:",
		key:    "text",
		body:   true,
		path:   true,
		fixed:  true,
		check: func(t *Target) error {
			if len(t.Text) < minPlaceholder {
				return &Error{Problem: fmt.Sprintf("%q is too short for a placeholder", t.Text), Next: "make up a text of at least 4 characters that stands nowhere else, such as §TOKEN§"}
			}
			if strings.ContainsAny(t.Text, "\r\n\x00") {
				return &Error{Problem: "a placeholder is one line", Next: "take the line end out"}
			}
			return nil
		},
		find:   func(*Message, *Target) ([]byte, bool) { return nil, false },
		put:    func(*Message, *Target, []byte) (bool, error) { return false, nil },
		render: written,
		plain:  asItIs,
		refuse: anything,
	}
}

// replaceText puts the value in the place of the placeholder wherever it
// stands: in the target, in the values of fields, and in the body, each time
// encoded as it must be there. All of it or nothing is done.
func (t *Target) replaceText(m *Message, value string, lookup func(string) (string, bool)) (changed bool, err error) {
	old := []byte(t.Text)
	target, body := m.Request.Target(), m.Body
	if bytes.Count(body, old) > MaxMatches {
		return false, &Error{Problem: fmt.Sprintf("the placeholder stands in the body more than %d times", MaxMatches), Next: "make up another text"}
	}
	newTarget, fields := target, make(map[int][]byte)
	if bytes.Contains(target, old) {
		if newTarget, err = t.replaceInTarget(m, value, lookup); err != nil {
			return false, err
		}
	}
	header := headerPlace()
	for i := range m.Request.NumFields() {
		name, field := m.Request.Field(i)
		if len(name) == 0 || name[0] == ':' || isFramingField(name) || !bytes.Contains(field, old) {
			continue
		}
		text, err := t.fillWith(m, written, value, lookup)
		if err != nil {
			return false, err
		}
		place := header
		if equalFold(name, "Cookie") {
			place = cookiePlace()
		}
		if why := place.refuse(m, text); why != "" {
			return false, t.refused("a header", why)
		}
		fields[i] = bytes.ReplaceAll(field, old, text)
	}
	if bytes.Contains(body, old) {
		text, err := t.fillWith(m, renderStyled, value, lookup)
		if err != nil {
			return false, err
		}
		body = bytes.ReplaceAll(body, old, text)
	}
	if bytes.Equal(newTarget, target) && len(fields) == 0 && bytes.Equal(body, m.Body) {
		return false, nil
	}
	m.edit()
	if !bytes.Equal(newTarget, target) {
		if err := m.Request.SetTarget(newTarget); err != nil {
			return false, t.refused("the target", err.Error())
		}
	}
	for i, field := range fields {
		if err := m.Request.SetFieldValue(i, field); err != nil { // refused above
			return true, t.refused("a header", err.Error())
		}
	}
	m.Body = body
	return true, nil
}

func (t *Target) refused(where, why string) error {
	return &Error{Problem: "the value cannot stand in " + where + ": it contains " + why, Next: "encode it in a template, such as {{url:" + t.token + "}}"}
}

// replaceInTarget encodes for the path and for the query alike: what one of
// them needs does no harm in the other.
func (t *Target) replaceInTarget(m *Message, value string, lookup func(string) (string, bool)) ([]byte, error) {
	text, err := t.fillWith(m, queryPlace().render, value, lookup)
	if err != nil {
		return nil, err
	}
	for _, c := range text {
		if c <= ' ' || c == 0x7f || c == '#' || c == '?' {
			return nil, t.refused("the target", fmt.Sprintf("%q, which does not stand there unencoded", c))
		}
	}
	return bytes.ReplaceAll(m.Request.Target(), []byte(t.Text), text), nil
}
