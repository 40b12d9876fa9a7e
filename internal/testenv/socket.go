package testenv

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// CloseDead is the code by which the origin closes a WebSocket whose session
// has died.
const CloseDead = 4401

const (
	// maxFrame is the largest frame that is echoed; a larger one is 1009.
	maxFrame = 1 << 20
	// patience bounds the writing of a frame.
	patience = 10 * time.Second
)

// sockets are the connections that became WebSockets, which net/http has
// forgotten.
type sockets struct {
	mu      sync.Mutex
	open    map[*socket]struct{}
	refused bool // no further ones
	served  sync.WaitGroup
}

// A socket is one WebSocket: an echo that lives as long as its session.
type socket struct {
	conn       socketConn
	credential string

	mu     sync.Mutex // one frame at a time
	closed bool       // a close was sent
}

// socketConn is a connection, or a stream of HTTP/2.
type socketConn interface {
	io.Writer
	Close() error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// enter counts a socket; false when the server is ending.
func (s *sockets) enter(one *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused {
		return false
	}
	if s.open == nil {
		s.open = map[*socket]struct{}{}
	}
	s.open[one] = struct{}{}
	s.served.Add(1)
	return true
}

func (s *sockets) leave(one *socket) {
	s.mu.Lock()
	delete(s.open, one)
	s.mu.Unlock()
	one.conn.Close()
	s.served.Done()
}

func (s *sockets) all() (list []*socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for one := range s.open {
		list = append(list, one)
	}
	return list
}

// refuse says whether further sockets are refused.
func (s *sockets) refuse(yes bool) {
	s.mu.Lock()
	s.refused = yes
	s.mu.Unlock()
}

// end cuts all off and waits for them.
func (s *sockets) end() {
	for _, one := range s.all() {
		one.conn.Close()
	}
	s.served.Wait()
}

// sweep closes the sockets whose sessions have died.
func (s *Server) sweep() {
	for _, one := range s.sockets.all() {
		s.lives(one)
	}
}

// lives reports whether the socket's session does; if not, it is closed.
func (s *Server) lives(one *socket) bool {
	_, live := s.book.owner(one.credential)
	if !live {
		one.send(ws.OpClose, 0, true, ws.AppendClose(nil, CloseDead, "session died"))
	}
	return live
}

// webSocket answers a handshake. The query's dead says how a dead session
// looks: a status of 401, 403 or 302, or open, where the handshake succeeds and
// a close follows.
func (s *Server) webSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if !asksByStream(r) && (!strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || key == "") {
		writeJSON(w, http.StatusUpgradeRequired, apiError{"upgrade_required"})
		return
	}
	looks := r.URL.Query().Get("dead")
	if _, v := s.judgeAny(w, r); v != alive && looks != "open" {
		switch looks {
		case "302":
			writeRedirectToLogin(w)
		case "403":
			writeText(w, http.StatusForbidden, "text/plain", "")
		default:
			writeJSON(w, http.StatusUnauthorized, apiError{"unauthorized"})
		}
		return
	}
	credential, _ := anyCredential(r)
	deflate := ""
	if strings.Contains(r.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
		// Without context a compressed message means the same in both
		// directions, so it can be echoed as it came.
		deflate = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	}
	if asksByStream(r) {
		s.webSocketStream(w, r, credential, deflate)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError) // HTTP/2
		return
	}
	one := &socket{conn: conn, credential: credential}
	one.mu.Lock() // nothing goes before the head
	if !s.sockets.enter(one) {
		conn.Close()
		return
	}
	defer s.sockets.leave(one)
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + ws.Accept(key) + "\r\n"
	if deflate != "" {
		head += "Sec-WebSocket-Extensions: " + deflate + "\r\n"
	}
	_, err = io.WriteString(conn, head+"\r\n")
	one.mu.Unlock()
	if err == nil && s.lives(one) {
		s.echoFrames(one, buffered)
	}
	one.linger(buffered)
}

// echoFrames sends data frames back until one side closes.
func (s *Server) echoFrames(one *socket, from io.Reader) {
	var scan ws.Scanner
	var payload []byte
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		for p := buffer[:n]; len(p) > 0; {
			var piece ws.Piece
			piece, p = scan.Next(p)
			if piece.Header == nil {
				continue
			}
			if payload = append(payload, piece.Payload...); len(payload) > maxFrame || scan.Err() != nil {
				one.send(ws.OpClose, 0, true, ws.AppendClose(nil, 1009, "too large"))
				return
			}
			if !piece.Last {
				continue
			}
			if piece.Header.Masked {
				ws.Mask(payload, piece.Header.Mask, 0)
			}
			if !s.answerFrame(one, piece.Header, payload) {
				return
			}
			payload = payload[:0]
		}
	}
}

func (s *Server) answerFrame(one *socket, h *ws.Header, payload []byte) bool {
	switch {
	case h.Opcode == ws.OpClose:
		one.send(ws.OpClose, 0, true, payload)
		return false
	case h.Opcode == ws.OpPing:
		return one.send(ws.OpPong, 0, true, payload)
	case h.Opcode.IsControl():
		return true
	}
	return s.lives(one) && one.send(h.Opcode, h.Rsv, h.Fin, payload)
}

// send writes a frame; false when there is nobody to read it, or a close was
// sent before.
func (c *socket) send(op ws.Opcode, rsv uint8, fin bool, payload []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.closed = op == ws.OpClose
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.conn.Write(ws.AppendFrame(nil, ws.Header{Fin: fin, Rsv: rsv, Opcode: op}, payload))
	return err == nil
}

// linger reads what the client still sends, so that the close is not lost in a
// reset.
func (c *socket) linger(from io.Reader) {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	c.conn.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.CopyN(io.Discard, from, maxFrame) // the connection ends in any case
}
