package flow

import (
	"io"

	"github.com/holdfast-proxy/holdfast/wire"
)

// Peek returns the whole body of the request, as it stands on the wire, where
// the request announces its length and that is at most limit bytes. It waits
// for the client to send it; whoever reads RequestBody afterwards finds all of
// it there. ok is false, and nothing was read, for a longer body, for one whose
// length is not announced (chunked, or an HTTP/2 stream without
// Content-Length), and for one that the client sends only when it is asked for
// (Expect: 100-continue, RFC 9110 §10.1.1). ok is false too when the body broke
// off. A request without a body has an empty one.
//
// It is asked before the request is sent. The bytes must not be changed; they
// are valid as long as the flow.
func (f *Flow) Peek(limit int64) (body []byte, ok bool) {
	if p := f.peeked; p != nil {
		return p.data, p.err == io.EOF
	}
	if f.RequestBody == nil {
		return nil, true
	}
	framing := f.RequestBody.Framing()
	if framing.Kind != wire.Length && framing.Kind != wire.Stream || framing.Length <= 0 || framing.Length > limit ||
		f.Received != nil && f.Received.HasToken("Expect", "100-continue") {
		return nil, false
	}
	p := &peekedBody{Body: f.RequestBody, data: make([]byte, 0, framing.Length)}
	for p.err == nil && int64(len(p.data)) <= limit {
		var piece []byte
		piece, p.err = p.Body.Next()
		p.data = append(p.data, piece...)
	}
	f.peeked, f.RequestBody = p, p
	return p.data, p.err == io.EOF
}

// peekedBody is a body of which the beginning, or all, was read already.
type peekedBody struct {
	wire.Body
	data  []byte
	err   error // what came with the end of data; nil: the rest follows
	given bool
}

// Next is all that was read, then what the source still has.
func (p *peekedBody) Next() ([]byte, error) {
	switch {
	case !p.given:
		p.given = true
		return p.data, p.err
	case p.err == io.EOF:
		return nil, io.EOF
	}
	return p.Body.Next()
}

// Ready reports whether Next returns without waiting for the client.
func (p *peekedBody) Ready() bool {
	if !p.given || p.err == io.EOF {
		return true
	}
	w, waits := p.Body.(interface{ Ready() bool })
	return !waits || w.Ready()
}
