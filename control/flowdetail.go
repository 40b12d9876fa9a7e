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
	Head   string `json:"head" doc:"With LF; secrets in it are ***, unless they are revealed."`
	Bytes  int64  `json:"bytes" doc:"Of the body, as it passed."`
	Body   string `json:"body,omitempty" doc:"Decoded, as far as was asked for."`
	Base64 string `json:"base64,omitempty" doc:"The body, where it is no text; only with reveal."`
	Cut    bool   `json:"cut,omitempty" doc:"The body went on."`
	Broken bool   `json:"broken,omitempty" doc:"The body did not come to its end."`
}

// FlowSaid is a message on a WebSocket.
type FlowSaid struct {
	From   string `json:"from"`
	Opcode string `json:"opcode"`
	Size   int64  `json:"size"`
	Data   string `json:"data,omitempty" doc:"As far as was asked for."`
}

// DetailFlow shows a flow. Of each body most bytes are shown; known are values
// that are secrets, besides those that look like it.
func DetailFlow(stored *store.Stored, most int, known []string, reveal bool) *FlowDetail {
	f := stored.Flow
	h := flowHider(f, known, reveal)
	out := &FlowDetail{Version: 1, Flow: ShowFlow(stored, reveal), Trace: holdfast.LineOf(f, stored.Rules), State: stored.State, Missed: stored.MessagesMissed}
	if f.Request != nil {
		out.URL = urlOf(f, h)
	}
	record := stored.Record()
	if f.Request != nil {
		text, _ := record.Bytes(httpql.ReqBody)
		out.Request = h.message(&f.Request.Head, stored.SentBody(), text, most)
	}
	if f.Received != nil && (f.Received != f.Request || stored.Sent != nil) {
		var text []byte
		if stored.Received != nil {
			text = wire.Text(&f.Received.Head, stored.Received.Kind, stored.Received.Raw, store.MaxText)
		}
		out.Client = h.message(&f.Received.Head, stored.Received, text, most)
	}
	if f.Response != nil {
		text, _ := record.Bytes(httpql.RespBody)
		out.Response = h.message(&f.Response.Head, stored.Response, text, most)
	}
	for i := range stored.Messages {
		m := &stored.Messages[i]
		said := FlowSaid{From: m.From.String(), Opcode: m.Opcode.String(), Size: m.Size}
		if data := m.Data[:min(len(m.Data), most)]; utf8.Valid(data) {
			said.Data = h.text(string(data))
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

func (h *flowSecrets) message(head *wire.Head, body *store.Body, text []byte, most int) *FlowMessage {
	m := &FlowMessage{Head: h.head(head)}
	if body == nil {
		return m
	}
	m.Bytes, m.Cut, m.Broken = body.Size, body.Cut, body.Broken
	if most <= 0 || len(text) == 0 {
		return m
	}
	shown := text
	if len(text) > most {
		shown, m.Cut = text[:most], true
		for range utf8.UTFMax - 1 { // not in the middle of a character
			if r, size := utf8.DecodeLastRune(shown); r != utf8.RuneError || size != 1 {
				break
			}
			shown = shown[:len(shown)-1]
		}
	}
	switch {
	case utf8.Valid(shown) && !bytes.ContainsRune(shown, 0):
		m.Body = h.text(string(shown))
	case h.reveal:
		m.Base64 = base64.StdEncoding.EncodeToString(text[:min(len(text), most)])
	default:
		m.Body = fmt.Sprintf("(%d bytes that are no text)", len(text))
	}
	return m
}
