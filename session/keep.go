package session

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/holdfast-proxy/holdfast/wire"
)

// keptBody is a request's body while it may be needed again: what the client
// has sent so far, in memory and then in a file, and the rest still to come.
//
// Several readers may be on it: the first sending may still be copying the
// body to an origin that has already answered when the second one begins.
// Each has its own place, and each can be given up while it waits. So nobody
// waits for the client with the lock held: a piece that is not there yet is
// fetched by a goroutine, for all of them.
type keptBody struct {
	framing wire.Framing
	limits  Limits
	source  wire.Body

	inMemory, inFile share // guarded by mu

	mu     sync.Mutex // guards everything below
	memory []byte
	file   *os.File // unlinked; nil until MemoryBody is passed
	size   int64    // of memory and file together
	end    error    // of the source: io.EOF or what broke it; nil while it goes on
	over   bool     // pieces are no longer kept: no second reader may start
	failed error    // why the file could not be written
	// direct is the last piece, where it was not kept. It is valid until the
	// next one is fetched. It exists once, so it is the newest reader's: the
	// sendings before that one have their answers already.
	direct []byte
	lost   bool // a piece was not kept
	newest *keptReader
	// fetched is closed when the piece that is being fetched is there; nil
	// when none is.
	fetched chan struct{}
}

// keep takes over a body. A body that says it is longer than the limit is not
// kept at all.
func (e *Engine) keep(source wire.Body) *keptBody {
	l := e.limits
	k := &keptBody{framing: source.Framing(), limits: l, source: source,
		inMemory: share{of: &e.memory, free: freeBytes}, inFile: share{of: &e.disk}}
	if k.framing.Kind == wire.Length && k.framing.Length > l.ResendBody {
		k.over = true
	}
	return k
}

// reader begins at the first byte. It is the first one.
func (k *keptBody) reader() wire.Body {
	k.newest = &keptReader{kept: k, closing: make(chan struct{})}
	return k.newest
}

// again returns a reader that begins at the first byte once more, or why there
// can be none. Readers before it fail where the body is no longer kept.
func (k *keptBody) again() (r wire.Body, why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.failed != nil:
		return nil, "its body could not be kept: " + k.failed.Error()
	case k.over:
		return nil, "its body is larger than limits.resend_body"
	case k.end != nil && k.end != io.EOF:
		return nil, "its body broke off"
	}
	return k.reader(), ""
}

// release gives memory and file back. A reader that has read everything so far
// may go on with the rest; others fail.
func (k *keptBody) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file != nil {
		k.file.Close()
		k.file = nil
	}
	k.memory, k.over = nil, true
	k.inMemory.end()
	k.inFile.end()
}

var errNoDisk = errors.New("the files of all requests together are larger than limits.disk")

var errReleased = errors.New("session: the request body is no longer kept")

// fetch takes the next piece from the client: at once where that needs no
// waiting, else in a goroutine. mu is held.
func (k *keptBody) fetch() {
	if ready(k.source) {
		k.take(k.source.Next())
		return
	}
	fetched := make(chan struct{})
	k.fetched = fetched
	go func() { // ends with the source, which the client's connection closes
		piece, err := k.source.Next()
		k.mu.Lock()
		defer k.mu.Unlock()
		k.take(piece, err)
		k.fetched = nil
		close(fetched)
	}()
}

// take keeps a piece. mu is held.
func (k *keptBody) take(piece []byte, err error) {
	k.end = err
	if len(piece) == 0 {
		return
	}
	if !k.over && k.size+int64(len(piece)) > k.limits.ResendBody {
		k.over = true
	}
	if k.over || !k.store(piece) {
		k.direct, k.lost = piece, true
	}
}

// store keeps a piece, and reports whether it could. mu is held.
func (k *keptBody) store(piece []byte) bool {
	if all := k.size + int64(len(piece)); k.file == nil && all <= k.limits.MemoryBody && k.inMemory.covers(all) {
		if k.memory == nil && k.framing.Kind == wire.Length { // which costs the client nothing to claim
			k.memory = make([]byte, 0, min(k.framing.Length, k.limits.MemoryBody, freeBytes))
		}
		k.memory = append(k.memory, piece...)
		k.size += int64(len(piece))
		return true
	}
	if k.file == nil {
		if k.file, k.failed = spool(); k.failed != nil {
			k.over = true
			return false
		}
	}
	if !k.inFile.covers(k.size - int64(len(k.memory)) + int64(len(piece))) {
		k.failed, k.over = errNoDisk, true
		return false
	}
	if _, err := k.file.WriteAt(piece, k.size-int64(len(k.memory))); err != nil {
		k.failed, k.over = err, true
		return false
	}
	k.size += int64(len(piece))
	return true
}

// spool opens a file that nobody else can open and that is gone with the
// process.
func spool() (*os.File, error) {
	f, err := os.CreateTemp("", "holdfast-body-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// keptReader is one sending's view of a keptBody. Close and Ready may be called
// by any goroutine, Next by one at a time.
type keptReader struct {
	kept    *keptBody
	at      int64
	buf     []byte // for pieces out of the file
	once    sync.Once
	closing chan struct{}
}

// spoolPiece is how much of a spooled body is read at once, in bytes.
const spoolPiece = 64 << 10

// Framing is the source's.
func (r *keptReader) Framing() wire.Framing { return r.kept.framing }

// Ready reports whether Next returns without waiting for the client.
func (r *keptReader) Ready() bool {
	k := r.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	return r.at < k.size || r.isBehind() || k.direct != nil || k.end != nil || k.fetched == nil && ready(k.source)
}

// Next returns what is kept first, then what the client still sends.
func (r *keptReader) Next() ([]byte, error) {
	for {
		piece, err, fetched := r.next()
		if fetched == nil {
			return piece, err
		}
		select {
		case <-fetched:
		case <-r.closing:
			return nil, errReleased
		}
	}
}

// next returns a piece, the end, or what to wait for.
func (r *keptReader) next() (piece []byte, err error, fetched chan struct{}) {
	k := r.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		select {
		case <-r.closing:
			return nil, errReleased, nil
		default:
		}
		switch {
		case r.at < k.size:
			piece, err = r.stored()
			r.at += int64(len(piece))
			if err == nil && r.at >= k.size && !r.isBehind() && k.direct == nil && k.fetched == nil {
				err = k.end
			}
			return piece, err, nil
		case r.isBehind():
			return nil, errReleased, nil
		case k.direct != nil:
			piece, k.direct = k.direct, nil
			return piece, k.end, nil
		case k.end != nil:
			return nil, k.end, nil
		case k.fetched != nil:
			return nil, nil, k.fetched
		}
		k.fetch()
	}
}

// isBehind reports whether pieces went to a newer reader only. mu is held.
func (r *keptReader) isBehind() bool { return r.kept.lost && r.kept.newest != r }

// stored returns the next piece of what is kept. mu is held.
func (r *keptReader) stored() ([]byte, error) {
	k := r.kept
	if r.at < int64(len(k.memory)) {
		return k.memory[r.at:], nil
	}
	if k.file == nil {
		return nil, errReleased
	}
	if r.buf == nil {
		r.buf = make([]byte, spoolPiece)
	}
	n, err := k.file.ReadAt(r.buf[:min(spoolPiece, k.size-r.at)], r.at-int64(len(k.memory)))
	if err != nil && err != io.EOF {
		return nil, err
	}
	return r.buf[:n], nil
}

// Close ends this sending's view, and a Next that waits. The body stays kept.
func (r *keptReader) Close() error {
	r.once.Do(func() { close(r.closing) })
	return nil
}
