package holdfast

import (
	"context"
	"io"
	"slices"
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
	sent     *tapped // nil: there is no body
	got      *tapped
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
		x.sent = listenTo(&f.RequestBody, MaxRecordedBody, r.hold)
		f.OnEnd(func(f *flow.Flow) { r.keep(x, f) })
		err := next(ctx, f)
		x.got = listenTo(&f.ResponseBody, MaxRecordedBody, r.hold)
		return err
	}
}

// hold takes room for bytes of a body.
func (r *Recording) hold(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes+n > r.most() {
		return false
	}
	r.bytes += n
	return true
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
	kept := slices.Clone(r.kept)
	r.mu.Unlock()
	var all []convert.Exchange
	for _, x := range kept {
		e, err := convert.Of(x.origin, x.request, x.sent.payload(), x.response, x.got.payload())
		if err != nil {
			continue // a request that no file could hold, such as one without a host
		}
		e.Time, e.BodyMissing = x.began, x.got.partial()
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
