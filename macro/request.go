package macro

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/rule"
)

// RequestTemplate is the text of a request with variables in it. It never
// changes after ParseRequest; any goroutine may use it.
type RequestTemplate struct {
	src     string
	tls     bool
	method  *rule.Template
	target  *rule.Template
	version string
	fields  []*rule.Template // one line each, without its line end
	body    *rule.Template   // nil: none
}

// ParseRequest reads a request template. tls says how a request whose target
// names no scheme is sent. Blank lines before the request line and one line end
// after the body, as a YAML block has it, are dropped. Errors are *rule.Error.
func ParseRequest(src string, tls bool) (*RequestTemplate, error) {
	t := &RequestTemplate{src: src, tls: tls}
	text := strings.TrimLeft(src, "\r\n")
	if strings.TrimSpace(text) == "" {
		return nil, &rule.Error{Problem: "the request is empty", Next: "write a request line such as POST https://shop.example/login HTTP/1.1"}
	}
	number := 1 + strings.Count(src[:len(src)-len(text)], "\n")
	line, rest, more := cutLine(text)
	if err := t.parseRequestLine(line); err != nil {
		return nil, atLine(number, err)
	}
	for more {
		number++
		line, rest, more = cutLine(rest)
		if line == "" {
			break
		}
		field, err := parseField(line, len(t.fields) == 0)
		if err != nil {
			return nil, atLine(number, err)
		}
		t.fields = append(t.fields, field)
	}
	if body := strings.TrimSuffix(strings.TrimSuffix(rest, "\n"), "\r"); body != "" {
		var err error
		if t.body, err = rule.ParseTemplate(body); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Reads reports whether the request is a GET or HEAD that carries neither a body
// nor credentials in its head.
func (t *RequestTemplate) Reads() bool {
	none := func(string) (string, bool) { return "", false }
	method, missing := t.method.Expand(none)
	if len(missing) > 0 || method != "GET" && method != "HEAD" || t.body != nil {
		return false
	}
	return !slices.ContainsFunc(t.fields, func(field *rule.Template) bool {
		line, _ := field.Expand(none)
		name, _, _ := strings.Cut(strings.ToLower(line), ":")
		return name == "authorization" || name == "cookie"
	})
}

// cutLine parts the first line, without its line end, from the rest.
func cutLine(s string) (line, rest string, more bool) {
	line, rest, more = strings.Cut(s, "\n")
	return strings.TrimSuffix(line, "\r"), rest, more
}

func atLine(n int, err error) error {
	e, ok := err.(*rule.Error)
	if !ok || strings.HasPrefix(e.Problem, "{{") {
		return err
	}
	out := *e
	out.Problem = fmt.Sprintf("line %d of the request: %s", n, e.Problem)
	return &out
}

// parseRequestLine reads METHOD TARGET [VERSION]. Spaces inside double braces
// part nothing.
func (t *RequestTemplate) parseRequestLine(line string) (err error) {
	method, rest, ok := cutOutside(line, ' ')
	rest = strings.Trim(rest, " ")
	if !ok || method == "" || rest == "" {
		return &rule.Error{Problem: fmt.Sprintf("%q is no request line", method), Next: "write method and target, such as GET https://shop.example/ HTTP/1.1"}
	}
	t.version = "HTTP/1.1"
	if i := strings.LastIndexByte(rest, ' '); i >= 0 && strings.HasPrefix(rest[i+1:], "HTTP/") {
		if rest[i+1:] == "HTTP/1.0" {
			t.version = "HTTP/1.0"
		}
		rest = strings.TrimRight(rest[:i], " ")
	}
	if t.method, err = rule.ParseTemplate(method); err != nil {
		return err
	}
	t.target, err = rule.ParseTemplate(rest)
	return err
}

// cutOutside cuts at the first separator that is not inside double braces.
func cutOutside(s string, separator byte) (before, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], "{{") {
			if end := strings.Index(s[i:], "}}"); end >= 0 {
				i += end + 1
				continue
			}
		}
		if s[i] == separator {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// parseField reads a line of the head: a field, or the continuation of one.
func parseField(line string, isFirst bool) (*rule.Template, error) {
	folded := (line[0] == ' ' || line[0] == '\t') && !isFirst
	if strings.IndexByte(`{[<"`, line[0]) >= 0 && !strings.HasPrefix(line, "{{") {
		return nil, &rule.Error{Problem: "this looks like the body, and the head has not ended", Next: "put an empty line before it"}
	}
	name, _, ok := cutOutside(line, ':')
	if !folded && (!ok || strings.TrimSpace(name) == "") {
		return nil, &rule.Error{Problem: "this is no header: it has no colon after a name", Next: "write Name: value, and an empty line before the body"}
	}
	return rule.ParseTemplate(line)
}

// String is the text the template was read from.
func (t *RequestTemplate) String() string { return t.src }

// Names are the variables in the template, each once, in order of appearance.
func (t *RequestTemplate) Names() []string {
	var names []string
	for _, part := range slices.Concat([]*rule.Template{t.method, t.target}, t.fields, []*rule.Template{t.body}) {
		if part == nil {
			continue
		}
		for _, name := range part.Names() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// names are the Names as the run knows them: {{env.X}} is X.
func (t *RequestTemplate) names() []string {
	names := t.Names()
	for i, name := range names {
		names[i] = outside(name)
	}
	return names
}

// BuildError says why a template cannot be filled in. It holds no values.
type BuildError struct {
	Missing []string // variables without a value
	Problem string   // else what is wrong
	Next    string
}

func (e *BuildError) Error() string {
	s := e.Problem
	if len(e.Missing) > 0 {
		s = "no value for " + strings.Join(e.Missing, ", ")
	}
	if e.Next != "" {
		s += "; " + e.Next
	}
	return s
}

func unbuilt(next, format string, args ...any) *BuildError {
	return &BuildError{Problem: fmt.Sprintf(format, args...), Next: next}
}

// encodeNext is what to do about a value that cannot stand where it is put.
func encodeNext(name string) string {
	return "encode it, such as {{url:" + name + "}}, or correct the value"
}

// values is how a template is filled in: what a variable stands for, and how
// that is written at the end of what stands before it.
type values struct {
	lookup func(name string) (string, bool)
	append func(dst []byte, p rule.Part, value string) ([]byte, *BuildError)
	text   func(dst []byte, text string) []byte // nil: as it is
}

func (v values) fill(t *rule.Template) ([]byte, *BuildError) {
	var dst []byte
	for _, p := range t.Parts() {
		if p.Name == "" {
			if v.text != nil {
				dst = v.text(dst, p.Text)
			} else {
				dst = append(dst, p.Text...)
			}
			continue
		}
		value, ok := v.lookup(p.Name)
		if !ok {
			return nil, &BuildError{Missing: []string{p.Name}}
		}
		var err *BuildError
		if dst, err = v.append(dst, p, value); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendTarget writes a value into the request line. At its very beginning a
// value is the base of the URL and stays as it is; in the query it is
// percent-encoded; nowhere may it end the target.
func appendTarget(dst []byte, p rule.Part, value string) ([]byte, *BuildError) {
	from := len(dst)
	if bytes.IndexByte(dst, '?') >= 0 {
		dst = p.Encoding.AppendParam(dst, value)
	} else {
		dst = p.Encoding.Append(dst, value)
	}
	for _, c := range dst[from:] {
		if c <= ' ' || c == 0x7f {
			return nil, unbuilt(encodeNext(p.Name), "the value of %s contains a space or control character and cannot stand in the target", p.Name)
		}
	}
	return dst, nil
}

// appendField writes a value into a line of the head, which it can never end.
func appendField(dst []byte, p rule.Part, value string) ([]byte, *BuildError) {
	from := len(dst)
	isName := bytes.IndexByte(dst, ':') < 0
	dst = p.Encoding.Append(dst, value)
	for _, c := range dst[from:] {
		switch {
		case c == '\r' || c == '\n' || c == 0:
			return nil, unbuilt(encodeNext(p.Name), "the value of %s contains a line end or NUL and cannot stand in a header", p.Name)
		case isName && (c <= ' ' || c >= 0x7f || c == ':'):
			return nil, unbuilt("correct the value", "the value of %s cannot be the name of a header", p.Name)
		}
	}
	return dst, nil
}
