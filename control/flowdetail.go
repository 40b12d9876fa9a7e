package control

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// FlowDetail is all that the history has of a flow.
type FlowDetail struct {
	Version int `json:"v" doc:"Of this shape: 1."`
	Flow
	Client   *FlowMessage       `json:"client,omitempty" doc:"The request as the client wrote it, where that is not what was sent."`
	Request  *FlowMessage       `json:"request,omitempty" doc:"The request as it was sent last."`
	Response *FlowMessage       `json:"response,omitempty"`
	Trace    holdfast.TraceLine `json:"trace"`
	State    string             `json:"state,omitempty" doc:"Of its session."`
	Messages []FlowSaid         `json:"messages,omitempty" doc:"On its WebSocket."`
	Missed   int64              `json:"messages_missed,omitempty" doc:"That there were besides."`
}

// FlowMessage is a head and a body.
type FlowMessage struct {
	Head   string `json:"head" foreign:"text" doc:"With LF; secrets in it are ***, unless they are revealed."`
	Bytes  int64  `json:"bytes" doc:"Of the body, as it passed."`
	Body   string `json:"body,omitempty" foreign:"text" doc:"Decoded, as far as was asked for; secrets in it are ***, unless they are revealed."`
	Base64 string `json:"base64,omitempty" foreign:"text" doc:"The body, where it is no text; only with reveal."`
	Cut    bool   `json:"cut,omitempty" doc:"The body went on."`
	Broken bool   `json:"broken,omitempty" doc:"The body did not come to its end."`
}

// FlowSaid is a message on a WebSocket.
type FlowSaid struct {
	From   string `json:"from"`
	Opcode string `json:"opcode"`
	Size   int64  `json:"size"`
	Data   string `json:"data,omitempty" foreign:"text" doc:"As far as was asked for."`
}

// Window is which part of each body is shown, in bytes of the text as it is
// shown: where secrets are taken out, without them.
type Window struct{ Offset, Most int }

// of cuts the window out of a text, not in the middle of a character, and says
// whether it goes on.
func (w Window) of(text string) (string, bool) {
	from, to := min(w.Offset, len(text)), min(w.Offset+w.Most, len(text))
	for from < len(text) && !utf8.RuneStart(text[from]) {
		from++
	}
	for to > from && to < len(text) && !utf8.RuneStart(text[to]) {
		to--
	}
	return text[from:max(from, to)], to < len(text)
}

// DetailFlow shows a flow. Of each body the window is shown; known are values
// that are secrets, besides those that look like it.
func DetailFlow(stored *store.Stored, shown Window, known []string, reveal bool) *FlowDetail {
	f := stored.Flow
	h := flowHider(f, known, reveal)
	out := &FlowDetail{Version: 1, Flow: ShowFlow(stored, reveal), Trace: holdfast.LineOf(f, stored.Rules), State: stored.State, Missed: stored.MessagesMissed}
	if f.Request != nil {
		out.URL = urlOf(f, h)
	}
	record := stored.Record()
	if f.Request != nil {
		text, _ := record.Bytes(httpql.ReqBody)
		out.Request = h.message(&f.Request.Head, stored.SentBody(), text, shown)
	}
	if f.Received != nil && (f.Received != f.Request || stored.Sent != nil) {
		var text []byte
		if stored.Received != nil {
			text = wire.Text(&f.Received.Head, stored.Received.Kind, stored.Received.Raw, store.MaxText)
		}
		out.Client = h.message(&f.Received.Head, stored.Received, text, shown)
	}
	if f.Response != nil {
		text, _ := record.Bytes(httpql.RespBody)
		out.Response = h.message(&f.Response.Head, stored.Response, text, shown)
	}
	for i := range stored.Messages {
		m := &stored.Messages[i]
		said := FlowSaid{From: m.From.String(), Opcode: m.Opcode.String(), Size: m.Size}
		if utf8.Valid(m.Data) && shown.Most > 0 {
			said.Data, _ = shown.of(h.text(string(m.Data)))
		}
		out.Messages = append(out.Messages, said)
	}
	return out
}

// flowSecrets takes secrets out of what is shown of a flow.
type flowSecrets struct{ hider }

// flowHider knows the secrets that stand in the fields of a flow.
func flowHider(f *flow.Flow, known []string, reveal bool) *flowSecrets {
	h := &flowSecrets{hider{reveal: reveal}}
	if reveal {
		return h
	}
	for _, value := range known {
		h.secret(value)
	}
	for _, head := range []*wire.Request{f.Received, f.Request} {
		if head == nil {
			continue
		}
		each(&head.Head, "Cookie", func(value string) {
			for _, c := range jar.Pairs(value) {
				h.secretWord(c.Value)
			}
		})
		for i := range head.NumFields() { // an answer may repeat them
			name, value := head.Field(i)
			if !secretField.Match(name) {
				continue
			}
			h.secretWord(string(value))
			_, credentials, _ := strings.Cut(string(value), " ")
			h.secretWord(strings.TrimSpace(credentials))
		}
	}
	if f.Response != nil {
		each(&f.Response.Head, "Set-Cookie", func(value string) {
			pair, _, _ := strings.Cut(value, ";")
			_, content, _ := strings.Cut(pair, "=")
			h.secretWord(strings.TrimSpace(content))
		})
	}
	return h
}

// secretWord is a secret unless it is so short that it stands in other words.
func (h *flowSecrets) secretWord(value string) {
	if len(value) >= 8 {
		h.secret(value)
	}
}

const secretName = `[\w.-]*(?:pass|pwd|secret|token|api[_-]?key|auth|session|sid|csrf|xsrf|otp|jwt|credential)[\w.-]*`

// namedSecret is a value whose name says that it is a secret, in a form, a query
// or JSON.
var namedSecret = regexp.MustCompile(`(?i)(` + secretName + `"?\s*[:=]\s*)(\[[^\]]*\]|"(?:[^"\\]|\\.)*"|[^\s&;,"<>]+)`)

var secretField = regexp.MustCompile(`(?i)^` + secretName + `$`)

// text is a text without secrets.
func (h *flowSecrets) text(s string) string {
	if h.reveal {
		return s
	}
	return h.hide(namedSecret.ReplaceAllString(s, "$1***"))
}

// head is a head with LF. Names of cookies and schemes of credentials are shown.
func (h *flowSecrets) head(head *wire.Head) string {
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(string(head.Bytes()), "\r\n", "\n"), "\n"), "\n")
	for i, line := range lines {
		line = strings.ToValidUTF8(line, "\ufffd")
		name, value, ok := strings.Cut(line, ":")
		switch lower := strings.ToLower(strings.TrimSpace(name)); {
		case h.reveal:
		case i == 0 || !ok:
			line = h.text(line)
		case lower == "cookie":
			var names []string
			for _, c := range jar.Pairs(strings.TrimSpace(value)) {
				names = append(names, c.Name+"=***")
			}
			line = name + ": " + strings.Join(names, "; ")
		case lower == "set-cookie":
			pair, attributes, more := strings.Cut(value, ";")
			cookie, _, _ := strings.Cut(pair, "=")
			line = name + ":" + cookie + "=***"
			if more {
				line += ";" + attributes
			}
		case secretField.MatchString(lower):
			scheme, _, more := strings.Cut(strings.TrimSpace(value), " ")
			if line = name + ": ***"; more && strings.HasSuffix(lower, "authorization") {
				line = name + ": " + scheme + " ***"
			}
		default:
			line = name + ":" + h.text(value)
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n") + "\n"
}

// judged is how much of a body says whether it is text, in bytes.
const judged = 4 << 10

func (h *flowSecrets) message(head *wire.Head, body *store.Body, text []byte, shown Window) *FlowMessage {
	m := &FlowMessage{Head: h.head(head)}
	if body == nil {
		return m
	}
	m.Bytes, m.Cut, m.Broken = body.Size, body.Cut, body.Broken
	if shown.Most <= 0 || len(text) == 0 {
		return m
	}
	begin := text[:min(len(text), judged)]
	for range utf8.UTFMax - 1 { // not in the middle of a character
		if r, size := utf8.DecodeLastRune(begin); r != utf8.RuneError || size != 1 {
			break
		}
		begin = begin[:len(begin)-1]
	}
	var more bool
	switch {
	case utf8.Valid(begin) && !bytes.ContainsRune(begin, 0):
		// Secrets are taken out of the whole: the edge of the window would leave
		// a part of one.
		m.Body, more = shown.of(h.text(strings.ToValidUTF8(string(text), "\ufffd")))
	case h.reveal:
		from, to := min(shown.Offset, len(text)), min(shown.Offset+shown.Most, len(text))
		m.Base64, more = base64.StdEncoding.EncodeToString(text[from:to]), to < len(text)
	default:
		m.Body = fmt.Sprintf("(%d bytes that are no text)", len(text))
	}
	m.Cut = m.Cut || more
	return m
}
