package testenv

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// asksByStream tells whether a request is the handshake of a WebSocket by
// HTTP/2 (RFC 8441), as net/http shows it. It offers that to clients only in a
// program that is started with GODEBUG=http2xconnect=1.
func asksByStream(r *http.Request) bool {
	return r.Method == http.MethodConnect && r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket"
}

// webSocketStream is webSocket on a stream, whose handshake is good.
func (s *Server) webSocketStream(w http.ResponseWriter, r *http.Request, credential, deflate string) {
	stream := &streamConn{w: w, control: http.NewResponseController(w)}
	one := &socket{conn: stream, credential: credential}
	one.mu.Lock() // nothing goes before the head
	if !s.sockets.enter(one) {
		one.mu.Unlock()
		return
	}
	defer s.sockets.leave(one)
	if deflate != "" {
		w.Header().Set("Sec-WebSocket-Extensions", deflate)
	}
	w.WriteHeader(http.StatusOK)
	err := stream.control.Flush()
	one.mu.Unlock()
	if err == nil && s.lives(one) {
		s.echoFrames(one, r.Body)
	}
}

// streamConn is what a socket needs of a stream, which is the handler's: once
// closed, nothing of it is used any more.
type streamConn struct {
	mu      sync.Mutex
	w       http.ResponseWriter
	control *http.ResponseController
	closed  bool
}

func (c *streamConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	n, err := c.w.Write(p)
	if err == nil {
		err = c.control.Flush()
	}
	return n, err
}

// Close has the handler's reading end, if that still goes on.
func (c *streamConn) Close() error {
	err := c.SetReadDeadline(time.Unix(1, 0))
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return err
}

func (c *streamConn) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return io.ErrClosedPipe
	}
	return c.control.SetReadDeadline(at)
}

func (c *streamConn) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return io.ErrClosedPipe
	}
	return c.control.SetWriteDeadline(at)
}
