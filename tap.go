package holdfast

import (
	"io"
	"sync"

	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// tapped is the beginning of a body, as it stood on the wire, while it passes.
// A request's body may be read beyond its flow's end: hence the lock.
type tapped struct {
	most int64
	hold func(n int64) bool

	mu       sync.Mutex // guards what follows
	raw      []byte
	size     int64 // of what has passed
	framing  wire.Framing
	cut      bool // raw is not all of it
	missed   bool // since there was no room
	complete bool // the end has passed
	broke    bool // an error came
	taken    bool // nobody listens any more
}

// listenTo has a body tell what passes, up to most bytes, and as long as hold
// finds room for them. It returns nil where there is no body.
func listenTo(body *wire.Body, most int64, hold func(n int64) bool) *tapped {
	if *body == nil {
		return nil
	}
	t := &tapped{most: most, hold: hold, framing: (*body).Framing()}
	*body = &tap{Body: *body, into: t}
	return t
}

// hear notes a piece, and what came with it; last: nothing follows but io.EOF.
// The origin may answer, and the flow end, before anybody asks for that.
func (t *tapped) hear(piece []byte, last bool, err error, framing func() wire.Framing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken {
		return
	}
	t.size += int64(len(piece))
	if keep := min(int64(len(piece)), t.most-int64(len(t.raw))); !t.cut && len(piece) > 0 {
		if t.missed = !t.hold(keep); !t.missed {
			t.raw = append(t.raw, piece[:keep]...)
		}
		t.cut = t.missed || keep < int64(len(piece))
	}
	last = last || t.framing.Length > 0 && t.size >= t.framing.Length
	if t.complete = t.complete || err == io.EOF || err == nil && last; t.complete {
		t.framing = framing()
	}
	t.broke = t.broke || err != nil && err != io.EOF
}

// take ends the listening. nil: there is no body. The bytes that hold gave are
// the caller's.
func (t *tapped) take() *store.Body {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = true
	return &store.Body{Raw: t.raw, Kind: t.framing.Kind, Size: t.size, Cut: t.cut, Missed: t.missed, Broken: !t.complete, Trailers: t.framing.Trailers}
}

// payload is the body without chunks, so far.
func (t *tapped) payload() []byte {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.framing.Kind == wire.Chunked {
		payload, _, _ := wire.DecodeChunked(t.raw, int(t.most)) // what was good of it
		return payload
	}
	return t.raw
}

// partial reports whether more of the body passed than was kept, or less than
// there should have been.
func (t *tapped) partial() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cut || t.broke
}

// tap is a body that tells what passes.
type tap struct {
	wire.Body
	into *tapped
}

// Next is the body's own.
func (t *tap) Next() ([]byte, error) {
	piece, err := t.Body.Next()
	t.into.hear(piece, err == nil && t.Last(), err, t.Body.Framing)
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
