package control

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/httpql"
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
	h := &hider{}
	for _, value := range known {
		h.secret(value)
	}
	return detailFlow(stored, shown, h, reveal)
}

func detailFlow(stored *store.Stored, shown Window, known *hider, reveal bool) *FlowDetail {
	f := stored.Flow
	h := flowHider(f, known, reveal)
	out := &FlowDetail{Version: 1, Flow: showFlow(stored, h), Trace: holdfast.LineOf(f, stored.Rules), State: stored.State, Missed: stored.MessagesMissed}
	record := stored.Record()
	if f.Request != nil {
		text, _ := record.Bytes(httpql.ReqBody)
		out.Request = h.message(&f.Request.Head, f.ShownPath, stored.SentBody(), text, shown)
	}
	if f.Received != nil && (f.Received != f.Request || stored.Sent != nil) {
		var text []byte
		if stored.Received != nil {
			text = wire.Text(&f.Received.Head, stored.Received.Kind, stored.Received.Raw, store.MaxText)
		}
		out.Client = h.message(&f.Received.Head, "", stored.Received, text, shown)
	}
	if f.Response != nil {
		text, _ := record.Bytes(httpql.RespBody)
		out.Response = h.message(&f.Response.Head, "", stored.Response, text, shown)
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

// judged is how much of a body says whether it is text, in bytes.
const judged = 4 << 10

func (h *flowSecrets) message(head *wire.Head, path string, body *store.Body, text []byte, shown Window) *FlowMessage {
	m := &FlowMessage{Head: h.shownHead(head, path)}
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
