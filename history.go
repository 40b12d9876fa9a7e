package holdfast

import (
	"context"
	"errors"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The modes of a history.
const (
	HistoryOff   = "off"
	HistoryHeads = "heads" // flows without their bodies and without what was said on WebSockets
	HistoryFull  = "full"
)

// historian hands flows that have ended to the history, with the bodies that
// passed. nil keeps nothing.
type historian struct {
	out     *store.History
	maxBody int64 // 0: heads alone
	watches *watches
}

// newHistorian begins the history that a configuration wants; node is who writes
// it in a fleet.
func newHistorian(c Config, node string, w *watches) (*historian, error) {
	mode := c.History
	if mode == "" {
		mode = c.File.History.Mode
	}
	if c.Store == nil || mode == HistoryOff {
		return nil, nil
	}
	if mode != HistoryHeads && mode != HistoryFull {
		return nil, errors.New("there is no such history; write one of off, heads, full")
	}
	of := c.File.History
	out, err := c.Store.StartHistory(store.HistoryOptions{MaxBody: of.MaxBody, Node: node, Retention: store.Retention{Keep: of.Keep, MaxSize: of.MaxSize}})
	if err != nil {
		return nil, err
	}
	h := &historian{out: out, watches: w}
	if mode == HistoryFull {
		h.maxBody = out.MaxBody()
	}
	return h, nil
}

// passing is a flow on its way.
type passing struct {
	received, answered *tapped
	messages           []store.Message
	missed             int64
	held               int64 // bytes of messages
}

// stage has the history keep every flow.
func (h *historian) stage(next flow.Handler) flow.Handler {
	if h == nil {
		return next
	}
	return func(ctx context.Context, f *flow.Flow) error {
		p := &passing{received: listenTo(&f.RequestBody, h.maxBody, h.out.Hold)}
		f.OnEnd(func(f *flow.Flow) { h.record(p, f) })
		err := next(ctx, f)
		p.answered = listenTo(&f.ResponseBody, h.maxBody, h.out.Hold)
		if f.Upgraded != nil && h.maxBody > 0 {
			f.OnMessage(func(_ *flow.Flow, m *flow.Message) { h.said(p, m) })
		}
		return err
	}
}

// tunnelled keeps a tunnel whose bytes nobody looked at.
func (h *historian) tunnelled(f *flow.Flow) {
	if h != nil {
		h.record(&passing{}, f)
	}
}

// messageHead is what a message takes besides its data, in bytes.
const messageHead = 64

// said keeps a message of a WebSocket.
func (h *historian) said(p *passing, m *flow.Message) {
	data := m.Data[:min(len(m.Data), store.MaxMessage)]
	if n := int64(len(data) + messageHead); len(p.messages) < store.MaxMessages && h.out.Hold(n) {
		p.held += n
		p.messages = append(p.messages, store.Message{Time: m.Time, From: m.From, Opcode: m.Opcode, Size: m.Size, Data: append([]byte(nil), data...)})
		return
	}
	p.missed++
}

// record takes what a flow came to.
func (h *historian) record(p *passing, f *flow.Flow) {
	x := &store.Exchange{Flow: f, Rules: session.Applied(f), State: session.StateOf(f), Messages: p.messages, MessagesMissed: p.missed,
		Received: p.received.take(), Response: p.answered.take(), Kept: h.watches.kept(f.ID)}
	held := p.held
	for _, b := range []*store.Body{x.Received, x.Response} {
		if b != nil {
			held += int64(len(b.Raw))
		}
	}
	if payload, edited := f.SentBody(); edited {
		x.Sent = h.edited(x.Received, payload, f)
		held += int64(len(x.Sent.Raw))
	}
	h.out.Record(x, held)
}

// edited is the request's body as it was sent, after tokens had gone into it: in
// one chunk where it came in chunks.
func (h *historian) edited(received *store.Body, payload []byte, f *flow.Flow) *store.Body {
	b := &store.Body{Kind: wire.Length, Size: int64(len(payload))}
	if f.RequestBody != nil {
		b.Kind = f.RequestBody.Framing().Kind
	}
	raw := payload
	if b.Kind == wire.Chunked {
		var trailers []byte
		if received != nil {
			_, trailers, _ = wire.DecodeChunked(received.Raw, len(received.Raw)) // without, where it is cut
		}
		raw = wire.AppendLastChunk(wire.AppendChunk(nil, payload), trailers)
		b.Size = int64(len(raw))
	}
	keep := min(int64(len(raw)), h.maxBody)
	b.Cut = keep < int64(len(raw))
	if b.Missed = !h.out.Hold(keep); b.Missed {
		b.Cut = true
		return b
	}
	b.Raw = append([]byte(nil), raw[:keep]...)
	return b
}

// History says what became of the flows that go to the project. It is false
// where none do.
func (h *Holdfast) History() (store.HistoryStats, bool) {
	if h.history == nil {
		return store.HistoryStats{}, false
	}
	return h.history.out.Stats(), true
}

// Commits says how long the project's transactions took, by kind. It is empty
// without a project.
func (h *Holdfast) Commits() []store.Latency {
	if h.config.Store == nil {
		return nil
	}
	return h.config.Store.Latencies()
}

// close writes what waits. The error says what could not be written, which
// nobody hears of otherwise where the disk fails until the end.
func (h *historian) close() error {
	if h == nil {
		return nil
	}
	return h.out.Close()
}
