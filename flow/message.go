package flow

import (
	"time"

	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// A Peer is one of the two ends of a tunnel.
type Peer uint8

// The ends.
const (
	Client Peer = iota
	Server
)

func (p Peer) String() string {
	if p == Client {
		return "client"
	}
	return "origin"
}

// Message is what one end said on a WebSocket: a data message whole, or a
// control frame. Data is cut at the limits of whoever decodes and valid only
// during the call that brings it.
type Message struct {
	From Peer
	Time time.Time // when its last byte arrived
	ws.Message
}

// Close is the first close frame of one end of a WebSocket (RFC 6455 §5.5.1).
type Close struct {
	From Peer
	Time time.Time
	Code int // ws.CodeNone when the frame has none
	// Messages is how many data messages that end had sent before.
	Messages int64
}

// hearers are who wants to hear of a WebSocket.
type hearers struct {
	messages []func(*Flow, *Message)
	closes   []func(*Flow, *Close)
}

// OnMessage has fn hear of every message on a WebSocket. It is registered after
// the handler has set Upgraded and before the flow is delivered; without anybody
// nothing is decoded. fn is called by one goroutine at a time, holds up the
// tunnel while it runs, and may add to the trace.
func (f *Flow) OnMessage(fn func(*Flow, *Message)) {
	f.hear().messages = append(f.hear().messages, fn)
}

// OnClose is OnMessage for the first close frame of each end. fn is called
// before the other end is given the frame.
func (f *Flow) OnClose(fn func(*Flow, *Close)) {
	f.hear().closes = append(f.hear().closes, fn)
}

func (f *Flow) hear() *hearers {
	if f.hearers == nil {
		f.hearers = new(hearers)
	}
	return f.hearers
}

// Heard reports whether anybody wants to hear of messages, and whether of
// messages or closes.
func (f *Flow) Heard() (messages, anything bool) {
	return f.hearers != nil && len(f.hearers.messages) > 0, f.hearers != nil
}

// Said tells those who wanted to hear of messages.
func (f *Flow) Said(m *Message) {
	for _, fn := range f.hear().messages {
		fn(f, m)
	}
}

// SaidClose tells those who wanted to hear of closes.
func (f *Flow) SaidClose(c *Close) {
	for _, fn := range f.hear().closes {
		fn(f, c)
	}
}
