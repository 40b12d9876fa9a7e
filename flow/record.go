package flow

import (
	"bytes"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/wire"
)

// A Record lets a query be asked about a flow, by one goroutine at a time.
// Asking allocates nothing; the record itself is one allocation, since a
// query sees it through an interface, and may be used again for other flows.
//
// The request is the one that was sent, not the one received.
type Record struct {
	Flow *Flow

	// RequestBody and ResponseBody are without transfer and content codings.
	// Missing (the zero value): the message has none, or, while the flow has
	// a stream for it, nobody has read it yet, which is Pending. Pending: the
	// slice holds as much of the beginning as has arrived.
	RequestBody      []byte
	RequestPresence  httpql.Presence
	ResponseBody     []byte
	ResponsePresence httpql.Presence

	// Trailers stand behind the response's fields, as headers that came late;
	// nil: none. TrailersPending says that there may be some yet.
	Trailers        *wire.Head
	TrailersPending bool

	Roundtrip time.Duration // from the request to the response's head; 0: by the times in the flow
	State     string        // of the session, "" without one
	Row       int64         // of the stored flow; 0 while it is not stored
	Node      string        // of a fleet that stored it; "" while it is not stored

	text [64]byte // strings as bytes, until the next question
}

var _ httpql.Record = (*Record)(nil)

// request and response say whether the message is there.
func (r *Record) request() httpql.Presence {
	if r.Flow.Request == nil {
		return httpql.Missing
	}
	return httpql.Known
}

func (r *Record) response() httpql.Presence {
	switch {
	case r.Flow.Response != nil:
		return httpql.Known
	case r.Flow.Ended.IsZero():
		return httpql.Pending
	}
	return httpql.Missing
}

// Bytes implements [httpql.Record].
func (r *Record) Bytes(f httpql.Field) ([]byte, httpql.Presence) {
	switch f {
	case httpql.FlowTool:
		return append(r.text[:0], r.Flow.Tool...), httpql.Known
	case httpql.FlowIdentity:
		return append(r.text[:0], r.Flow.Identity...), httpql.Known
	case httpql.FlowNode:
		return append(r.text[:0], r.Node...), httpql.Known
	case httpql.SessionState:
		return append(r.text[:0], r.State...), httpql.Known
	case httpql.RespHead, httpql.RespBody:
		return r.ofResponse(f)
	}
	req, p := r.Flow.Request, r.request()
	if p != httpql.Known {
		return nil, p
	}
	switch f {
	case httpql.ReqHead:
		return req.Bytes(), p
	case httpql.ReqBody:
		return body(r.RequestBody, r.RequestPresence, r.Flow.RequestBody != nil)
	case httpql.ReqHost:
		return hostname(req.Host()), p
	case httpql.ReqMethod:
		return req.Method(), p
	case httpql.ReqPath:
		return req.Path(), p
	case httpql.ReqQuery:
		return req.Query(), p
	}
	return nil, httpql.Missing
}

func (r *Record) ofResponse(f httpql.Field) ([]byte, httpql.Presence) {
	switch p := r.response(); {
	case p != httpql.Known:
		return nil, p
	case f == httpql.RespHead:
		return r.Flow.Response.Bytes(), p
	}
	return body(r.ResponseBody, r.ResponsePresence, r.Flow.ResponseBody != nil)
}

// body is the body of a message that is there.
func body(b []byte, p httpql.Presence, stream bool) ([]byte, httpql.Presence) {
	switch {
	case p != httpql.Missing:
		return b, p
	case stream:
		return nil, httpql.Pending
	}
	return nil, httpql.Known
}

// hostname is a host without its port (RFC 3986 §3.2.2); the brackets of an
// IPv6 address stay.
func hostname(host []byte) []byte {
	colon := bytes.LastIndexByte(host, ':')
	if colon < 0 || bytes.IndexByte(host[colon:], ']') >= 0 {
		return host
	}
	return host[:colon]
}

// Int implements [httpql.Record].
func (r *Record) Int(f httpql.Field) (int64, httpql.Presence) {
	fl := r.Flow
	switch f {
	case httpql.RowID:
		if r.Row == 0 {
			return 0, httpql.Missing
		}
		return r.Row, httpql.Known
	case httpql.ReqPort:
		return int64(fl.Origin.Port), httpql.Known
	case httpql.ReqTLS:
		if fl.Origin.TLS {
			return 1, httpql.Known
		}
		return 0, httpql.Known
	case httpql.ReqCreatedAt:
		return fl.Start.UnixMilli(), httpql.Known
	case httpql.ReqHeader:
		if p := r.request(); p != httpql.Known {
			return 0, p
		}
		return int64(fl.Request.NumFields()), httpql.Known
	case httpql.RespCode, httpql.RespHeader, httpql.RespRoundtrip:
		return r.intOfResponse(f)
	case httpql.FlowDuration:
		return fl.Ended.Sub(fl.Start).Milliseconds(), r.ended()
	case httpql.SessionGeneration:
		return int64(fl.Stamp.Generation), httpql.Known
	case httpql.FlowRule:
		return int64(r.rules(-1)), r.ended()
	case httpql.TraceAction:
		return int64(len(fl.Trace.Events)), r.ended()
	}
	return 0, httpql.Missing
}

func (r *Record) intOfResponse(f httpql.Field) (int64, httpql.Presence) {
	p := r.response()
	switch {
	case p != httpql.Known:
		return 0, p
	case f == httpql.RespCode:
		return int64(r.Flow.Response.Status()), p
	case f == httpql.RespHeader:
		n := r.Flow.Response.NumFields()
		if r.Trailers != nil {
			n += r.Trailers.NumFields()
		}
		if r.TrailersPending {
			p = httpql.Pending
		}
		return int64(n), p
	case r.Roundtrip == 0 && !r.Flow.Sent.IsZero():
		return r.Flow.Answered.Sub(r.Flow.Sent).Milliseconds(), p
	}
	return r.Roundtrip.Milliseconds(), p
}

// ended is the presence of what grows until the flow ends.
func (r *Record) ended() httpql.Presence {
	if r.Flow.Ended.IsZero() {
		return httpql.Pending
	}
	return httpql.Known
}

// Item implements [httpql.Record].
func (r *Record) Item(f httpql.Field, i int) (name, value []byte) {
	switch f {
	case httpql.ReqHeader:
		return r.Flow.Request.Field(i)
	case httpql.RespHeader:
		if n := r.Flow.Response.NumFields(); i >= n {
			return r.Trailers.Field(i - n)
		}
		return r.Flow.Response.Field(i)
	case httpql.TraceAction:
		return nil, append(r.text[:0], r.Flow.Trace.Events[i].Action...)
	case httpql.FlowRule:
		at := r.rules(i)
		return nil, append(r.text[:0], r.Flow.Trace.Events[at].Actor[len(actorRule):]...)
	}
	return nil, nil
}

// actorRule begins the actor of an event that a rule caused.
const actorRule = "rule "

// rules is the event of the matching rule i, counted from 0, or, with -1, how
// many there are.
func (r *Record) rules(i int) int {
	n := 0
	for at := range r.Flow.Trace.Events {
		e := &r.Flow.Trace.Events[at]
		if !strings.HasPrefix(e.Actor, actorRule) {
			continue
		}
		if n == i {
			return at
		}
		n++
	}
	return n
}
