package rule

import (
	"bytes"
	"errors"
	"mime"
	"strings"
)

// maxParts bounds the parts of a multipart body that are looked at.
const maxParts = 1000

func multipartPlace() targetPlace {
	return targetPlace{
		prefix: "multipart:",
		key:    "name",
		body:   true,
		find: func(m *Message, t *Target) ([]byte, bool) {
			parts, ok := readMultipart(m)
			if !ok {
				return nil, false
			}
			at, ok := parts.find(m.Body, t.Name)
			return m.Body[at.from:at.to], ok
		},
		put:    putPart,
		render: written,
		plain:  asItIs,
		refuse: func(m *Message, text []byte) string {
			boundary, _ := boundaryOf(m)
			if bytes.Contains(text, []byte("--"+boundary)) {
				return "the boundary between the parts"
			}
			return ""
		},
	}
}

// multipart is where the parts of a body (RFC 2046 §5.1.1) stand.
type multipart struct {
	parts []span // headers and content, without the line end before the next boundary
	close int    // where the last boundary begins
	eol   string
	name  string // the boundary
}

func boundaryOf(m *Message) (string, bool) {
	value, _ := m.Request.Get("Content-Type")
	media, params, err := mime.ParseMediaType(string(value))
	boundary := params["boundary"]
	return boundary, err == nil && strings.HasPrefix(media, "multipart/") && boundary != ""
}

// readMultipart reads a body that is whole: to its closing boundary.
func readMultipart(m *Message) (all multipart, ok bool) {
	boundary, ok := boundaryOf(m)
	if !ok {
		return all, false
	}
	all.name = boundary
	delimiter := []byte("--" + boundary)
	part := -1 // where the present part begins
	for at := 0; len(all.parts) < maxParts; {
		i := bytes.Index(m.Body[at:], delimiter)
		if i < 0 {
			return all, false
		}
		from := at + i
		at = from + len(delimiter)
		if from > 0 && m.Body[from-1] != '\n' {
			continue // no line of its own
		}
		rest := m.Body[at:]
		last := bytes.HasPrefix(rest, []byte("--"))
		line := bytes.IndexByte(rest, '\n')
		if !last && (line < 0 || len(bytes.Trim(rest[:line], " \t\r")) > 0) {
			continue // the beginning of a longer boundary
		}
		if part >= 0 {
			end := from - 1
			if end > part && m.Body[end-1] == '\r' {
				end--
			}
			all.parts = append(all.parts, span{part, max(end, part)})
		}
		if last {
			all.close = from
			return all, true
		}
		at += line + 1
		part = at
		if all.eol == "" {
			all.eol = "\n"
			if bytes.HasSuffix(rest[:line], []byte("\r")) {
				all.eol = "\r\n"
			}
		}
	}
	return all, false
}

// find is the content of the first part of a name.
func (p *multipart) find(body []byte, name string) (content span, ok bool) {
	for _, part := range p.parts {
		for at := part.from; at < part.to; {
			end := bytes.IndexByte(body[at:part.to], '\n')
			if end < 0 {
				break
			}
			line := bytes.TrimRight(body[at:at+end], "\r")
			at += end + 1
			if len(line) == 0 {
				break // the content, and no name
			}
			if found := partName(line); found != name && found != writtenName(name) {
				continue
			}
			from, ok := contentOf(body, at, part.to)
			return span{from, part.to}, ok
		}
	}
	return content, false
}

// contentOf is where the content begins, behind the blank line.
func contentOf(body []byte, at, to int) (int, bool) {
	for at < to {
		end := bytes.IndexByte(body[at:to], '\n')
		if end < 0 {
			break
		}
		blank := len(bytes.TrimRight(body[at:at+end], "\r")) == 0
		if at += end + 1; blank {
			return at, true
		}
	}
	return to, false
}

// partName is the name that a line of a part's head gives it (RFC 7578 §4.2).
func partName(line []byte) string {
	field, value, _ := bytes.Cut(line, []byte(":"))
	if !equalFold(bytes.TrimSpace(field), "Content-Disposition") {
		return ""
	}
	_, params, err := mime.ParseMediaType(string(value))
	if err != nil {
		return ""
	}
	return params["name"]
}

// putPart replaces the content of a part, or adds one before the end.
func putPart(m *Message, t *Target, text []byte) (bool, error) {
	all, ok := readMultipart(m)
	if !ok || all.eol == "" {
		return false, errors.New("the body is no multipart body that ends with its boundary, or has more than 1000 parts")
	}
	if at, ok := all.find(m.Body, t.Name); ok {
		m.Body = splice(m.Body, at.from, at.to, text)
		return true, nil
	}
	part := "--" + all.name + all.eol + `Content-Disposition: form-data; name="` + writtenName(t.Name) + `"` + all.eol + all.eol + string(text) + all.eol
	m.Body = splice(m.Body, all.close, all.close, []byte(part))
	return true, nil
}

// writtenName is a name as browsers write it (HTML §4.10.22.8).
func writtenName(name string) string {
	return strings.NewReplacer("\r", "%0D", "\n", "%0A", `"`, "%22").Replace(name)
}
