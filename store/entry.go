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
	clear   []any // the columns behind id, without node and content
	content encoder
	node    string
	kept    func(row int64) // nil: nobody listens

	// Of the writer's, from here on.
	id     int64 // 0: not given yet
	block  *block
	sealed []byte
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
	e.content.flow(&kept)
	e.held = int64(len(e.content.b))
	for _, b := range e.content.large {
		e.held += int64(len(b.Raw))
	}
	e.clear = clearColumns(&kept)
	return e
}

// clearColumns are those of a row whose meaning is no content, in the order of
// flowColumns.
func clearColumns(x *Exchange) []any {
	f := x.Flow
	at := f.Start.UnixMicro()
	// Rounded so that differences are those of the flow's own times.
	sent, answered := int64(0), int64(0)
	if !f.Sent.IsZero() {
		sent = at + f.Sent.Sub(f.Start).Microseconds()
		if !f.Answered.IsZero() {
			answered = sent + f.Answered.Sub(f.Sent).Microseconds()
		}
	}
	record := flow.Record{Flow: f}
	host, _ := record.Bytes(httpql.ReqHost)
	host = append([]byte(nil), host...)
	var method, status any
	requestSize, responseSize := x.sent().size(), x.Response.size()
	if f.Request != nil {
		method = clearText(string(f.Request.Method()))
		requestSize += int64(len(f.Request.Bytes()))
	}
	if r := answer(f); r != nil {
		status = int64(r.Status())
		responseSize += int64(len(r.Bytes()))
	}
	tls := int64(0)
	if f.Origin.TLS {
		tls = 1
	}
	return []any{append([]byte(nil), f.ID[:]...), at, at + f.Ended.Sub(f.Start).Microseconds(), sent, answered,
		clearText(f.Tool), clearText(f.Identity), clearText(f.Listener), clearText(string(host)), clearText(f.Origin.Host),
		int64(f.Origin.Port), tls, method, status, int64(f.Stamp.Generation), x.State, int64(x.flags()), requestSize, responseSize}
}

// answer is what the client was given of the origin. What Holdfast refused it,
// it was not given.
func answer(f *flow.Flow) *wire.Response {
	if f.Refused != nil {
		return nil
	}
	return f.Response
}

// clearText is a text as both databases take it, nil for one that they do not.
func clearText(s string) any {
	if len(s) > maxClear || !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return nil
	}
	return s
}
