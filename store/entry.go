package store

import (
	"strings"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/wire"
)

const (
	bodyID   = 32  // bytes of seal.Box.Sum
	maxClear = 255 // bytes of a text that stands in the clear
)

// entry is a flow on its way to the disk.
type entry struct {
	held    int64 // bytes of the history's memory
	missing bool  // of a body something is left out for want of memory
	content encoder
	kept    func(row int64) // nil: nobody listens
	simple  bool            // its signatures are of the content's parts, and nothing else
	own     own
	common  common

	// Of the writer's, from here on.
	id     int64 // 0: not given yet
	block  *block
	pack   *pack // nil: not made yet
	bodies []bodyRow
	there  bool // in the database
}

// tell says in which row the flow is.
func (e *entry) tell() {
	switch {
	case e.kept == nil:
	case e.there:
		e.kept(e.id)
	default:
		e.kept(0)
	}
}

// common are columns of a row that are mostly the same for one flow after the
// other; own are the others, without id. Their meaning is no content.
type common struct {
	tool, identity, listener, host, origin, state, node clearText

	port, generation int64
	tls              bool
	flags            Flags
	pack             int64
}

type own struct {
	uid                       [len(flow.ID{})]byte
	at, ended, sent, answered int64
	method                    clearText
	status                    int64 // -1: no answer
	requestSize, responseSize int64
}

// The columns in the order of values.
const (
	commonColumns = "tool, identity, listener, host, origin, state, node, port, generation, tls, flags, pack"
	ownColumns    = "id, uid, at, ended, sent, answered, method, status, request_size, response_size"
)

func (c *common) values(to []any) []any {
	tls := int64(0)
	if c.tls {
		tls = 1
	}
	return append(to, c.tool.value(), c.identity.value(), c.listener.value(), c.host.value(), c.origin.value(), c.state.value(), c.node.value(),
		c.port, c.generation, tls, int64(c.flags), c.pack)
}

func (e *entry) ownValues(to []any) []any {
	o := &e.own
	var status any
	if o.status >= 0 {
		status = o.status
	}
	return append(to, e.id, o.uid[:], o.at, o.ended, o.sent, o.answered, o.method.value(), status, o.requestSize, o.responseSize)
}

// clearText is a text as both databases take it; odd is one that they do not.
type clearText struct {
	text string
	odd  bool
}

func clearly(s string) clearText {
	if len(s) > maxClear || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return clearText{odd: true}
	}
	return clearText{text: s}
}

// value is NULL for an odd text.
func (t clearText) value() any {
	if t.odd {
		return nil
	}
	return t.text
}

// bodyRow is a body that is kept once.
type bodyRow struct {
	id     [bodyID]byte
	raw    []byte
	sealed []byte // nil: it is thought to be there already
}

// newEntry copies what the history needs of a flow. bare leaves the bodies out.
func newEntry(x *Exchange, most int64, bare bool) *entry {
	kept, e := *x, &entry{kept: x.Kept}
	for _, b := range []**Body{&kept.Received, &kept.Sent, &kept.Response} {
		if *b == nil {
			continue
		}
		e.missing = e.missing || (*b).Missed
		switch short := **b; {
		case bare:
			short.Raw, short.Cut = nil, short.Cut || short.Size > 0
			*b = &short
		case int64(len(short.Raw)) > most:
			short.Raw, short.Cut = short.Raw[:most:most], true
			*b = &short
		}
	}
	e.content.bare = bare
	e.content.reserve(&kept)
	e.content.flow(&kept)
	e.held = int64(len(e.content.b))
	for _, b := range e.content.large {
		e.held += int64(len(b.Raw))
	}
	e.columns(&kept)
	e.simple = simple(headOf(x.Flow.Request), kept.sent()) && simple(answerHead(answer(x.Flow)), kept.Response)
	return e
}

// simple reports whether what a query can find in a message is its head and then
// its body, as they stood on the wire.
func simple(h *wire.Head, b *Body) bool {
	return h.Proto() != wire.HTTP2 && (b == nil || b.Kind != wire.Chunked && b.Trailers == nil && !h.Has("Content-Encoding"))
}

// columns fills in common and own.
func (e *entry) columns(x *Exchange) {
	f, o := x.Flow, &e.own
	o.uid, o.at = f.ID, f.Start.UnixMicro()
	o.ended = o.at + f.Ended.Sub(f.Start).Microseconds()
	// Rounded so that differences are those of the flow's own times.
	if !f.Sent.IsZero() {
		o.sent = o.at + f.Sent.Sub(f.Start).Microseconds()
		if !f.Answered.IsZero() {
			o.answered = o.sent + f.Answered.Sub(f.Sent).Microseconds()
		}
	}
	o.requestSize, o.responseSize, o.status = x.sent().size(), x.Response.size(), -1
	record := flow.Record{Flow: f}
	host := f.Origin.Host
	if name, _ := record.Bytes(httpql.ReqHost); string(name) != host {
		host = string(name)
	}
	o.method.odd = true
	if f.Request != nil {
		o.method = clearly(methodText(f.Request.Method()))
		o.requestSize += int64(len(f.Request.Bytes()))
	}
	if r := answer(f); r != nil {
		o.status = int64(r.Status())
		o.responseSize += int64(len(r.Bytes()))
	}
	e.common = common{tool: clearly(f.Tool), identity: clearly(f.Identity), listener: clearly(f.Listener), host: clearly(host), origin: clearly(f.Origin.Host),
		state: clearText{text: x.State}, port: int64(f.Origin.Port), generation: int64(f.Stamp.Generation), tls: f.Origin.TLS, flags: x.flags()}
}

// methodText is a method; the usual ones take no memory.
func methodText(m []byte) string {
	for _, usual := range [...]string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT"} {
		if string(m) == usual {
			return usual
		}
	}
	return string(m)
}

// answer is what the client was given of the origin. What Holdfast refused it,
// it was not given.
func answer(f *flow.Flow) *wire.Response {
	if f.Refused != nil {
		return nil
	}
	return f.Response
}
