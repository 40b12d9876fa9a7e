package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A reading is one way in which origins are known to read requests.
type reading struct {
	name  string
	once  bool // answers the first head, whatever follows, and closes
	loose bool // forgives in names, codings and chunks what others do not
	// Which field says where a request ends.
	lengths, codings bool
}

func readings() []reading {
	return []reading{
		{name: "one head", once: true},
		{name: "by the book", lengths: true, codings: true},
		{name: "forgiving", lengths: true, codings: true, loose: true},
		{name: "lengths only", lengths: true},
		{name: "no content at all"},
	}
}

// patienceOfOrigin is how long an origin waits for the rest of what it takes
// for a request.
const patienceOfOrigin = 50 * time.Millisecond

// An origin that keeps connections open, answers what it takes for requests
// with their targets, and remembers what it read.
type oddOrigin struct {
	reading
	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []*bytes.Buffer // all bytes read, by connection
	taken [][]string      // the targets answered, by connection
}

func startOddOrigin(t testing.TB, r reading) *oddOrigin {
	o := &oddOrigin{reading: r, ln: listen(t)}
	o.wg.Go(func() {
		for {
			conn, err := o.ln.Accept()
			if err != nil {
				return
			}
			o.wg.Go(func() { o.serve(conn) })
		}
	})
	return o
}

func (o *oddOrigin) close() {
	o.ln.Close()
	o.wg.Wait()
}

func (o *oddOrigin) serve(conn net.Conn) {
	defer conn.Close()
	o.mu.Lock()
	n := len(o.conns)
	o.conns, o.taken = append(o.conns, new(bytes.Buffer)), append(o.taken, nil)
	o.mu.Unlock()
	var unread []byte
	for piece := make([]byte, 64<<10); ; {
		conn.SetReadDeadline(time.Time{})
		if len(unread) > 0 {
			conn.SetReadDeadline(time.Now().Add(patienceOfOrigin))
		}
		got, err := conn.Read(piece)
		unread = append(unread, piece[:got]...)
		o.mu.Lock()
		o.conns[n].Write(piece[:got])
		var answers []byte
		for {
			target, size := o.request(unread)
			if size == 0 {
				break
			}
			unread = unread[size:]
			o.taken[n] = append(o.taken[n], target)
			answers = append(answers, o.answer(target)...)
			if o.once {
				break
			}
		}
		o.mu.Unlock()
		conn.Write(answers)
		switch {
		case o.once && len(answers) > 0:
			conn.(*net.TCPConn).CloseWrite()
			for err == nil { // so that the answer is not lost with what was not read
				_, err = conn.Read(piece)
			}
			return
		case err != nil && len(unread) > 0:
			conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
			return
		case err != nil:
			return
		}
	}
}

func (o *oddOrigin) answer(target string) string {
	closing := ""
	if o.once {
		closing = "Connection: close\r\n"
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", closing, len(target), target)
}

// request takes one request off the bytes; size 0 is none that is complete.
func (o *oddOrigin) request(p []byte) (target string, size int) {
	end, after := headEnd(p)
	if end < 0 {
		return "", 0
	}
	lines := strings.Split(string(p[:end]), "\n")
	words := strings.Fields(lines[0])
	if len(words) > 1 {
		target = words[1]
	}
	length, chunked := 0, false
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		value = strings.TrimSpace(value)
		if o.loose {
			name = strings.ReplaceAll(strings.TrimSpace(name), "_", "-")
		}
		switch strings.ToLower(name) {
		case "content-length":
			length = digits(value)
		case "transfer-encoding":
			value = strings.ToLower(value)
			chunked = value == "chunked" || strings.HasSuffix(value, " chunked") || o.loose && strings.Contains(value, "chunked")
		}
	}
	switch {
	case o.codings && chunked:
		n := chunksEnd(p[after:], o.loose)
		if n < 0 {
			return "", 0
		}
		return target, after + n
	case o.lengths && length > len(p)-after:
		return "", 0
	case o.lengths:
		return target, after + length
	}
	return target, after
}

// headEnd finds the empty line, with and without CR.
func headEnd(p []byte) (end, after int) {
	end = -1
	for _, mark := range []string{"\r\n\r\n", "\n\r\n", "\n\n"} {
		if i := bytes.Index(p, []byte(mark)); i >= 0 && (end < 0 || i < end) {
			end, after = i, i+len(mark)
		}
	}
	return end, after
}

// digits reads what a number begins with, as atoi does.
func digits(s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<20 {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// chunksEnd is where the chunks end, -1 when they do not.
func chunksEnd(p []byte, loose bool) int {
	at := 0
	for {
		i := bytes.IndexByte(p[at:], '\n')
		if loose {
			i = bytes.IndexAny(p[at:], "\r\n")
		}
		if i < 0 {
			return -1
		}
		word, _, _ := strings.Cut(strings.TrimRight(string(p[at:at+i]), "\r"), ";")
		if loose {
			word = strings.ReplaceAll(strings.TrimLeft(strings.TrimSpace(word), "+"), "_", "")
			word = strings.TrimPrefix(word, "0x")
		}
		size, err := strconv.ParseInt(word, 16, 32)
		if err != nil || size < 0 {
			return -1
		}
		at += i + 1
		if loose && at < len(p) && p[at-1] == '\r' && p[at] == '\n' {
			at++
		}
		if size == 0 {
			if _, after := headEnd(append([]byte("\n"), p[at:]...)); after > 0 {
				return at + after - 1
			}
			return -1
		}
		if at += int(size); at > len(p) {
			return -1
		}
		for range 2 {
			if at < len(p) && (p[at] == '\r' || p[at] == '\n') {
				at++
			}
		}
	}
}
