package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// jsonPlace writes a text as a JSON text. Where a number, a truth or null
// stands and the value is one, it stays one without quotes; so does an object
// or array. A template that is nothing but {{raw:NAME}} is written as it is.
func jsonPlace() targetPlace {
	return targetPlace{
		prefix: "json:",
		key:    "pointer",
		body:   true,
		loose:  true,
		check: func(t *Target) (err error) {
			t.pointer, err = parsePointer(t.Pointer)
			return err
		},
		find: func(m *Message, t *Target) ([]byte, bool) {
			if !json.Valid(trimBOM(m.Body)) {
				return nil, false
			}
			at, _, missing := locateJSON(m.Body, t.pointer)
			if missing > 0 {
				return nil, false
			}
			return m.Body[at.from:at.to], true
		},
		put:    putJSON,
		render: renderJSON,
		plain:  plainJSON,
		refuse: anything,
	}
}

func trimBOM(body []byte) []byte { return bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")) }

// parsePointer reads a JSON pointer (RFC 6901) that names a place inside of the
// document.
func parsePointer(src string) ([]string, error) {
	if !strings.HasPrefix(src, "/") {
		return nil, &Error{Problem: fmt.Sprintf("%q is no JSON pointer", src), Next: "write /name/0/name; ~1 stands for a slash in a name, ~0 for a tilde"}
	}
	tokens := strings.Split(src[1:], "/")
	if len(tokens) > maxDescent {
		return nil, &Error{Problem: "the JSON pointer has too many steps", Next: "at most 64 are followed"}
	}
	for i, token := range tokens {
		for j := range len(token) {
			if token[j] == '~' && (j+1 == len(token) || token[j+1] != '0' && token[j+1] != '1') {
				return nil, &Error{Problem: "the tilde in " + strconv.Quote(token) + " stands alone", Next: "write ~0 for a tilde and ~1 for a slash"}
			}
		}
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// renderJSON writes inside of a JSON text. {{json:NAME}} does not escape twice.
func renderJSON(_ *Message, dst []byte, e Encoding, value string) []byte {
	switch e {
	case EncodeRaw:
		return append(dst, value...)
	case EncodePlain, EncodeJSON:
		return appendJSON(dst, value)
	}
	return appendJSON(dst, string(e.Append(nil, value)))
}

func plainJSON(_ *Message, text string) string {
	if !strings.HasPrefix(text, `"`) {
		return text
	}
	var s string
	if json.Unmarshal([]byte(text), &s) != nil {
		return text
	}
	return s
}

func isJSONText(text []byte) bool { return len(text) > 0 && text[0] == '"' }

// wantJSON makes a JSON value of the text that was rendered.
func (t *Target) wantJSON(now []byte, present bool, text []byte, value string, lookup func(string) (string, bool)) ([]byte, error) {
	if t.writesRaw() && len(t.Template.parts) == 1 {
		if !json.Valid(text) {
			return nil, &Error{Problem: "the value cannot stand in " + t.Place() + ": it is no JSON", Next: "write {{" + t.token + "}} to put it in as a text"}
		}
		return text, nil
	}
	if present && !isJSONText(now) && !t.writesRaw() {
		bare, err := t.fillWith(nil, written, value, lookup)
		if err == nil && json.Valid(bare) && bytes.Equal(bytes.TrimSpace(bare), bare) && likeJSON(now[0], bare[0]) {
			return bare, nil
		}
	}
	quoted := append(append([]byte{'"'}, text...), '"')
	if !json.Valid(quoted) {
		return nil, &Error{Problem: "the value cannot stand in " + t.Place() + ": it ends the JSON text that it stands in", Next: "write {{" + t.token + "}} without raw:"}
	}
	return quoted, nil
}

// likeJSON reports whether a value may take the place of another without
// quotes, by their first bytes: containers for containers, and numbers, truths
// and null for each other.
func likeJSON(now, next byte) bool {
	container := func(c byte) bool { return c == '{' || c == '[' }
	return next != '"' && container(now) == container(next)
}

// locateJSON follows a pointer through valid JSON. missing is how many steps
// lead nowhere; then at is the last value that was reached, and last where its
// last member or element ends, or 0 when it has none.
func locateJSON(body []byte, pointer []string) (at span, last int, missing int) {
	start := skipJSONSpace(body, len(body)-len(trimBOM(body)))
	at = span{start, jsonEnd(body, start)}
	for i, token := range pointer {
		child, end, ok := jsonChild(body, at.from, token)
		if !ok {
			return at, end, len(pointer) - i
		}
		at = child
	}
	return at, 0, 0
}

func skipJSONSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// jsonEnd is where the value that begins at i ends.
func jsonEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			if depth > 0 {
				break
			}
			for i < len(b) && bytes.IndexByte([]byte(",]} \t\r\n"), b[i]) < 0 {
				i++
			}
			return i
		}
		i++
		if depth == 0 {
			return i
		}
	}
	return i
}

// jsonChild finds the member or element of a name in the value that begins at
// i; of members with one name the last. end is where the last of all ends.
func jsonChild(b []byte, i int, name string) (child span, end int, ok bool) {
	object := b[i] == '{'
	if !object && b[i] != '[' {
		return child, 0, false
	}
	i = skipJSONSpace(b, i+1)
	for n := 0; b[i] != '}' && b[i] != ']'; n++ {
		var takes bool
		if object {
			key := b[i:jsonEnd(b, i)]
			takes = plainJSON(nil, string(key)) == name
			i = skipJSONSpace(b, i+len(key))
			i = skipJSONSpace(b, i+1) // the colon
		} else {
			takes = strconv.Itoa(n) == name
		}
		end = jsonEnd(b, i)
		if takes {
			child, ok = span{i, end}, true
		}
		if i = skipJSONSpace(b, end); b[i] == ',' {
			i = skipJSONSpace(b, i+1)
		}
	}
	return child, end, ok
}

// putJSON replaces the value, or adds a member to the object, or an element
// behind the last of the array ("-", RFC 6901 §4), that all steps but the last
// lead to.
func putJSON(m *Message, t *Target, text []byte) (bool, error) {
	if !json.Valid(trimBOM(m.Body)) {
		return false, errors.New("the body is no JSON")
	}
	at, last, missing := locateJSON(m.Body, t.pointer)
	if missing == 0 {
		m.Body = splice(m.Body, at.from, at.to, text)
		return true, nil
	}
	name := t.pointer[len(t.pointer)-1]
	array := m.Body[at.from] == '['
	if missing > 1 || m.Body[at.from] != '{' && (!array || name != "-") {
		return false, errors.New("the body has nothing that it could be added to")
	}
	added := text
	if !array {
		added = append(appendJSON([]byte{'"'}, name), `":`...)
		added = append(added, text...)
	}
	if last == 0 {
		last = at.from + 1
	} else {
		added = append([]byte(","), added...)
	}
	m.Body = splice(m.Body, last, last, added)
	return true, nil
}
