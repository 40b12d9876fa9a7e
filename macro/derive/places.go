package derive

import (
	"bytes"
	"mime"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/convert"
)

// The parts of a request that slots stand in: the target, the body, and from
// partField on the fields.
const (
	partTarget = iota
	partBody
	partField
)

// maxSlots bounds the places of one request that are looked at, maxJSONDepth how
// deep JSON is.
const (
	maxSlots     = 2000
	maxJSONDepth = 100
)

// slot is a place in a request where a value can stand.
type slot struct {
	label string // as traces call places: "query:state"
	name  string // of the parameter, field, member …
	part  int
	from  int    // where raw begins in the part's text
	raw   string // as it stands there
	text  string // what it means
	at    []int  // offsets in raw of the bytes of text, and its end; nil: the same
	path  bool   // an encoded value has to be encoded by name
}

// span is text[from:to] as a stretch of the part.
func (s *slot) span(from, to int) (int, int) {
	if s.at != nil {
		from, to = s.at[from], s.at[to]
	}
	return s.from + from, s.from + to
}

// request is a recorded request as text to be edited.
type request struct {
	method string
	origin string   // scheme://host[:port], as it was written
	target string   // path and query
	fields []string // lines "Name: value" that a macro sends itself
	body   string
	slots  []slot
	binary bool // the body is no text
}

// dropsField reports fields that a macro does not send as they were recorded: the
// client's connection to its proxy, what Holdfast fills in, what would make an
// answer depend on what the client had already, and a browser's hints.
func dropsField(name string) bool {
	switch name = strings.ToLower(name); name {
	case "host", "content-length", "transfer-encoding", "connection", "proxy-connection", "keep-alive", "te", "upgrade", "accept-encoding",
		"proxy-authorization", "if-none-match", "if-modified-since", "if-range", "range", "cache-control", "pragma", "upgrade-insecure-requests",
		"dnt", "priority", "expect", "cookie", "trailer", "purpose", "idempotency-key":
		return true
	}
	if strings.ContainsFunc(name, func(r rune) bool {
		return r >= 0x80 || !isWord(byte(r)) && strings.IndexByte("!#$%&'*+-.^`|~", byte(r)) < 0
	}) {
		return true // no token (RFC 9110 §5.6.2): a template could not tell it from a body
	}
	return strings.HasPrefix(name, "sec-") || strings.HasPrefix(name, ":") || strings.HasPrefix(name, "holdfast-")
}

func newRequest(x *convert.Exchange) *request {
	r := &request{method: string(x.Request.Method()), body: string(x.RequestBody)}
	rest := x.URL
	if i := strings.Index(rest, "://"); i >= 0 {
		end := strings.IndexAny(rest[i+3:], "/?#")
		if end < 0 {
			end = len(rest) - i - 3
		}
		r.origin = rest[:i+3+end]
	}
	r.target = string(x.Request.Target())
	r.pairs("query", partTarget, strings.IndexByte(r.target, '?')+1, r.target)
	r.pathSlots()
	contentType := ""
	for i := range x.Request.NumFields() {
		n, v := x.Request.Field(i)
		name, value := string(n), string(v)
		if strings.EqualFold(name, "Content-Type") {
			contentType = value
		}
		if name == "" || dropsField(name) {
			continue
		}
		r.fields = append(r.fields, name+": "+value)
		if !staticField(name) {
			r.add(slot{label: "header:" + strings.ToLower(name), name: name, part: partField + len(r.fields) - 1, from: len(name) + 2, raw: value, text: value})
		}
	}
	r.bodySlots(contentType)
	return r
}

// staticField reports a field whose value never is a token.
func staticField(name string) bool {
	switch strings.ToLower(name) {
	case "accept", "accept-language", "content-type", "user-agent", "x-requested-with":
		return true
	}
	return false
}

func (r *request) add(s slot) {
	if len(r.slots) < maxSlots && s.text != "" {
		r.slots = append(r.slots, s)
	}
}

// pairs reads name=value&name=value from an offset of a part's text on; 0 is
// nowhere.
func (r *request) pairs(kind string, part, from int, text string) {
	if from <= 0 && part == partTarget {
		return
	}
	for from <= len(text) && len(text) > 0 {
		end := strings.IndexByte(text[from:], '&')
		if end < 0 {
			end = len(text) - from
		}
		pair := text[from : from+end]
		if name, value, ok := strings.Cut(pair, "="); ok {
			plain, _ := unescape(name, true)
			s := slot{label: kind + ":" + plain, name: plain, part: part, from: from + len(name) + 1, raw: value}
			s.text, s.at = unescape(value, true)
			r.add(s)
		}
		from += end + 1
	}
}

func (r *request) pathSlots() {
	path, _, _ := strings.Cut(r.target, "?")
	at := 0
	for i, segment := range strings.Split(path, "/") {
		if i > 0 && segment != "" {
			s := slot{label: "path:" + strconv.Itoa(i), part: partTarget, from: at, raw: segment, path: true}
			s.text, s.at = unescape(segment, false)
			r.add(s)
		}
		at += len(segment) + 1
	}
}

func (r *request) bodySlots(contentType string) {
	if r.body == "" {
		return
	}
	media, params, _ := mime.ParseMediaType(contentType)
	trimmed := strings.TrimLeft(r.body, " \t\r\n")
	r.binary = !isText(r.body)
	switch {
	case r.binary:
	case media == "application/x-www-form-urlencoded":
		r.pairs("form", partBody, 0, r.body)
	case media == "application/json" || strings.HasSuffix(media, "+json") || media == "text/json",
		media == "" && (strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[")):
		j := jsonSlots{r: r, text: r.body}
		if !j.value("", "", 0) {
			r.wholeBody()
		}
	case strings.HasPrefix(media, "multipart/") && params["boundary"] != "":
		r.multipart(params["boundary"])
	default:
		r.wholeBody()
	}
}

func (r *request) wholeBody() {
	r.add(slot{label: "body", part: partBody, raw: r.body, text: r.body})
}

// multipart finds the contents of the parts (RFC 7578). A file's is left alone.
func (r *request) multipart(boundary string) {
	mark := "--" + boundary
	at := strings.Index(r.body, mark)
	for at >= 0 {
		at += len(mark)
		next := strings.Index(r.body[at:], mark)
		if next < 0 {
			return
		}
		part := r.body[at : at+next]
		head, content, ok := strings.Cut(part, "\r\n\r\n")
		if ok {
			name, file := disposition(head)
			content = strings.TrimSuffix(content, "\r\n")
			if file == "" {
				r.add(slot{label: "multipart:" + name, name: name, part: partBody, from: at + len(head) + 4, raw: content, text: content})
			}
		}
		at += next
	}
}

func disposition(head string) (name, file string) {
	for line := range strings.SplitSeq(head, "\r\n") {
		field, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(strings.TrimSpace(field), "Content-Disposition") {
			_, params, err := mime.ParseMediaType(value)
			if err == nil {
				return params["name"], params["filename"]
			}
		}
	}
	return "", ""
}

// isText reports whether a body can stand in a request template.
func isText(s string) bool {
	return bytes.IndexFunc([]byte(s), func(r rune) bool { return r == '\ufffd' || r < ' ' && r != '\t' && r != '\n' && r != '\r' }) < 0
}

// unescape undoes percent-encoding, and tells where each byte stood.
func unescape(raw string, plus bool) (text string, at []int) {
	if !strings.ContainsAny(raw, "%+") {
		return raw, nil
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		at = append(at, i)
		c := raw[i]
		if c == '%' && i+2 < len(raw) {
			if n, err := strconv.ParseUint(raw[i+1:i+3], 16, 8); err == nil {
				c = byte(n)
				i += 2
			}
		} else if c == '+' && plus {
			c = ' '
		}
		out = append(out, c)
	}
	return string(out), append(at, len(raw))
}

// jsonSlots finds the strings and numbers of a JSON text with their pointers
// (RFC 6901).
type jsonSlots struct {
	r    *request
	text string
	at   int
}

func (j *jsonSlots) space() {
	for j.at < len(j.text) && strings.IndexByte(" \t\r\n", j.text[j.at]) >= 0 {
		j.at++
	}
}

// value reads one value; false: this is no JSON.
func (j *jsonSlots) value(pointer, name string, depth int) bool {
	j.space()
	if j.at >= len(j.text) || depth > maxJSONDepth {
		return false
	}
	switch c := j.text[j.at]; {
	case c == '{' || c == '[':
		return j.inside(pointer, name, depth, c == '{')
	case c == '"':
		from := j.at + 1
		text, at, ok := j.str()
		if ok {
			j.r.add(slot{label: "json:" + pointer, name: name, part: partBody, from: from, raw: j.text[from : j.at-1], text: text, at: at})
		}
		return ok
	}
	from := j.at
	for j.at < len(j.text) && strings.IndexByte(",]} \t\r\n", j.text[j.at]) < 0 {
		j.at++
	}
	word := j.text[from:j.at]
	if word != "true" && word != "false" && word != "null" {
		j.r.add(slot{label: "json:" + pointer, name: name, part: partBody, from: from, raw: word, text: word})
	}
	return word != ""
}

func (j *jsonSlots) inside(pointer, name string, depth int, object bool) bool {
	end := byte(']')
	if object {
		end = '}'
	}
	j.at++
	for n := 0; ; n++ {
		j.space()
		if j.at < len(j.text) && j.text[j.at] == end && n == 0 {
			j.at++
			return true
		}
		key, member := strconv.Itoa(n), name
		if object {
			var ok bool
			if j.at >= len(j.text) || j.text[j.at] != '"' {
				return false
			}
			if key, _, ok = j.str(); !ok {
				return false
			}
			member = key
			j.space()
			if j.at >= len(j.text) || j.text[j.at] != ':' {
				return false
			}
			j.at++
		}
		escaped := strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		if !j.value(pointer+"/"+escaped, member, depth+1) {
			return false
		}
		j.space()
		if j.at >= len(j.text) || j.text[j.at] != ',' && j.text[j.at] != end {
			return false
		}
		j.at++
		if j.text[j.at-1] == end {
			return true
		}
	}
}

// str reads a string, and tells where each byte of it stood behind its quote.
func (j *jsonSlots) str() (text string, at []int, ok bool) {
	from := j.at + 1
	for i := from; i < len(j.text); i++ {
		switch j.text[i] {
		case '\\':
			i++
		case '"':
			j.at = i + 1
			text, at = unescapeJSON(j.text[from:i])
			return text, at, true
		}
	}
	return "", nil, false
}

// unescapeJSON undoes the escapes of a JSON or JavaScript string.
func unescapeJSON(raw string) (text string, at []int) {
	if strings.IndexByte(raw, '\\') < 0 {
		return raw, nil
	}
	var out []byte
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 >= len(raw) {
			at, out = append(at, i), append(out, raw[i])
			continue
		}
		from := i
		i++
		var piece []byte
		switch c := raw[i]; c {
		case 'n':
			piece = []byte{'\n'}
		case 'r':
			piece = []byte{'\r'}
		case 't':
			piece = []byte{'\t'}
		case 'b':
			piece = []byte{'\b'}
		case 'f':
			piece = []byte{'\f'}
		case 'u', 'x':
			digits := 4
			if c == 'x' {
				digits = 2
			}
			if i+digits < len(raw) {
				if n, err := strconv.ParseUint(raw[i+1:i+1+digits], 16, 32); err == nil {
					piece = []byte(string(rune(n)))
					i += digits
					break
				}
			}
			piece = []byte{c}
		default:
			piece = []byte{c}
		}
		for range piece {
			at = append(at, from)
		}
		out = append(out, piece...)
	}
	return string(out), append(at, len(raw))
}
