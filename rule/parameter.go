package rule

import (
	"bytes"
	"encoding/json"
	"mime"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// hasParam reports whether the request has a parameter of one of the names: in
// the query, in a cookie, or in a body that can be looked at. Burp counts the
// same as parameters (its IParameter has PARAM_URL, PARAM_COOKIE, PARAM_BODY,
// PARAM_MULTIPART_ATTR and PARAM_JSON), and XML too, which is not done here.
// Names are compared decoded, and case matters.
func (v *view) hasParam(names []string) bool {
	req := v.flow.Request
	if req == nil {
		return false
	}
	return pairsHave(req.Query(), names) || cookiesHave(req, names) || v.bodyHas(req, names)
}

// pairsHave looks at name=value&name=value.
func pairsHave(pairs []byte, names []string) bool {
	for len(pairs) > 0 {
		var pair []byte
		pair, pairs, _ = bytes.Cut(pairs, []byte{'&'})
		name, _, _ := bytes.Cut(pair, []byte{'='})
		for _, n := range names {
			if len(name) > 0 && equalDecoded(name, n) {
				return true
			}
		}
	}
	return false
}

// equalDecoded compares text, of which escapes are decoded and a plus is a
// blank, with a name.
func equalDecoded(text []byte, name string) bool {
	if string(text) == name {
		return true
	}
	at := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(text) && hexValue(text[i+1]) >= 0 && hexValue(text[i+2]) >= 0:
			c = byte(hexValue(text[i+1])<<4 | hexValue(text[i+2]))
			i += 2
		}
		if at >= len(name) || name[at] != c {
			return false
		}
		at++
	}
	return at == len(name)
}

func cookiesHave(req *wire.Request, names []string) bool {
	for i := range req.NumFields() {
		name, value := req.Field(i)
		if !equalFold(name, "cookie") {
			continue
		}
		for len(value) > 0 {
			var pair []byte
			pair, value, _ = bytes.Cut(value, []byte{';'})
			cookie, _, _ := bytes.Cut(pair, []byte{'='})
			cookie = bytes.Trim(cookie, " \t")
			for _, n := range names {
				if string(cookie) == n {
					return true
				}
			}
		}
	}
	return false
}

// bodyHas looks at the body where it is of a kind that has parameters; others
// are not even read.
func (v *view) bodyHas(req *wire.Request, names []string) bool {
	if v.flow.RequestBody == nil {
		return false
	}
	field, _ := req.Get("content-type")
	kind, _, err := mime.ParseMediaType(string(field))
	if err != nil && kind == "" {
		return false
	}
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	if kind != "application/x-www-form-urlencoded" && kind != "multipart/form-data" && !isJSON {
		return false
	}
	body, ok := v.body()
	switch {
	case !ok:
		return false
	case isJSON:
		return jsonHas(body, names)
	case kind == "multipart/form-data":
		return multipartHas(&Message{Request: req, Body: body}, names)
	}
	return pairsHave(body, names)
}

// multipartHas looks at the names of the parts (RFC 7578 §4.2), as far as the
// body can be read.
func multipartHas(m *Message, names []string) bool {
	parts, _ := readMultipart(m)
	for _, name := range names {
		if _, ok := parts.find(m.Body, name); ok {
			return true
		}
	}
	return false
}

// jsonHas looks at the names of the members of every object, as far as the
// body can be read.
func jsonHas(body []byte, names []string) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	var open []byte // '{': a name comes next; ':': a value of an object; '['
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		last := len(open) - 1
		isName := last >= 0 && open[last] == '{'
		switch t := token.(type) {
		case json.Delim:
			if t == '}' || t == ']' {
				open = open[:last]
			} else {
				open = append(open, byte(t))
				continue
			}
		case string:
			if isName && slices.Contains(names, t) {
				return true
			}
			if isName {
				open[last] = ':'
				continue
			}
		}
		if last = len(open) - 1; last >= 0 && open[last] == ':' {
			open[last] = '{' // the value has ended
		}
	}
}
