package session_test

import (
	"io"
	"sync"

	"github.com/holdfast-proxy/holdfast/wire"
)

// stream is a body that the test feeds. Like those of package upstream it can
// wait, and be interrupted.
type stream struct {
	framing wire.Framing

	mu     sync.Mutex
	news   *sync.Cond
	pieces []string
	err    error // what follows the pieces; nil: not yet
	closed bool
	reads  int
}

func newStream(pieces ...string) *stream {
	s := &stream{framing: wire.Framing{Kind: wire.UntilClose}, pieces: pieces}
	s.news = sync.NewCond(&s.mu)
	return s
}

func (s *stream) push(piece string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces = append(s.pieces, piece)
	s.news.Broadcast()
}

func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.news.Broadcast()
}

func (s *stream) Next() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pieces) == 0 && s.err == nil && !s.closed {
		s.news.Wait()
	}
	s.reads++
	switch {
	case s.closed:
		return nil, io.ErrClosedPipe
	case len(s.pieces) > 0:
		piece := s.pieces[0]
		s.pieces = s.pieces[1:]
		return []byte(piece), nil
	}
	return nil, s.err
}

func (s *stream) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pieces) > 0 || s.err != nil || s.closed
}

func (s *stream) Framing() wire.Framing { return s.framing }

func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.news.Broadcast()
	return nil
}

func (s *stream) Interrupt() { s.Close() }

func (s *stream) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}
