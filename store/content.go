package store

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// The content of a flow's row is, before it is compressed and sealed, one byte
// of version and then its parts in the order of encodeContent. Numbers are
// varints (encoding/binary), signed ones zigzag; texts and bytes have their
// length in front, lists their count. A time is 0 for none, else 1 and
// nanoseconds: of the start since 1970, of the others since the start.
const contentVersion = 1

// The forms of a head.
const (
	headNone   = iota
	headBytes  // HTTP/1: as it stood on the wire
	headFields // HTTP/2: flags, name and value of each field
	headSame   // of the request that was sent: as received
)

// The places of a body.
const (
	bodyNone = iota
	bodyHere
	bodyElsewhere // in bodies, by its id
)

// errContent is what a content that nobody here wrote comes to.
var errContent = errors.New("the content of the row cannot be read")

type encoder struct {
	b    []byte
	bare bool  // without the bodies of answers that the client never saw
	hide Hider // nil: nothing is hidden
	// large are the bodies that stand elsewhere, and at where in b their ids
	// belong.
	large []*Body
	at    []int
	parts [parts]part
}

// What of a flow's content its signatures are of: the request that was sent and
// the answer.
const (
	partRequest = iota
	partRequestBody
	partResponse
	partResponseBody
	parts
)

// part is a head of HTTP/1 or a body: from low to high in the content or, large
// being above 0, the body large-1 of those that stand elsewhere.
type part struct{ low, high, large int }

// headPart notes that a head was encoded.
func (e *encoder) headPart(n int, h *wire.Head) {
	e.parts[n] = part{}
	if h.Proto() != wire.HTTP2 {
		e.parts[n] = part{low: len(e.b) - len(h.Bytes()), high: len(e.b)}
	}
}

// bodyPart notes that a body was encoded.
func (e *encoder) bodyPart(n int, b *Body) {
	switch {
	case b == nil:
	case len(b.Raw) > inlineBody:
		e.parts[n] = part{large: len(e.large)}
	default:
		e.parts[n] = part{low: len(e.b) - len(b.Raw), high: len(e.b)}
	}
}

// partBytes are the bytes of a part.
func (e *encoder) partBytes(n int) []byte {
	p := e.parts[n]
	if p.large > 0 {
		return e.large[p.large-1].Raw
	}
	return e.b[p.low:p.high]
}

func (e *encoder) byte(b byte)    { e.b = append(e.b, b) }
func (e *encoder) uint(n uint64)  { e.b = binary.AppendUvarint(e.b, n) }
func (e *encoder) int(n int64)    { e.b = binary.AppendVarint(e.b, n) }
func (e *encoder) text(s string)  { e.uint(uint64(len(s))); e.b = append(e.b, s...) }
func (e *encoder) bytes(s []byte) { e.uint(uint64(len(s))); e.b = append(e.b, s...) }

// words is a text in which a credential may stand.
func (e *encoder) words(s string) {
	if e.hide != nil {
		s = string(e.hide.Text([]byte(s)))
	}
	e.text(s)
}

func (e *encoder) bits(all ...bool) {
	var b byte
	for i, is := range all {
		if is {
			b |= 1 << i
		}
	}
	e.byte(b)
}

func (e *encoder) texts(all []string) {
	e.uint(uint64(len(all)))
	for _, s := range all {
		e.text(s)
	}
}

// since is a time as its distance to the flow's start.
func (e *encoder) since(start, t time.Time) {
	if t.IsZero() {
		e.byte(0)
		return
	}
	e.byte(1)
	e.int(int64(t.Sub(start)))
}

func (e *encoder) head(h *wire.Head) {
	if h.Proto() != wire.HTTP2 {
		e.byte(headBytes)
		b := h.Bytes()
		if e.hide != nil {
			b = e.hide.Head(b)
		}
		e.bytes(b)
		return
	}
	e.fields(h)
}

func headOf(r *wire.Request) *wire.Head {
	if r == nil {
		return new(wire.Head)
	}
	return &r.Head
}

func answerHead(r *wire.Response) *wire.Head {
	if r == nil {
		return new(wire.Head)
	}
	return &r.Head
}

func (e *encoder) fields(h *wire.Head) {
	e.byte(headFields)
	e.uint(uint64(h.NumFields()))
	for i := range h.NumFields() {
		name, value := h.Field(i)
		if e.hide != nil {
			value = e.hide.Field(name, value)
		}
		e.byte(byte(h.Flags(i)))
		e.bytes(name)
		e.bytes(value)
	}
}

// reserve makes room for what a content mostly comes to.
func (e *encoder) reserve(x *Exchange) {
	n := 384
	for _, h := range []*wire.Head{headOf(x.Flow.Received), headOf(x.Flow.Request), answerHead(x.Flow.Response)} {
		if h.Proto() != wire.HTTP2 {
			n += len(h.Bytes())
		} else {
			n += 32 * h.NumFields()
		}
	}
	for _, b := range []*Body{x.Received, x.Sent, x.Response} {
		if b != nil && len(b.Raw) <= inlineBody {
			n += len(b.Raw)
		}
	}
	e.b = make([]byte, 0, n)
}

func (e *encoder) request(r *wire.Request) {
	if r == nil {
		e.byte(headNone)
		return
	}
	e.head(&r.Head)
}

func (e *encoder) response(r *wire.Response) {
	if r == nil {
		e.byte(headNone)
		return
	}
	e.head(&r.Head)
}

func (e *encoder) body(b *Body, head *wire.Head) {
	if b == nil {
		e.byte(bodyNone)
		return
	}
	if e.hide != nil {
		b = e.hide.Body(head, b)
	}
	place := byte(bodyHere)
	if len(b.Raw) > inlineBody {
		place = bodyElsewhere
	}
	e.byte(place)
	e.bits(b.Cut, b.Broken)
	e.byte(byte(b.Kind))
	e.uint(uint64(b.Size))
	if b.Trailers == nil || b.Trailers.NumFields() == 0 {
		e.byte(headNone)
	} else {
		e.fields(b.Trailers)
	}
	if place == bodyHere {
		e.bytes(b.Raw)
		return
	}
	e.large, e.at = append(e.large, b), append(e.at, len(e.b))
	e.b = append(e.b, make([]byte, bodyID)...)
}

func (e *encoder) flow(x *Exchange) {
	f := x.Flow
	e.byte(contentVersion)
	e.b = append(e.b, f.ID[:]...)
	e.text(f.Tool)
	e.text(f.Identity)
	e.text(f.Listener)
	e.uint(f.Client)
	e.bits(f.Origin.TLS, f.Unprotected, f.PassedDead, f.Recovered, x.upgraded())
	e.text(f.Origin.Host)
	e.uint(uint64(f.Origin.Port))
	e.text(f.Origin.Address)
	e.int(f.Start.UnixNano())
	for _, t := range []time.Time{f.Ended, f.Sent, f.Answered} {
		e.since(f.Start, t)
	}
	e.int(int64(f.Waited))
	e.words(f.ShownPath)
	e.texts(f.Keep)
	e.uint(f.Stamp.Generation)
	e.uint(f.Stamp.Sequence)
	e.texts(x.Rules)
	e.text(x.State)
	e.request(f.Received)
	e.headPart(partRequest, headOf(f.Received))
	if f.Request == f.Received {
		e.byte(headSame)
	} else {
		e.request(f.Request)
		e.headPart(partRequest, headOf(f.Request))
	}
	e.body(x.Received, headOf(f.Received))
	e.bodyPart(partRequestBody, x.Received)
	e.body(x.Sent, headOf(f.Request))
	e.bodyPart(partRequestBody, x.Sent)
	e.response(answer(f))
	e.headPart(partResponse, answerHead(answer(f)))
	e.body(x.Response, answerHead(f.Response))
	e.bodyPart(partResponseBody, x.Response)
	e.rest(x)
}

// rest is what most flows do not have.
func (e *encoder) rest(x *Exchange) {
	f := x.Flow
	e.uint(uint64(len(f.Earlier)))
	for _, a := range f.Earlier {
		e.request(a.Request)
		e.response(a.Response)
		if e.bare {
			a.Body = nil
		}
		if e.hide != nil && len(a.Body) > 0 {
			a.Body = e.hide.Body(answerHead(a.Response), &Body{Raw: a.Body, Kind: wire.Length}).Raw
		}
		e.bytes(a.Body)
		e.uint(a.Stamp.Generation)
		e.uint(a.Stamp.Sequence)
		e.words(a.Reason)
	}
	e.uint(uint64(len(f.Trace.Events)))
	for _, v := range f.Trace.Events {
		e.int(int64(v.At))
		e.text(v.Actor)
		e.text(v.Action)
		e.words(v.Detail)
	}
	e.uint(uint64(f.Trace.Dropped))
	if r := f.Refused; r == nil {
		e.bits(false)
	} else {
		e.bits(true, r.NoSession, r.Cause != nil)
		e.int(int64(r.Status))
		e.text(r.Reason)
		e.words(r.Detail)
		e.words(r.Next)
		if r.Cause != nil {
			e.words(r.Cause.Error())
		}
	}
	if f.Err == nil {
		e.text("")
	} else {
		e.words(f.Err.Error())
	}
	e.uint(uint64(len(x.Messages)))
	for _, m := range x.Messages {
		e.since(f.Start, m.Time)
		e.bits(m.From == flow.Server)
		e.byte(byte(m.Opcode))
		e.int(m.Size)
		data := m.Data
		if e.hide != nil {
			data = e.hide.Text(data)
		}
		e.bytes(data)
	}
	e.int(x.MessagesMissed)
}

// decoder reads what encoder writes, whatever it is given: the first mistake
// sticks, and everything after it is empty.
type decoder struct {
	b    []byte
	err  error
	refs []bodyRef
}

// bodyRef is a body that stands elsewhere.
type bodyRef struct {
	id   [bodyID]byte
	body *Body
}

func (d *decoder) fail() { d.b, d.err = nil, errContent }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	b := d.b[0]
	d.b = d.b[1:]
	return b
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) int() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) bytes() []byte { return d.take(d.uint()) }
func (d *decoder) text() string  { return string(d.bytes()) }

// count is of a list whose elements have at least a byte each.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bits(all ...*bool) {
	b := d.byte()
	for i, is := range all {
		*is = b&(1<<i) != 0
	}
}

func (d *decoder) texts() (all []string) {
	for n := d.count(); n > 0 && d.err == nil; n-- {
		all = append(all, d.text())
	}
	return all
}

func (d *decoder) since(start time.Time) (t time.Time) {
	if d.byte() != 0 {
		t = start.Add(time.Duration(d.int()))
	}
	return t
}

func (d *decoder) fields() (h wire.Head) {
	h.Reset(wire.HTTP2)
	for n := d.count(); n > 0 && d.err == nil; n-- {
		flags := wire.FieldFlags(d.byte())
		name, value := d.bytes(), d.bytes()
		_ = h.AppendField(name, value, flags) // cannot fail in HTTP/2
	}
	return h
}

// request reads a head; nil where there is none, or where it was edited into
// something that is no message any more.
func (d *decoder) request(same *wire.Request) *wire.Request {
	switch d.byte() {
	case headNone:
	case headSame:
		return same
	case headBytes:
		if r, err := wire.ParseRequest(d.bytes()); err == nil {
			return r
		}
	case headFields:
		return &wire.Request{Head: d.fields()}
	default:
		d.fail()
	}
	return nil
}

func (d *decoder) response() *wire.Response {
	switch d.byte() {
	case headNone:
	case headBytes:
		if r, err := wire.ParseResponse(d.bytes()); err == nil {
			return r
		}
	case headFields:
		return &wire.Response{Head: d.fields()}
	default:
		d.fail()
	}
	return nil
}

func (d *decoder) body() *Body {
	place := d.byte()
	if place == bodyNone || d.err != nil {
		return nil
	}
	b := new(Body)
	d.bits(&b.Cut, &b.Broken)
	b.Kind, b.Size = wire.FramingKind(d.byte()), int64(d.uint())
	switch d.byte() {
	case headNone:
	case headFields:
		h := d.fields()
		b.Trailers = &h
	default:
		d.fail()
	}
	switch place {
	case bodyHere:
		b.Raw = d.bytes()
	case bodyElsewhere:
		if id := d.take(bodyID); id != nil {
			d.refs = append(d.refs, bodyRef{[bodyID]byte(id), b})
		}
	default:
		d.fail()
	}
	return b
}

func (d *decoder) flow() *Stored {
	if d.byte() != contentVersion {
		d.fail()
	}
	f := new(flow.Flow)
	s := &Stored{Exchange: Exchange{Flow: f}}
	copy(f.ID[:], d.take(uint64(len(f.ID))))
	f.Tool, f.Identity, f.Listener = d.text(), d.text(), d.text()
	f.Client = d.uint()
	d.bits(&f.Origin.TLS, &f.Unprotected, &f.PassedDead, &f.Recovered, &s.Upgraded)
	f.Origin.Host = d.text()
	f.Origin.Port = uint16(d.uint())
	f.Origin.Address = d.text()
	f.Start = time.Unix(0, d.int()).UTC()
	f.Ended, f.Sent, f.Answered = d.since(f.Start), d.since(f.Start), d.since(f.Start)
	f.Waited = time.Duration(d.int())
	f.ShownPath = d.text()
	f.Keep = d.texts()
	f.Stamp.Generation, f.Stamp.Sequence = d.uint(), d.uint()
	s.Rules, s.State = d.texts(), d.text()
	f.Received = d.request(nil)
	f.Request = d.request(f.Received)
	s.Received, s.Sent = d.body(), d.body()
	f.Response = d.response()
	s.Response = d.body()
	d.rest(s)
	return s
}

func (d *decoder) rest(s *Stored) {
	f := s.Flow
	for n := d.count(); n > 0 && d.err == nil; n-- {
		a := flow.Attempt{Request: d.request(nil), Response: d.response(), Body: d.bytes()}
		a.Stamp.Generation, a.Stamp.Sequence = d.uint(), d.uint()
		a.Reason = d.text()
		f.Earlier = append(f.Earlier, a)
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		f.Trace.Events = append(f.Trace.Events, flow.Event{At: time.Duration(d.int()), Actor: d.text(), Action: d.text(), Detail: d.text()})
	}
	f.Trace.Dropped = int(d.uint())
	var refused, noSession, cause bool
	if d.bits(&refused, &noSession, &cause); refused {
		f.Refused = &flow.Error{Status: int(d.int()), Reason: d.text(), Detail: d.text(), Next: d.text(), NoSession: noSession}
		if cause {
			f.Refused.Cause = errors.New(d.text())
		}
	}
	if text := d.text(); text != "" {
		f.Err = errors.New(text)
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		m := Message{Time: d.since(f.Start)}
		var server bool
		if d.bits(&server); server {
			m.From = flow.Server
		}
		m.Opcode, m.Size, m.Data = ws.Opcode(d.byte()), d.int(), d.bytes()
		s.Messages = append(s.Messages, m)
	}
	s.MessagesMissed = d.int()
}
