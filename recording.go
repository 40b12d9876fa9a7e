package holdfast

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The limits of a Recording. What comes beyond is counted.
const (
	MaxRecorded      = 5000      // exchanges
	MaxRecordedBody  = 1 << 20   // bytes of one body
	MaxRecordedBytes = 128 << 20 // bytes of all bodies and heads
)

// Recording keeps what clients send and are answered, in memory, while it is a
// Config's Record: what macros are made of. It holds secrets. Any goroutine may
// call its methods.
type Recording struct {
	// Tool and Identity limit it to requests of that tool and identity; "" does
	// not. Bytes is how much of bodies and heads is kept, 0 MaxRecordedBytes. None
	// of them is changed once the proxy runs.
	Tool, Identity string
	Bytes          int64

	mu     sync.Mutex
	kept   []*recorded
	bytes  int64
	missed int
}

// recorded is one exchange as it passed.
type recorded struct {
	began    time.Time
	origin   string
	request  *wire.Request
	response *wire.Response
	sent     tapped
	got      tapped
}

// tapped is the beginning of a body, as it stood on the wire. The recording's
// lock guards it: a request's body may be read beyond its flow's end.
type tapped struct {
	raw     []byte
	cut     bool
	chunked bool
}

// stage has the recording see what passes. It stands before the rules: a
// recording shows what the client did.
func (r *Recording) stage(next flow.Handler) flow.Handler {
	if r == nil {
		return next
	}
	return func(ctx context.Context, f *flow.Flow) error {
		if r.Tool != "" && !strings.EqualFold(r.Tool, f.Tool) || r.Identity != "" && r.Identity != f.Identity {
			return next(ctx, f)
		}
		x := &recorded{began: f.Start, origin: strings.TrimSuffix(f.Origin.URL(nil), "/"), request: f.Request.Clone()}
		if f.RequestBody != nil {
			x.sent.chunked = f.RequestBody.Framing().Kind == wire.Chunked
			f.RequestBody = &tap{Body: f.RequestBody, into: &x.sent, all: r}
		}
		f.OnEnd(func(f *flow.Flow) { r.keep(x, f) })
		err := next(ctx, f)
		if f.ResponseBody != nil {
			x.got.chunked = f.ResponseBody.Framing().Kind == wire.Chunked
			f.ResponseBody = &tap{Body: f.ResponseBody, into: &x.got, all: r}
		}
		return err
	}
}

func (r *Recording) keep(x *recorded, f *flow.Flow) {
	if f.Response != nil && f.Refused == nil {
		x.response = f.Response.Clone()
	}
	size := int64(len(x.request.Bytes()))
	if x.response != nil {
		size += int64(len(x.response.Bytes()))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) >= MaxRecorded || r.bytes+size > r.most() {
		r.missed++
		return
	}
	r.bytes += size
	r.kept = append(r.kept, x)
}

func (r *Recording) most() int64 {
	if r.Bytes > 0 {
		return r.Bytes
	}
	return MaxRecordedBytes
}

// Missed is how many exchanges there was no room for.
func (r *Recording) Missed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.missed
}

// Exchanges lists what has ended so far, in the order in which it began.
func (r *Recording) Exchanges() []convert.Exchange {
	r.mu.Lock()
	kept := make([]recorded, len(r.kept))
	for i, x := range r.kept {
		kept[i] = *x
	}
	r.mu.Unlock()
	var all []convert.Exchange
	for i := range kept {
		x := &kept[i]
		e, err := convert.Of(x.origin, x.request, x.sent.payload(), x.response, x.got.payload())
		if err != nil {
			continue // a request that no file could hold, such as one without a host
		}
		e.Time, e.BodyMissing = x.began, x.got.cut
		at := len(all)
		for at > 0 && all[at-1].Time.After(e.Time) {
			at--
		}
		all = append(all, e)
		copy(all[at+1:], all[at:])
		all[at] = e
	}
	for i := range all {
		all[i].Entry = i + 1
	}
	return all
}

// WriteHAR writes what has ended so far as HAR 1.2, with its secrets.
func (r *Recording) WriteHAR(w io.Writer, version string) error {
	return convert.WriteHAR(w, version, r.Exchanges())
}

// payload is the body without chunks.
func (t *tapped) payload() []byte {
	if t.chunked {
		payload, _, _ := wire.DecodeChunked(t.raw, MaxRecordedBody) // what was good of it
		return payload
	}
	return t.raw
}

// tap keeps the beginning of a body that passes.
type tap struct {
	wire.Body
	into *tapped
	all  *Recording
}

// Next is the body's own.
func (t *tap) Next() ([]byte, error) {
	piece, err := t.Body.Next()
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	switch keep := min(len(piece), MaxRecordedBody-len(t.into.raw)); {
	case keep < len(piece) || t.all.bytes+int64(keep) > t.all.most():
		t.into.cut = true
	case !t.into.cut:
		t.into.raw = append(t.into.raw, piece...)
		t.all.bytes += int64(keep)
	}
	t.into.cut = t.into.cut || err != nil && err != io.EOF
	return piece, err
}

// Ready, Interrupt and Last are what some bodies offer beside Body: see where
// they are asked for.
func (t *tap) Ready() bool {
	w, waits := t.Body.(interface{ Ready() bool })
	return !waits || w.Ready()
}

// Interrupt ends a Next that waits.
func (t *tap) Interrupt() {
	if i, ok := t.Body.(interface{ Interrupt() }); ok {
		i.Interrupt()
	}
}

// Last reports whether the piece that Next has just returned was the last.
func (t *tap) Last() bool {
	last, ok := t.Body.(interface{ Last() bool })
	return ok && last.Last()
}
