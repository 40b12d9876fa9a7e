package rule

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Template is a text with variables: {{NAME}} or {{ NAME }}, and with an
// encoding {{json:NAME}}, {{url:NAME}}, {{base64:NAME}}, {{raw:NAME}}. Names
// are made of letters, digits, '_', '-' and '.', and case matters. A template
// never changes; any goroutine may use it.
type Template struct {
	src   string
	parts []Part
}

// Part is a piece of a template: text, or a variable.
type Part struct {
	Text     string   // as it stands in the template, braces included
	Name     string   // of the variable; "" for text
	Encoding Encoding // of the variable's value
}

// Encoding says how a variable's value is written.
type Encoding uint8

// The encodings.
const (
	EncodePlain  Encoding = iota // {{NAME}}: as the place needs it
	EncodeRaw                    // {{raw:NAME}}: as it is, whatever the place
	EncodeJSON                   // {{json:NAME}}: as inside a JSON string, RFC 8259 §7
	EncodeURL                    // {{url:NAME}}: percent-encoded, RFC 3986 §2.1
	EncodeBase64                 // {{base64:NAME}}: RFC 4648 §4, padded
)

func encodingOf(prefix string) (Encoding, bool) {
	switch prefix {
	case "raw":
		return EncodeRaw, true
	case "json":
		return EncodeJSON, true
	case "url":
		return EncodeURL, true
	case "base64":
		return EncodeBase64, true
	}
	return EncodePlain, false
}

// Append writes the value in the encoding. EncodePlain and EncodeRaw write it
// as it is. Bytes that are no UTF-8 stay as they are in JSON.
func (e Encoding) Append(dst []byte, value string) []byte {
	switch e {
	case EncodeJSON:
		return appendJSON(dst, value)
	case EncodeURL:
		return appendURL(dst, value)
	case EncodeBase64:
		return base64.StdEncoding.AppendEncode(dst, []byte(value))
	}
	return append(dst, value...)
}

// AppendParam writes the value as a query or a form body needs it: whatever the
// encoding makes of it is percent-encoded, unless it is EncodeRaw. EncodeURL
// does not encode twice.
func (e Encoding) AppendParam(dst []byte, value string) []byte {
	switch e {
	case EncodeRaw:
		return append(dst, value...)
	case EncodeJSON, EncodeBase64:
		return appendURL(dst, string(e.Append(nil, value)))
	}
	return appendURL(dst, value)
}

// decode undoes Append.
func (e Encoding) decode(text string) (string, bool) {
	switch e {
	case EncodeJSON:
		var s string
		err := json.Unmarshal([]byte(`"`+text+`"`), &s)
		return s, err == nil
	case EncodeURL:
		return unescape(text, false), true
	case EncodeBase64:
		b, err := base64.StdEncoding.DecodeString(text)
		return string(b), err == nil
	}
	return text, true
}

const hexDigits = "0123456789ABCDEF"

func appendJSON(dst []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ':
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendURL leaves the bytes alone that the encodeURIComponent of browsers
// does, so that a value looks like one that a page's own script has sent.
func appendURL(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; isAlnum(c) || strings.IndexByte("-_.!~*'()", c) >= 0 {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// unescape undoes percent-encoding; a percent sign without two hex digits
// after it is text.
func unescape(s string, plus bool) string {
	if strings.IndexByte(s, '%') < 0 && (!plus || strings.IndexByte(s, '+') < 0) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0:
			out = append(out, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
		case c == '+' && plus:
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isNameByte reports whether c can stand in the name of a variable.
func isNameByte(c byte) bool { return isAlnum(c) || c == '_' || c == '-' || c == '.' }

// ParseTemplate reads a template. Double braces around anything but names,
// colons and spaces are text, so "{{7*7}}" is sent as it stands; around an
// unknown encoding or two words they are a mistake. Errors are *Error.
func ParseTemplate(src string) (*Template, error) {
	t := &Template{src: src}
	text := 0 // where the text that is not yet a part begins
	for at := 0; ; {
		open := strings.Index(src[at:], "{{")
		if open < 0 {
			break
		}
		open += at
		inside, end, ok := variableAt(src, open)
		if !ok {
			at = open + 1
			continue
		}
		name, encoding, err := parseVariable(inside)
		if err != nil {
			return nil, err
		}
		if open > text {
			t.parts = append(t.parts, Part{Text: src[text:open]})
		}
		t.parts = append(t.parts, Part{Text: src[open:end], Name: name, Encoding: encoding})
		at, text = end, end
	}
	if text < len(src) {
		t.parts = append(t.parts, Part{Text: src[text:]})
	}
	return t, nil
}

// LiteralTemplate is a text without variables, whatever stands in it.
func LiteralTemplate(text string) *Template {
	return &Template{src: text, parts: []Part{{Text: text}}}
}

// variableAt finds what looks like a variable at src[open:], which begins with
// two braces.
func variableAt(src string, open int) (inside string, end int, ok bool) {
	i := open + 2
	word := false
	for ; i < len(src); i++ {
		if isNameByte(src[i]) {
			word = true
		} else if src[i] != ' ' && src[i] != '\t' && src[i] != ':' {
			break
		}
	}
	if !word || !strings.HasPrefix(src[i:], "}}") {
		return "", 0, false
	}
	return src[open+2 : i], i + 2, true
}

func parseVariable(inside string) (string, Encoding, error) {
	name := strings.Trim(inside, " \t")
	var encoding Encoding
	if prefix, rest, ok := strings.Cut(name, ":"); ok {
		if encoding, ok = encodingOf(prefix); !ok {
			return "", 0, &Error{Problem: fmt.Sprintf("{{%s}} has no encoding %q", inside, prefix),
				Next: "write json:, url:, base64: or raw: before the name, or the name alone"}
		}
		name = strings.Trim(rest, " \t")
	}
	if name == "" || strings.ContainsAny(name, " \t:") {
		return "", 0, &Error{Problem: fmt.Sprintf("{{%s}} is no variable", inside),
			Next: "names are made of letters, digits, '_', '-' and '.'"}
	}
	return name, encoding, nil
}

// String is the text the template was read from.
func (t *Template) String() string { return t.src }

// Parts are the template's pieces in order. The slice must not be changed.
func (t *Template) Parts() []Part { return t.parts }

// Names are the variables in the template, each once, in order of appearance.
func (t *Template) Names() []string {
	var names []string
	for _, p := range t.parts {
		if p.Name != "" && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// Expand puts values in the place of the variables, without an encoding as
// they are. Values are not expanded again. A variable without a value is left
// as written, and listed once in missing.
func (t *Template) Expand(lookup func(name string) (string, bool)) (text string, missing []string) {
	out := make([]byte, 0, len(t.src)+64)
	for _, p := range t.parts {
		if p.Name == "" {
			out = append(out, p.Text...)
			continue
		}
		value, ok := lookup(p.Name)
		if !ok {
			out = append(out, p.Text...)
			if !slices.Contains(missing, p.Name) {
				missing = append(missing, p.Name)
			}
			continue
		}
		out = p.Encoding.Append(out, value)
	}
	return string(out), missing
}

// strip is what the template's one variable stands for in text; false when
// there is not exactly one, or the text around it differs.
func (t *Template) strip(text string) (string, bool) {
	var found *Part
	for i := range t.parts {
		p := &t.parts[i]
		switch {
		case p.Name != "" && found != nil:
			return "", false
		case p.Name != "":
			found = p
		case found == nil:
			rest, ok := strings.CutPrefix(text, p.Text)
			if !ok {
				return "", false
			}
			text = rest
		default:
			rest, ok := strings.CutSuffix(text, p.Text)
			if !ok {
				return "", false
			}
			text = rest
		}
	}
	if found == nil {
		return "", false
	}
	return found.Encoding.decode(text)
}
