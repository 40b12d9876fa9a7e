package testenv

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
)

const (
	// maxRecorded is how many bytes of requests a Recording keeps.
	maxRecorded = 64 << 20
	// okReply is what a Recorder without Answer says.
	okReply = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
)

// A Recorder describes an origin that keeps every request as the exact bytes
// that arrived, and answers with exact bytes. It understands of HTTP/1 only
// where a request ends: at the blank line (of CRLF or bare LF) after the
// head, or after the body that the first Content-Length or a Transfer-Encoding
// ending in chunked announces.
type Recorder struct {
	Addr string // to listen on; "" is 127.0.0.1:0
	TLS  bool
	// Authority signs the certificates; nil makes a new one.
	Authority *ca.Authority

	// Answer replies to request n of all connections, counted from 0. It
	// may wait for something in the test, and is called by one goroutine per
	// connection. nil is 200 without a body, always.
	Answer func(n int, request []byte) Reply
	// Interim is written when the head of a request has arrived and before
	// its body is read: 100 Continue, for instance. May be nil.
	Interim func(n int, head []byte) []byte
	// Frame reads one request instead of the framing described above, for
	// requests whose end is in doubt. It returns io.EOF when there is none.
	Frame func(*bufio.Reader) ([]byte, error)
}

// A Reply is what a Recorder writes.
type Reply struct {
	Raw   []byte
	Close bool // the connection after Raw
	// Then takes the connection over after Raw, for upgrades, tunnels and
	// answers in pieces; it is closed when Then returns. Reads begin with
	// what the client sent after its request.
	Then func(io.ReadWriter)
}

// A Recording is a running Recorder. Its methods may be called by any
// goroutine, except that Close is the last.
type Recording struct {
	URL  string // scheme and authority, without a slash at the end
	Addr string // host:port

	recorder  Recorder
	authority *ca.Authority
	listener  net.Listener
	running   sync.WaitGroup

	mu       sync.Mutex
	requests [][]byte
	started  int // requests whose head is complete, and so the number of the next
	size     int
	raw      []*bytes.Buffer // all bytes of each connection
	open     map[net.Conn]bool
	closed   bool
	news     chan struct{} // closed and replaced with each request
}

// Start listens and records until Close.
func (r Recorder) Start() (*Recording, error) {
	if r.Addr == "" {
		r.Addr = "127.0.0.1:0"
	}
	if r.Answer == nil {
		r.Answer = func(int, []byte) Reply { return Reply{Raw: []byte(okReply)} }
	}
	rec := &Recording{recorder: r, authority: r.Authority, open: map[net.Conn]bool{}, news: make(chan struct{})}
	scheme := "http://"
	if r.TLS {
		scheme = "https://"
		if rec.authority == nil {
			var err error
			if rec.authority, err = ca.New(time.Now); err != nil {
				return nil, fmt.Errorf("recorder: %w", err)
			}
		}
	}
	listener, err := net.Listen("tcp", r.Addr)
	if err != nil {
		return nil, fmt.Errorf("recorder: %w", err)
	}
	rec.listener = listener
	rec.Addr = listener.Addr().String()
	rec.URL = scheme + rec.Addr
	rec.running.Go(rec.accept)
	return rec, nil
}

// CAPEM is the certificate that clients have to trust; nil without TLS.
func (r *Recording) CAPEM() []byte {
	if r.authority == nil {
		return nil
	}
	return r.authority.RootPEM()
}

// Pool holds what CAPEM holds; nil without TLS.
func (r *Recording) Pool() *x509.CertPool {
	if r.authority == nil {
		return nil
	}
	return r.authority.Pool()
}

// Requests are the complete requests so far, in the order in which they were
// complete.
func (r *Recording) Requests() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([][]byte(nil), r.requests...)
}

// Connections is how many connections were accepted.
func (r *Recording) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.raw)
}

// Raw is everything that arrived on connection i, counted from 0, whether it
// made a request or not; decrypted, with TLS.
func (r *Recording) Raw(i int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.raw[i].Bytes())
}

// Wait returns when n requests are complete, or with the error of the
// context.
func (r *Recording) Wait(ctx context.Context, n int) error {
	for {
		r.mu.Lock()
		have, news := len(r.requests), r.news
		r.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d requests, %d are there: %w", n, have, ctx.Err())
		}
	}
}

// Close closes everything and waits for every goroutine. An Answer that waits
// must be let go before.
func (r *Recording) Close() {
	r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for conn := range r.open {
		conn.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}

func (r *Recording) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		tap := &tap{Conn: conn, recording: r, raw: new(bytes.Buffer)}
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			conn.Close()
			return
		}
		r.open[conn] = true
		r.raw = append(r.raw, tap.raw)
		r.mu.Unlock()
		r.running.Go(func() {
			r.serve(tap)
			conn.Close()
			r.mu.Lock()
			delete(r.open, conn)
			r.mu.Unlock()
		})
	}
}

// tap keeps what is read from a connection.
type tap struct {
	net.Conn
	recording *Recording
	raw       *bytes.Buffer
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.recording.mu.Lock()
	defer t.recording.mu.Unlock()
	if t.recording.size += n; t.recording.size > maxRecorded {
		return 0, fmt.Errorf("more than %d bytes recorded", maxRecorded)
	}
	t.raw.Write(p[:n])
	return n, err
}

// serve answers the requests of one connection.
func (r *Recording) serve(conn *tap) {
	if r.recorder.TLS {
		secure := tls.Server(conn.Conn, &tls.Config{GetCertificate: certificates(r.authority), NextProtos: []string{"http/1.1"}})
		if secure.Handshake() != nil {
			return
		}
		conn = &tap{Conn: secure, recording: r, raw: conn.raw}
		defer secure.Close()
	}
	in := bufio.NewReader(conn)
	for {
		n, request, err := r.read(in, conn)
		if err != nil {
			return
		}
		reply := r.recorder.Answer(n, request)
		if write(conn, reply.Raw) != nil {
			return
		}
		if reply.Then != nil {
			reply.Then(struct {
				io.Reader
				io.Writer
			}{in, conn})
			return
		}
		if reply.Close {
			return
		}
	}
}

// read takes one request and stores it.
func (r *Recording) read(in *bufio.Reader, out io.Writer) (n int, request []byte, err error) {
	frame := r.recorder.Frame
	if frame == nil {
		frame = func(in *bufio.Reader) ([]byte, error) {
			return readRequest(in, func(head []byte) error {
				n = r.next()
				if r.recorder.Interim == nil {
					return nil
				}
				return write(out, r.recorder.Interim(n, head))
			})
		}
	}
	if request, err = frame(in); err != nil {
		return 0, nil, err
	}
	if r.recorder.Frame != nil {
		n = r.next()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
	close(r.news)
	r.news = make(chan struct{})
	return n, request, nil
}

// write leaves out empty writes, which TLS would make records of.
func write(to io.Writer, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	_, err := to.Write(text)
	return err
}

// next numbers a request.
func (r *Recording) next() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started++
	return r.started - 1
}

// readRequest reads a head and the body that it announces.
func readRequest(in *bufio.Reader, head func([]byte) error) ([]byte, error) {
	var request []byte
	length, chunked := int64(-1), false
	for {
		line, err := in.ReadBytes('\n')
		request = append(request, line...)
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		text := strings.TrimSpace(string(value))
		switch strings.ToLower(strings.TrimSpace(string(name))) {
		case "content-length":
			if parsed, err := strconv.ParseInt(text, 10, 64); err == nil && length < 0 {
				length = parsed
			}
		case "transfer-encoding":
			chunked = strings.HasSuffix(strings.ToLower(text), "chunked")
		}
	}
	if err := head(request); err != nil {
		return nil, err
	}
	switch {
	case chunked:
		return readChunks(in, request)
	case length > maxRecorded: // not make: nobody has sent that much yet
		return nil, fmt.Errorf("a body of %d bytes", length)
	case length > 0:
		body := make([]byte, length)
		_, err := io.ReadFull(in, body)
		return append(request, body...), err
	}
	return request, nil
}

// readChunks appends a chunked body as it stands (RFC 9112 §7.1), trailers
// included.
func readChunks(in *bufio.Reader, request []byte) ([]byte, error) {
	for {
		line, err := in.ReadBytes('\n')
		request = append(request, line...)
		if err != nil {
			return nil, err
		}
		digits := len(line) - len(bytes.TrimLeft(line, "0123456789abcdefABCDEF"))
		size, err := strconv.ParseInt(string(line[:digits]), 16, 32)
		if err != nil {
			return nil, fmt.Errorf("chunk size %q", line)
		}
		if size == 0 {
			break
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(in, data); err != nil {
			return nil, err
		}
		request = append(request, data...)
		if line, err = in.ReadBytes('\n'); err != nil {
			return nil, err
		}
		request = append(request, line...)
	}
	for {
		line, err := in.ReadBytes('\n')
		request = append(request, line...)
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return request, nil
		}
	}
}
