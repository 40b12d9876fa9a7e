package session

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// wholeBody is a request's body that tokens may go into: as it came, and what
// it carries. It is sent as it came for as long as no token changes it, and
// every sending begins with what the client wrote. A nil one is of a request
// without a body, or of one that no token goes into.
type wholeBody struct {
	framing wire.Framing
	raw     []byte // as it stood on the wire
	payload []byte // without chunks
	trailer []byte // the lines behind the last chunk
	why     string // why it is not edited, or ""
	whole   bool   // raw is all of it
	absent  bool   // the client sent none, and a script made one
}

// mayEditBody reports whether a token could go into the body.
func (x *exchange) mayEditBody() bool {
	for _, r := range x.rules {
		for i := range r.Actions {
			if r.Actions[i].EditsBody() {
				return true
			}
		}
		if !x.engine.Rules().AutoInject {
			continue
		}
		for i := range r.Updates {
			if t := r.Updates[i].Target; t != nil && (t.NeedsBody() || t.Script != nil) {
				return true
			}
		}
	}
	return false
}

// holdRequest reads the request's body, up to Limits.EditedBody of payload. A
// longer one streams on behind what was read, and is not edited.
func (x *exchange) holdRequest() {
	f, limit := x.flow, x.engine.limits.EditedBody
	b := &wholeBody{framing: f.RequestBody.Framing()}
	x.held = b
	switch {
	case b.framing.Kind == wire.Length && b.framing.Length > limit:
		b.why = "it is larger than limits.edited_body"
	case b.framing.Ambiguous || b.framing.Kind == wire.UntilClose:
		b.why = "it is not certain where it ends"
	case isCoded(f.Request):
		b.why = "it has a Content-Encoding"
	}
	if b.why != "" {
		return
	}
	if f.Interim != nil && f.Request.HasToken("Expect", "100-continue") && !ready(f.RequestBody) {
		// The client waits to be told to send it (RFC 9110 §10.1.1), and the
		// origin does not hear of the request before it is here.
		if err := f.Interim(goOn(f.Request.Proto())); err != nil {
			b.why = "the client has gone"
			return
		}
	}
	// Chunks may add to what is kept as much again as they carry.
	held := share{of: &x.engine.memory, free: freeBytes}
	err := b.read(f.RequestBody, 2*limit, &held)
	if held.taken > 0 {
		f.OnEnd(func(*flow.Flow) { held.end() })
	}
	if err == nil {
		err = b.unpack(int(limit))
	}
	rest := f.RequestBody
	if b.whole {
		f.RequestBody = wire.BytesBody(b.framing, b.raw)
		return
	}
	switch {
	case err != nil:
		b.why = "it broke off"
	case b.why == "":
		b.why = "it is larger than limits.edited_body"
	}
	f.RequestBody = &resumedBody{Body: rest, first: b.raw, err: err}
}

// isCoded reports whether the payload is in a content coding: it is left as the
// client wrote it, since no encoder would write the same bytes again.
func isCoded(req *wire.Request) bool {
	coding := req.Combined("Content-Encoding")
	return len(coding) > 0 && string(coding) != "identity"
}

func goOn(p wire.Proto) *wire.Response {
	if p == wire.HTTP2 {
		r := new(wire.Response)
		r.Reset(wire.HTTP2)
		_ = r.AppendField([]byte(":status"), []byte("100"), 0) // a plain field cannot fail
		return r
	}
	r, _ := wire.ParseResponse([]byte("HTTP/1.1 100 Continue\r\n\r\n")) // cannot fail either
	return r
}

// read keeps pieces until the end, until there are more than limit bytes, or
// until all flows together hold too much.
func (b *wholeBody) read(source wire.Body, limit int64, held *share) error {
	if b.framing.Kind == wire.Length { // which costs the client nothing to claim
		b.raw = make([]byte, 0, min(b.framing.Length, freeBytes))
	}
	for int64(len(b.raw)) <= limit {
		if !held.covers(int64(len(b.raw))) {
			b.why = "all bodies together are larger than limits.memory"
			return nil
		}
		piece, err := source.Next()
		b.raw = append(b.raw, piece...)
		if err == io.EOF {
			b.framing, b.whole = source.Framing(), true
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unpack finds the payload. What cannot be edited is sent as it came.
func (b *wholeBody) unpack(limit int) (err error) {
	b.payload = b.raw
	if b.whole && b.framing.Kind == wire.Chunked {
		b.payload, b.trailer, err = wire.DecodeChunked(b.raw, limit)
	}
	switch {
	case !b.whole:
	case err != nil && !errors.Is(err, wire.ErrTooLarge) || b.framing.Ambiguous:
		b.why = "it is not certain where it ends"
	case err != nil || len(b.payload) > limit:
		b.why = "it is larger than limits.edited_body"
	}
	return nil
}

func (b *wholeBody) isWhole() bool { return b != nil && b.whole }

// content is what tokens go into; nil when they do not.
func (b *wholeBody) content() []byte {
	if b == nil || !b.whole || b.why != "" {
		return nil
	}
	return b.payload
}

// unedited is why no token goes into the body, "" when there is none.
func (b *wholeBody) unedited() string {
	if b == nil {
		return ""
	}
	return b.why
}

// sendBody gives the flow its body for the next sending: as it came, or with
// what the tokens made of it, in the framing that it had. Chunks become one.
func (x *exchange) sendBody() {
	if x.held == nil && x.message.Body != nil {
		x.held = &wholeBody{framing: wire.Framing{Kind: wire.Length}, whole: true, absent: true}
	}
	b, f := x.held, x.flow
	if !b.isWhole() {
		return
	}
	payload := x.message.Body
	if payload == nil || b.why != "" || sameBytes(payload, b.payload) {
		f.RequestBody = nil
		if !b.absent {
			f.RequestBody = wire.BytesBody(b.framing, b.raw)
		}
		f.EditedBody(nil, nil)
		return
	}
	f.EditedBody(b.payload, payload)
	framing, raw := b.framing, payload
	if framing.Kind == wire.Chunked {
		raw = wire.AppendLastChunk(wire.AppendChunk(make([]byte, 0, len(payload)+len(b.trailer)+32), payload), b.trailer)
	} else if framing.Kind == wire.Length || framing.Length > 0 {
		framing.Length = int64(len(payload))
	}
	req := f.Edit()
	for i := range req.NumFields() {
		if name, _ := req.Field(i); bytes.EqualFold(name, []byte("content-length")) {
			_ = req.SetFieldValue(i, strconv.AppendInt(nil, int64(len(payload)), 10)) // digits are safe
		}
	}
	if b.absent && !req.Has("Content-Length") {
		_ = req.Add("Content-Length", strconv.Itoa(len(payload)))
	}
	f.RequestBody = wire.BytesBody(framing, raw)
}

// sameBytes reports whether an edit has made nothing new: edits copy.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// resumedBody gives what was read of a body, and then the rest of it, or the
// error that it broke off with.
type resumedBody struct {
	wire.Body
	first []byte
	err   error
}

// Next is the next piece.
func (b *resumedBody) Next() ([]byte, error) {
	if first := b.first; first != nil {
		b.first = nil
		return first, b.err
	}
	return b.Body.Next()
}

// Ready reports whether Next returns without waiting for the client.
func (b *resumedBody) Ready() bool { return b.first != nil || ready(b.Body) }
