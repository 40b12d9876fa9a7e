package control

import (
	"bytes"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/redact"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// minWord is how long a value of a flow is that is hidden wherever it stands, in
// bytes: shorter ones stand in other words.
const minWord = 8

// hiddenValue stands for what is not shown.
const hiddenValue = "***"

// flowSecrets takes secrets out of what is shown of a flow.
type flowSecrets struct {
	hider
	known *hider // of all flows; nil: none. Others use it at the same time: it is only read
}

// flowHider knows the secrets that stand in the fields of a flow, besides known.
func flowHider(f *flow.Flow, known *hider, reveal bool) *flowSecrets {
	h := &flowSecrets{hider{reveal: reveal}, known}
	if reveal {
		return h
	}
	for _, request := range []*wire.Request{f.Received, f.Request} {
		h.take(request, nil)
	}
	h.take(nil, f.Response)
	return h
}

// take remembers what fields of heads say is a secret: others may repeat it.
// Both may be nil.
func (h *flowSecrets) take(request *wire.Request, response *wire.Response) {
	if request != nil {
		for i := range request.NumFields() {
			switch name, value := request.Field(i); {
			case isField(name, "Cookie"):
				for _, c := range jar.Pairs(string(value)) {
					h.secretWord(c.Value)
				}
			case redact.Name(name):
				h.secretWord(string(value))
				_, credentials, _ := strings.Cut(string(value), " ")
				h.secretWord(strings.TrimSpace(credentials))
			}
		}
	}
	if response != nil {
		each(&response.Head, "Set-Cookie", func(value string) {
			pair, _, _ := strings.Cut(value, ";")
			_, content, _ := strings.Cut(pair, "=")
			h.secretWord(strings.TrimSpace(content))
		})
	}
}

func isField(name []byte, is string) bool { return strings.EqualFold(string(name), is) }

// secretWord is a secret unless it is so short that it stands in other words.
func (h *flowSecrets) secretWord(value string) {
	if len(value) >= minWord {
		h.secret(value)
	}
}

// text is a text without secrets.
func (h *flowSecrets) text(s string) string {
	if h.reveal || s == "" {
		return s
	}
	s = withoutNamed(s)
	if h.known != nil {
		s = h.known.replace(s)
	}
	return h.hide(s)
}

// withoutNamed is a text without the values whose names say that they are
// credentials.
func withoutNamed(s string) string {
	var spans [][2]int
	redact.Values([]byte(s), func(from, to int) { spans = append(spans, [2]int{from, to}) })
	if len(spans) == 0 {
		return s
	}
	slices.SortFunc(spans, func(a, b [2]int) int { return a[0] - b[0] })
	var out strings.Builder
	at := 0
	for _, span := range spans {
		if span[0] >= at {
			out.WriteString(s[at:span[0]])
			out.WriteString(hiddenValue)
		}
		at = max(at, span[1])
	}
	out.WriteString(s[at:])
	return out.String()
}

// field is the value of a field. Names of cookies and schemes of credentials are
// shown.
func (h *flowSecrets) field(name, value string) string {
	switch {
	case h.reveal:
		return value
	case strings.EqualFold(name, "Cookie"):
		var names []string
		for _, c := range jar.Pairs(strings.TrimSpace(value)) {
			names = append(names, c.Name+"="+hiddenValue)
		}
		return strings.Join(names, "; ")
	case strings.EqualFold(name, "Set-Cookie"):
		pair, attributes, more := strings.Cut(value, ";")
		cookie, _, _ := strings.Cut(pair, "=")
		if value = strings.TrimSpace(cookie) + "=" + hiddenValue; more {
			value += ";" + attributes
		}
		return value
	case redact.Name([]byte(name)):
		scheme, _, more := strings.Cut(strings.TrimSpace(value), " ")
		if more && strings.HasSuffix(strings.ToLower(name), "authorization") {
			return scheme + " " + hiddenValue
		}
		return hiddenValue
	}
	return h.text(value)
}

// head is a head as it stands, line by line. path is what stands for the path of
// a request where something secret is in it, "": nothing is.
func (h *flowSecrets) head(head *wire.Head, path string) string {
	text := string(head.Bytes())
	if h.reveal {
		return text
	}
	var out strings.Builder
	last := "" // name of the field that a folded line belongs to
	for first := true; text != ""; first = false {
		line, rest, more := strings.Cut(text, "\n")
		text = rest
		line, cr := strings.CutSuffix(line, "\r")
		name, value, ok := strings.Cut(line, ":")
		switch {
		case first:
			if method, target, ok := strings.Cut(line, " "); path != "" && ok {
				end := strings.IndexAny(target, "? ")
				if end < 0 {
					end = len(target)
				}
				line = method + " " + path + target[end:]
			}
			line = h.text(line)
		case line != "" && (line[0] == ' ' || line[0] == '\t'):
			line = " " + h.field(last, strings.TrimSpace(line))
		case !ok:
			line = h.text(line)
		default:
			last = strings.TrimSpace(name)
			shown := strings.TrimLeft(value, " \t")
			line = name + ":" + value[:len(value)-len(shown)] + h.field(last, shown)
		}
		out.WriteString(line)
		if cr {
			out.WriteByte('\r')
		}
		if more {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// shownHead is a head with LF.
func (h *flowSecrets) shownHead(head *wire.Head, path string) string {
	text := strings.ToValidUTF8(h.head(head, path), "\ufffd")
	return strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n") + "\n"
}

// asShown is what a query is asked about for somebody who may not see secrets:
// the texts of a flow as they are shown. So what it finds tells nothing that
// showing the flow would not tell. Lengths and numbers are those there are. What
// is no text is not searched, as it is not shown.
type asShown struct {
	*flow.Record
	h *flowSecrets
}

var _ httpql.Sizer = (*asShown)(nil)

// Bytes implements [httpql.Record].
func (r *asShown) Bytes(f httpql.Field) ([]byte, httpql.Presence) {
	b, p := r.Record.Bytes(f)
	switch {
	case !f.Content():
		return b, p
	case p == httpql.Pending:
		return nil, p // the beginning alone may be shown otherwise than with the rest
	case p == httpql.Missing:
		return nil, p
	}
	switch fl := r.Flow; f {
	case httpql.ReqHead:
		return []byte(r.h.head(&fl.Request.Head, fl.ShownPath)), p
	case httpql.RespHead:
		return []byte(r.h.head(&fl.Response.Head, "")), p
	case httpql.ReqPath:
		if fl.ShownPath != "" {
			b = []byte(fl.ShownPath)
		}
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return nil, p
	}
	return []byte(r.h.text(string(b))), p
}

// Item implements [httpql.Record].
func (r *asShown) Item(f httpql.Field, i int) (name, value []byte) {
	name, value = r.Record.Item(f, i)
	if f != httpql.ReqHeader && f != httpql.RespHeader {
		return name, value
	}
	return name, []byte(r.h.field(string(name), string(value)))
}

// Size implements [httpql.Sizer].
func (r *asShown) Size(head httpql.Field) (int64, httpql.Presence) {
	return httpql.Size(r.Record, head)
}

// see is what a search asks for somebody: without reveal what is shown.
func (d *Desk) see(known *hider, reveal bool) seeing {
	if reveal {
		return nil
	}
	return func(stored *store.Stored, r *flow.Record) httpql.Record {
		return &asShown{r, flowHider(stored.Flow, known, false)}
	}
}

// secrets are the values of all tokens and variables that there are now.
func (d *Desk) secrets() *hider {
	h := &hider{}
	engine := d.proxy.Engine()
	for _, name := range engine.Names() {
		tokens, _ := engine.Tokens(name) // the engine has named it
		variables, _ := engine.Variables(name)
		for _, v := range append(tokens, variables...) {
			if !strings.Contains(v.Value, "://") { // an origin's address is no secret
				h.secret(v.Value)
			}
		}
	}
	h.replace("any") // several goroutines use what that makes
	return h
}
