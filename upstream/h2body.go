package upstream

import (
	"io"
	"sync"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// outgoing2 is the body of a request on its way over HTTP/2: without chunk
// framing.
type outgoing2 struct {
	source   wire.Body // nil when there is none
	payload  *wire.PayloadBody
	first    []byte // what was at hand
	pending  []byte // a piece that is too large for first
	whole    bool   // first is all
	trailers *wire.Head
	buffers  *sync.Pool
	buffer   *[]byte
}

// gather takes what is at hand of the body.
func (o *outgoing2) gather() error {
	if o.source == nil {
		o.whole = true
		return nil
	}
	o.payload = wire.Payload(o.source)
	if v, ok := o.buffers.Get().(*[]byte); ok {
		o.buffer = v
	} else {
		v := make([]byte, 0, atOnce)
		o.buffer = &v
	}
	o.first = (*o.buffer)[:0]
	for o.ready() {
		piece, err := o.next()
		if err != nil && err != io.EOF {
			o.source.Close()
			return err
		}
		if len(o.first)+len(piece) > atOnce {
			o.pending = piece
		} else {
			o.first = append(o.first, piece...)
		}
		if err == io.EOF {
			o.whole = o.pending == nil
			o.trailers = o.behind()
			if !o.whole {
				o.payload = nil
			}
			return nil
		}
		if o.pending != nil {
			return nil
		}
	}
	return nil
}

// next is the next piece of the payload.
func (o *outgoing2) next() ([]byte, error) {
	piece, err := o.payload.Next()
	if err == io.EOF && o.source.Framing().Kind == wire.Chunked {
		// The last chunk tells the payload's end; the body's own is what lets
		// the client's connection go on.
		if _, end := o.source.Next(); end != io.EOF {
			return piece, io.ErrUnexpectedEOF
		}
	}
	return piece, err
}

// ready tells whether the payload's Next returns without waiting. Of a body in
// chunks that is not known: a piece may hold chunk heads alone.
func (o *outgoing2) ready() bool {
	w, waits := o.source.(waiter)
	return !waits || w.Ready() && o.source.Framing().Kind != wire.Chunked
}

// behind are the trailers, once the body is at its end.
func (o *outgoing2) behind() *wire.Head {
	if f := o.source.Framing(); f.Kind == wire.Stream {
		if f.Trailers == nil || f.Trailers.NumFields() == 0 {
			return nil
		}
		return f.Trailers
	}
	if o.payload == nil {
		return o.trailers
	}
	return h2.TrailersTo2(o.payload.Trailers())
}

func (o *outgoing2) free() {
	if o.buffer != nil {
		o.buffers.Put(o.buffer)
		o.buffer, o.first = nil, nil
	}
}

// An upload2 sends the rest of a request's body.
type upload2 struct {
	s       *h2.Stream
	pending []byte
	body    *outgoing2
	done    chan struct{}
	bodyErr error // the body could not be read; set before done is closed

	mu    sync.Mutex
	over  bool
	after func()
}

func (u *upload2) run() {
	u.copy()
	u.mu.Lock()
	u.over = true
	after := u.after
	u.mu.Unlock()
	if after != nil {
		after()
	}
}

// leave has fn called when the upload ends, and returns true instead if it has
// ended.
func (u *upload2) leave(fn func()) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return true
	}
	u.after = fn
	return false
}

func (u *upload2) copy() {
	piece, err := u.pending, error(nil)
	if u.body.payload == nil {
		err = io.EOF
	}
	for {
		var trailers *wire.Head
		if err == io.EOF {
			trailers = u.body.behind()
		}
		if werr := sendPiece(u.s, piece, err == io.EOF, trailers); werr != nil {
			u.body.source.Close() // the answer's reader hears of it from the stream
			return
		}
		u.s.Flush()
		if err == io.EOF {
			return
		}
		piece, err = u.body.next()
		if err != nil && err != io.EOF {
			u.bodyErr = bodyError(err)
			u.s.Reset(h2.Cancel)
			return
		}
	}
}
