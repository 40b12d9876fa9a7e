package macro

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Built is a request that is ready to be sent.
type Built struct {
	Origin  flow.Origin
	Request *wire.Request // with an origin-form target
	Body    []byte        // nil: none
}

// Build fills the template in: Content-Length is that of the body, whatever
// the template says, and Transfer-Encoding is dropped; a missing Host is added.
// Errors are *BuildError, with all missing variables at once.
func (t *RequestTemplate) Build(lookup func(name string) (string, bool)) (*Built, error) {
	var missing []string
	for _, name := range t.Names() {
		if _, ok := lookup(name); !ok {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, &BuildError{Missing: missing, Next: "define it under variables, or extract it in an earlier step"}
	}
	b, err := t.build(lookup)
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (t *RequestTemplate) build(lookup func(string) (string, bool)) (*Built, *BuildError) {
	method, err := values{lookup: lookup, append: appendTarget}.fill(t.method)
	if err != nil {
		return nil, err
	}
	target, err := values{lookup: lookup, append: appendTarget}.fill(t.target)
	if err != nil {
		return nil, err
	}
	var lines [][]byte
	for _, field := range t.fields {
		line, err := values{lookup: lookup, append: appendField}.fill(field)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	var body []byte
	if t.body != nil {
		if body, err = fillBody(t.body, contentType(lines), lookup); err != nil {
			return nil, err
		}
	}
	return t.assemble(string(method), string(target), lines, body)
}

// assemble finds out where the request goes and puts its bytes together.
func (t *RequestTemplate) assemble(method, target string, lines [][]byte, body []byte) (*Built, *BuildError) {
	host, hasHost := fieldValue(lines, "Host")
	scheme, authority, path, absolute := splitTarget(target)
	switch {
	case absolute:
	case !strings.HasPrefix(target, "/") && target != "*":
		return nil, unbuilt("begin it with https://host/ or with / and add a Host header; does the variable at its beginning hold a URL with a scheme?",
			"the target begins neither with a scheme nor with a slash")
	case host == "":
		return nil, unbuilt("write the target as https://host/path, or add a Host header", "the request does not say where it goes")
	default:
		scheme, authority, path = "http", host, target
		if t.tls {
			scheme = "https"
		}
	}
	origin, err := parseOrigin(scheme, authority)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "%s %s %s\r\n", method, path, t.version)
	if !hasHost {
		head = fmt.Appendf(head, "Host: %s\r\n", authority)
	}
	head = appendFields(head, method, lines, len(body))
	req, parseErr := wire.ParseRequest(head)
	if parseErr != nil {
		return nil, unbuilt("correct the template", "the request cannot be read: %v", parseErr)
	}
	return &Built{Origin: origin, Request: req, Body: body}, nil
}

// recount has Content-Length say how long the body is now.
func (b *Built) recount() {
	for i := range b.Request.NumFields() {
		if name, _ := b.Request.Field(i); strings.EqualFold(string(name), "Content-Length") {
			_ = b.Request.SetFieldValue(i, strconv.AppendInt(nil, int64(len(b.Body)), 10)) // digits are safe
		}
	}
}

// appendFields writes the lines and the blank one. The body's length stands
// where the template had it, else at the end where there is a body or the
// method expects one (RFC 9110 §8.6).
func appendFields(head []byte, method string, lines [][]byte, length int) []byte {
	counted := false
	dropped := false
	for _, line := range lines {
		if dropped && (line[0] == ' ' || line[0] == '\t') {
			continue // the continuation of a line that was dropped
		}
		dropped = false
		switch name := fieldName(line); {
		case strings.EqualFold(name, "Transfer-Encoding"), strings.EqualFold(name, "Content-Length") && counted:
			dropped = true
			continue
		case strings.EqualFold(name, "Content-Length"):
			colon := bytes.IndexByte(line, ':')
			line = fmt.Appendf(nil, "%s: %d", line[:colon], length)
			counted, dropped = true, true
		}
		head = append(append(head, line...), "\r\n"...)
	}
	if !counted && (length > 0 || slices.Contains([]string{"POST", "PUT", "PATCH"}, method)) {
		head = fmt.Appendf(head, "Content-Length: %d\r\n", length)
	}
	return append(head, "\r\n"...)
}

func fieldName(line []byte) string {
	name, _, _ := bytes.Cut(line, []byte(":"))
	return strings.TrimRight(string(name), " \t")
}

func fieldValue(lines [][]byte, name string) (string, bool) {
	for _, line := range lines {
		if strings.EqualFold(fieldName(line), name) {
			_, value, _ := bytes.Cut(line, []byte(":"))
			return strings.Trim(string(value), " \t"), true
		}
	}
	return "", false
}

// splitTarget parts an absolute-form target (RFC 9112 §3.2.2).
func splitTarget(target string) (scheme, authority, path string, absolute bool) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || scheme == "" || strings.ContainsAny(scheme, "/?#") {
		return "", "", "", false
	}
	i := strings.IndexAny(rest, "/?#")
	if i < 0 {
		return strings.ToLower(scheme), rest, "/", true
	}
	authority, path = rest[:i], rest[i:]
	if path[0] != '/' {
		path = "/" + path
	}
	return strings.ToLower(scheme), authority, path, true
}

// parseOrigin reads host[:port].
func parseOrigin(scheme, authority string) (flow.Origin, *BuildError) {
	const next = "write it as https://host:port/path"
	o := flow.Origin{TLS: scheme == "https", Port: 80}
	if o.TLS {
		o.Port = 443
	} else if scheme != "http" {
		return o, unbuilt("write https:// or http://", "the scheme %s is none that a macro can speak", scheme)
	}
	if strings.ContainsAny(authority, "@ \t") {
		return o, unbuilt("leave the credentials out and write an Authorization header", "the host contains credentials or a space")
	}
	host, port := authority, ""
	if inside, after, ok := strings.Cut(strings.TrimPrefix(authority, "["), "]"); ok && strings.HasPrefix(authority, "[") {
		host, port = inside, strings.TrimPrefix(after, ":")
	} else if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		host, port = authority[:i], authority[i+1:]
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return o, unbuilt(next, "the port is no number from 1 to 65535")
		}
		o.Port = uint16(n)
	}
	o.Host = strings.ToLower(host)
	if strings.IndexFunc(o.Host, func(r rune) bool { return r >= 0x80 }) >= 0 {
		ascii, err := idna.Lookup.ToASCII(o.Host)
		if err != nil {
			return o, unbuilt(next, "the host is no name that DNS can hold")
		}
		o.Host = ascii
	}
	if o.Host == "" {
		return o, unbuilt(next, "the request names no host")
	}
	return o, nil
}

// contentType is the media type of the body, in lower case, without parameters.
func contentType(lines [][]byte) string {
	value, _ := fieldValue(lines, "Content-Type")
	media, _, _ := strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// fillBody fills a body in as its media type needs it. A body without one that
// begins as JSON does is taken for JSON.
func fillBody(t *rule.Template, media string, lookup func(string) (string, bool)) ([]byte, *BuildError) {
	v := values{lookup: lookup}
	first := strings.TrimLeft(t.String(), " \t\r\n")
	switch {
	case media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"),
		media == "" && (strings.HasPrefix(first, "{") && !strings.HasPrefix(first, "{{") || strings.HasPrefix(first, "[")):
		j := new(jsonPlace)
		v.text, v.append = j.text, j.append
	case media == "application/x-www-form-urlencoded":
		v.append = func(dst []byte, p rule.Part, value string) ([]byte, *BuildError) {
			return p.Encoding.AppendParam(dst, value), nil
		}
	default:
		v.append = func(dst []byte, p rule.Part, value string) ([]byte, *BuildError) {
			return p.Encoding.Append(dst, value), nil
		}
		if strings.HasPrefix(media, "multipart/") {
			v.text = appendCRLF
		}
	}
	return v.fill(t)
}

// appendCRLF writes line ends as multipart bodies need them (RFC 2046 §4.1.1).
func appendCRLF(dst []byte, text string) []byte {
	for i := range len(text) {
		if text[i] == '\n' && (len(dst) == 0 || dst[len(dst)-1] != '\r') {
			dst = append(dst, '\r')
		}
		dst = append(dst, text[i])
	}
	return dst
}

// jsonPlace knows whether the end of a JSON text is inside a string.
type jsonPlace struct{ inString, escaped bool }

func (j *jsonPlace) text(dst []byte, text string) []byte {
	for _, c := range []byte(text) {
		switch {
		case j.escaped:
			j.escaped = false
		case c == '\\' && j.inString:
			j.escaped = true
		case c == '"':
			j.inString = !j.inString
		}
	}
	return append(dst, text...)
}

// append escapes a value inside a string. Outside one it must be a value of
// JSON by itself, so that it cannot end the object that it stands in.
func (j *jsonPlace) append(dst []byte, p rule.Part, value string) ([]byte, *BuildError) {
	switch {
	case p.Encoding != rule.EncodePlain:
		return p.Encoding.Append(dst, value), nil
	case j.inString:
		return rule.EncodeJSON.Append(dst, value), nil
	case !json.Valid([]byte(value)):
		return nil, unbuilt(`put the variable between quotes, or write {{raw:`+p.Name+`}}`,
			"the value of %s stands outside quotes in a JSON body and is no JSON", p.Name)
	}
	return append(dst, value...), nil
}
