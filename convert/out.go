package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrNoArgument is that a request holds what no command line can.
var ErrNoArgument = errors.New("it has NUL bytes, which no command line can hold; write it as HAR or raw")

// WriteCurl writes the requests as curl command lines for bash, one after the
// other. They hold secrets. An exchange that no command line can hold is an
// error that names its Entry; those before it are written.
func WriteCurl(out io.Writer, exchanges []Exchange) error {
	for i := range exchanges {
		line, err := curlLine(&exchanges[i])
		if err == nil {
			_, err = io.WriteString(out, line)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", exchanges[i].Entry, err)
		}
	}
	return nil
}

func curlLine(x *Exchange) (string, error) {
	if strings.ContainsRune(x.URL, 0) || bytes.IndexByte(x.RequestBody, 0) >= 0 || bytes.IndexByte(x.Request.Bytes(), 0) >= 0 {
		return "", ErrNoArgument
	}
	var b strings.Builder
	b.WriteString("curl -g --path-as-is " + quoted(x.URL))
	add := func(option, value string) { b.WriteString(" \\\n  " + option + " " + quoted(value)) }
	method := string(x.Request.Method())
	switch {
	case method == "HEAD" && len(x.RequestBody) == 0:
		b.WriteString(" \\\n  -I")
	case method != "GET" && method != "POST", method == "GET" && len(x.RequestBody) > 0, method == "POST" && len(x.RequestBody) == 0:
		add("-X", method)
	}
	if x.Request.Has("Accept-Encoding") {
		b.WriteString(" \\\n  --compressed")
	}
	host := ""
	if u, err := url.Parse(x.URL); err == nil {
		host = u.Host
	}
	for _, f := range pairsOf(&x.Request.Head) {
		switch {
		case framed(f.name), strings.EqualFold(f.name, "Host") && f.value == host, strings.HasPrefix(f.name, "@"):
		case f.value == "":
			add("-H", f.name+";")
		default:
			add("-H", f.name+": "+f.value)
		}
	}
	// What curl says of its own and the request did not.
	own := []string{"User-Agent", "Accept"}
	if len(x.RequestBody) > 0 {
		own = append(own, "Content-Type")
	}
	for _, name := range own {
		if !x.Request.Has(name) {
			add("-H", name+":")
		}
	}
	if len(x.RequestBody) > 0 {
		add("--data-raw", string(x.RequestBody))
	}
	b.WriteByte('\n')
	return b.String(), nil
}

// framed reports whether a field says where the body ends, which is for whoever
// sends it.
func framed(name string) bool {
	return strings.EqualFold(name, "Content-Length") || strings.EqualFold(name, "Transfer-Encoding")
}

// quoted is an argument as bash reads it.
func quoted(s string) string {
	plain := utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) < 0
	if plain {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	b.WriteString("$'")
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c < ' ' || c >= 0x7f:
			b.WriteString(fmt.Sprintf(`\x%02x`, c))
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + "'"
}

// WriteRaw writes one request with its payload behind it, as [ParseRaw] reads
// it. It holds secrets.
func WriteRaw(out io.Writer, x *Exchange) error {
	request := x.Request.Clone()
	if request.Has("Transfer-Encoding") {
		request.Del("Transfer-Encoding")
		request.Del("Content-Length")
		if err := request.Add("Content-Length", strconv.Itoa(len(x.RequestBody))); err != nil {
			return err
		}
	}
	_, err := out.Write(append(bytes.Clone(request.Bytes()), x.RequestBody...))
	return err
}
