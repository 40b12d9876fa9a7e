package rule

import (
	"bytes"
	"fmt"

	"github.com/holdfast-proxy/holdfast/wire"
)

func queryPlace() targetPlace {
	return targetPlace{
		prefix: "query:",
		key:    "name",
		loose:  true,
		find: func(m *Message, t *Target) ([]byte, bool) {
			target := m.Request.Target()
			p, ok := findParam(target, t.Name)
			if !ok {
				return nil, false
			}
			return target[p.from:p.to], true
		},
		put:    func(m *Message, t *Target, text []byte) (bool, error) { return putParam(m.Request, t.Name, text) },
		render: func(_ *Message, dst []byte, e Encoding, value string) []byte { return e.AppendParam(dst, value) },
		plain:  func(_ *Message, text string) string { return unescape(text, true) },
		refuse: func(_ *Message, text []byte) string { // what only {{raw:…}} can bring
			for _, c := range text {
				if c <= ' ' || c == 0x7f || c == '&' || c == '#' {
					return fmt.Sprintf("%q, which does not stand in a parameter unencoded", c)
				}
			}
			return ""
		},
		drop: func(m *Message, t *Target) { dropParam(m.Request, t.Name) },
	}
}

// param is where a parameter's value stands in a target.
type param struct {
	from, to int
	bare     bool // no equals sign: the value is to be added at from with one
}

// queryEnd is where the query ends: at a fragment, which no request should
// have, or at the end.
func queryEnd(target []byte) int {
	if i := bytes.IndexByte(target, '#'); i >= 0 {
		return i
	}
	return len(target)
}

// findParam finds the first parameter of a name. Names are compared decoded.
func findParam(target []byte, name string) (p param, ok bool) {
	last := queryEnd(target)
	mark := bytes.IndexByte(target[:last], '?')
	if mark < 0 {
		return p, false
	}
	return findPair(target[:last], mark+1, name)
}

// findPair finds the first pair of a name in what stands from at on.
func findPair(text []byte, at int, name string) (p param, ok bool) {
	for at <= len(text) {
		end := len(text)
		if and := bytes.IndexByte(text[at:], '&'); and >= 0 {
			end = at + and
		}
		equals := bytes.IndexByte(text[at:end], '=')
		key := text[at:end]
		if equals >= 0 {
			key = key[:equals]
		}
		if len(key) > 0 && (string(key) == name || unescape(string(key), true) == name) {
			if equals < 0 {
				return param{from: end, to: end, bare: true}, true
			}
			return param{from: at + equals + 1, to: end}, true
		}
		at = end + 1
	}
	return p, false
}

// putParam writes the parameter's value, or adds the parameter to the end of
// the query. A target without a path (OPTIONS *, CONNECT without :protocol) has no query.
func putParam(req *wire.Request, name string, text []byte) (bool, error) {
	target := req.Target()
	if p, ok := findParam(target, name); ok {
		if p.bare {
			text = append([]byte("="), text...)
		}
		return true, req.SetTarget(splice(target, p.from, p.to, text))
	}
	if string(target) == "*" || string(req.Method()) == "CONNECT" && !bytes.HasPrefix(target, []byte("/")) {
		return false, nil
	}
	end := queryEnd(target)
	var pair []byte
	switch mark := bytes.IndexByte(target[:end], '?'); {
	case mark < 0:
		pair = append(pair, '?')
	case mark < end-1 && target[end-1] != '&':
		pair = append(pair, '&')
	}
	pair = appendParamName(pair, name)
	pair = append(append(pair, '='), text...)
	return true, req.SetTarget(splice(target, end, end, pair))
}

// appendParamName encodes only what would end the name, so that names such as
// user[token] look as the application knows them.
func appendParamName(dst []byte, name string) []byte {
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ' || c >= 0x7f || c == '&' || c == '=' || c == '#' || c == '+' || c == '%':
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// dropParam takes out every parameter of a name, and the question mark with the
// last one.
func dropParam(req *wire.Request, name string) {
	target := req.Target()
	last := queryEnd(target)
	mark := bytes.IndexByte(target[:last], '?')
	if mark < 0 {
		return
	}
	out := append([]byte(nil), target[:mark]...)
	begin := byte('?')
	for pair := range bytes.SplitSeq(target[mark+1:last], []byte("&")) {
		key, _, _ := bytes.Cut(pair, []byte("="))
		if string(key) != name && unescape(string(key), true) != name {
			out = append(append(out, begin), pair...)
			begin = '&'
		}
	}
	_ = req.SetTarget(append(out, target[last:]...)) // parts of a target can stand in one
}
