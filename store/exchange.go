package store

import (
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// Limits of what is kept of one flow.
const (
	DefaultMaxBody = 1 << 20  // bytes of one body, as it stood on the wire
	MaxMessages    = 1000     // of a WebSocket
	MaxMessage     = 16 << 10 // bytes of one
	MaxText        = 32 << 20 // bytes of a body that are looked at, chunks and codings undone
)

// inlineBody is up to how many bytes a body stands in its flow's content; a larger
// one is kept once for all flows that have it. In a pack, a copy costs little more
// than the name of what is kept elsewhere, and far less than a row.
const inlineBody = 4 << 10

// An Exchange is what is kept of a flow, beside the flow itself.
type Exchange struct {
	Flow *flow.Flow
	// Received is the request's body as the client wrote it, Sent as it was last
	// sent, where that is not the same; nil: the same. Response is that of the
	// answer. nil: there is none.
	Received, Sent, Response *Body
	// Rules names those that were for the flow, State is the state of its session.
	Rules []string
	State string
	// Messages are those on its WebSocket; MessagesMissed is how many more there
	// were than are kept.
	Messages       []Message
	MessagesMissed int64
	// Kept hears once in which row the flow is: 0 says that it is in none, since
	// the disk did not follow. It must be quick, and any goroutine calls it, also
	// from within Record. nil: nobody listens.
	Kept func(row int64)

	tunnel bool // it had become one when it was stored
}

// Body is a body as it stood on the wire, chunks included.
type Body struct {
	Raw  []byte
	Kind wire.FramingKind
	// Size is how many bytes passed; more than Raw has where it was cut.
	Size int64
	// Cut says that Raw is the beginning only, or nothing: it was larger than is
	// kept, or the disk did not follow. Broken: it did not come to its end.
	Cut, Broken bool
	// Missed says that it was cut for want of memory. It is counted, not kept.
	Missed   bool
	Trailers *wire.Head // of a Stream; nil: none
}

// Message is one on a WebSocket. Data is cut at MaxMessage.
type Message struct {
	Time   time.Time
	From   flow.Peer
	Opcode ws.Opcode
	Size   int64 // whole, inflated
	Data   []byte
}

// Flags say what happened to a flow.
type Flags int64

// The flags. Their numbers stand in projects.
const (
	FlagResent     Flags = 1 << iota // it was sent again
	FlagRecovered                    // it waited for a session
	FlagPassedDead                   // the client was given an answer of a dead session
	FlagRefused                      // Holdfast answered itself
	FlagFailed                       // it broke off
	FlagRules                        // rules were for it
	FlagEdited                       // what was sent is not what was received
	FlagSocket                       // it became a WebSocket, or another tunnel
	FlagBodyCut                      // a body is not kept whole
	FlagTraced                       // something stands in its trace
)

// Words are the names of the flags that are set, in their order.
func (f Flags) Words() []string {
	words := []string{}
	for i, name := range []string{"resent", "recovered", "passed-dead", "refused", "failed", "rules", "edited", "socket", "body-cut", "traced"} {
		if f&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return words
}

// Flags say what happened to the flow.
func (f *Stored) Flags() Flags {
	flags := f.flags()
	if f.Upgraded {
		flags |= FlagSocket
	}
	return flags
}

func (x *Exchange) flags() Flags {
	f, flags := x.Flow, Flags(0)
	cut := func(b *Body) bool { return b != nil && b.Cut }
	for _, c := range [...]struct {
		flag Flags
		is   bool
	}{
		{FlagResent, len(f.Earlier) > 0}, {FlagRecovered, f.Recovered}, {FlagPassedDead, f.PassedDead}, {FlagRefused, f.Refused != nil},
		{FlagFailed, f.Err != nil}, {FlagRules, len(x.Rules) > 0}, {FlagEdited, f.Request != f.Received || x.Sent != nil},
		{FlagSocket, x.upgraded()}, {FlagBodyCut, cut(x.Received) || cut(x.Sent) || cut(x.Response)}, {FlagTraced, len(f.Trace.Events) > 0},
	} {
		if c.is {
			flags |= c.flag
		}
	}
	return flags
}

// upgraded reports whether it became a WebSocket, or another tunnel.
func (x *Exchange) upgraded() bool { return x.Flow.Upgraded != nil || x.tunnel }

// sent is the body of the request as it was sent.
func (x *Exchange) sent() *Body {
	if x.Sent != nil {
		return x.Sent
	}
	return x.Received
}

// SentBody is the body of the request as it was last sent; nil: there is none.
func (x *Exchange) SentBody() *Body { return x.sent() }

// Payload is the body without chunks; its content codings are as they were. nil:
// there is none.
func (b *Body) Payload() []byte {
	switch {
	case b == nil:
		return nil
	case b.Kind != wire.Chunked:
		return b.Raw
	}
	payload, _, _ := wire.DecodeChunked(b.Raw, len(b.Raw)) // as far as it is kept
	return payload
}

func (b *Body) size() int64 {
	if b == nil {
		return 0
	}
	return b.Size
}

// text is what a body says. nil: there is none.
func (b *Body) text(h *wire.Head) []byte {
	if b == nil {
		return nil
	}
	return wire.Text(h, b.Kind, b.Raw, MaxText)
}

// trailers are the fields behind a body, nil without any.
func (b *Body) trailers() *wire.Head {
	if b == nil || b.Cut || b.Broken {
		return nil
	}
	return wire.Trailers(wire.Framing{Kind: b.Kind, Trailers: b.Trailers}, b.Raw)
}
