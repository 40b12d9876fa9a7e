package holdfast

import (
	"encoding/json"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// messageLine is the JSON shape of a trace line about a WebSocket message:
// version 1. What was said does not stand there: it may hold tokens.
type messageLine struct {
	Version int         `json:"v"`
	ID      string      `json:"id"` // of the flow
	Time    time.Time   `json:"time"`
	Message messageText `json:"message"`
}

type messageText struct {
	From       string   `json:"from"`   // client or origin
	Opcode     string   `json:"opcode"` // text, binary, close, ping, pong
	Size       int64    `json:"size"`   // bytes, inflated
	Wire       int64    `json:"wire"`   // bytes as sent, with the frames' heads
	Frames     int      `json:"frames"`
	Compressed bool     `json:"compressed,omitempty"`
	Code       int      `json:"code,omitempty"` // of a close
	Notes      []string `json:"notes,omitempty"`
}

// listen has the recorder hear of the messages on a flow that became a
// WebSocket, where somebody asked for that.
func (r *recorder) listen(f *flow.Flow) {
	if f.Upgraded == nil {
		return
	}
	if r.messages && r.lines != nil {
		f.OnMessage(r.writeMessage)
	}
	if r.said != nil {
		f.OnMessage(r.said)
	}
}

func (r *recorder) writeMessage(f *flow.Flow, m *flow.Message) {
	line := messageLine{Version: 1, ID: f.ID.String(), Time: m.Time, Message: messageText{
		From: m.From.String(), Opcode: m.Opcode.String(), Size: m.Size, Wire: m.Wire, Frames: m.Frames,
		Compressed: m.Compressed, Notes: m.Notes.Strings()}}
	if m.Opcode == ws.OpClose {
		line.Message.Code, _, _ = ws.ParseClose(m.Data)
	}
	raw, err := json.Marshal(line)
	if err != nil {
		return // only numbers and strings: cannot fail
	}
	r.put(append(raw, '\n'))
}
