package flow

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// Bounds of a list of changes.
const (
	maxChangeFields = 128 // of either head: each is looked for in the other
	maxChange       = 512 // bytes of a line
)

// Changes lists how the head that is sent differs from the one that the client
// wrote, a line for each difference: "+ " was added, "- " taken out, "~ "
// changed. No value stands there: *** is a value that is new, … one that was
// left alone; names, the scheme in front of credentials, and the path as
// ShownPath has it are shown. Of heads with more than 128 fields the number is
// told. An edited body has a line, see EditedBody. Lines are cut at 512 bytes.
// It is empty for a request that nobody edited.
func (f *Flow) Changes() []string {
	if f.Received == nil || f.Request == nil || f.Received == f.Request {
		return nil
	}
	lines := f.headChanges()
	if f.bodyIs != nil {
		lines = append(lines, f.bodyChange())
	}
	return cut(lines)
}

func (f *Flow) headChanges() (lines []string) {
	was, is := f.Received, f.Request
	if !bytes.Equal(was.Method(), is.Method()) || !bytes.Equal(was.Target(), is.Target()) {
		path := f.ShownPath
		if path == "" {
			path = string(is.Path())
		}
		line := "~ " + string(is.Method()) + " " + path
		if query := is.Query(); len(query) > 0 {
			line += "?" + maskPairs(string(query), string(was.Query()), "&")
		}
		lines = append(lines, line)
	}
	if n, m := is.NumFields(), was.NumFields(); max(n, m) > maxChangeFields {
		return append(lines, fmt.Sprintf("~ %d fields, where there were %d", n, m))
	}
	for i := range is.NumFields() {
		name, value := is.Field(i)
		if len(name) > 0 && name[0] == ':' {
			continue // it is in the request line
		}
		old, ok := occurrence(was, name, before(is, name, i))
		switch {
		case !ok:
			lines = append(lines, "+ "+maskField(name, value, nil))
		case !bytes.Equal(old, value):
			lines = append(lines, "~ "+maskField(name, value, old))
		}
	}
	for i := range was.NumFields() {
		name, value := was.Field(i)
		if len(name) > 0 && name[0] == ':' {
			continue
		}
		if _, ok := occurrence(is, name, before(was, name, i)); !ok {
			lines = append(lines, "- "+maskField(name, value, nil))
		}
	}
	return lines
}

func cut(lines []string) []string {
	for i, line := range lines {
		if len(line) > maxChange {
			lines[i] = fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(line[:maxChange], ""), len(line))
		}
	}
	return lines
}

// before counts the fields of a name in front of field i.
func before(r *wire.Request, name []byte, i int) (n int) {
	for j := range i {
		if other, _ := r.Field(j); bytes.EqualFold(other, name) {
			n++
		}
	}
	return n
}

// occurrence is the value of the n-th field of a name, counted from 0.
func occurrence(r *wire.Request, name []byte, n int) ([]byte, bool) {
	for i := range r.NumFields() {
		if other, value := r.Field(i); bytes.EqualFold(other, name) {
			if n == 0 {
				return value, true
			}
			n--
		}
	}
	return nil, false
}

func maskField(name, value, old []byte) string {
	if bytes.EqualFold(name, []byte("cookie")) {
		return string(name) + ": " + maskPairs(string(value), string(old), ";")
	}
	scheme := ""
	if word, _, ok := strings.Cut(string(value), " "); ok && (bytes.EqualFold(name, []byte("authorization")) || bytes.EqualFold(name, []byte("proxy-authorization"))) {
		scheme = word + " "
	}
	return string(name) + ": " + scheme + "***"
}

// maskPairs shows the names of name=value pairs, and which of the values are
// new.
func maskPairs(list, old, separator string) string {
	known := make(map[string]bool)
	for pair := range strings.SplitSeq(old, separator) {
		known[strings.TrimSpace(pair)] = true
	}
	var b strings.Builder
	for pair := range strings.SplitSeq(list, separator) {
		if b.Len() > 0 {
			b.WriteString(separator)
		}
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case !ok, strings.Trim(value, "=") == "": // it may be a value without a name, also in base64
			b.WriteString("***")
		case known[strings.TrimSpace(pair)]:
			b.WriteString(name + "=…")
		default:
			b.WriteString(name + "=***")
		}
	}
	return b.String()
}
