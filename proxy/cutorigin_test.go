package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// cutOrigin is the origin of a cut.
type cutOrigin struct {
	k     *cutting
	c     *cut
	armed atomic.Bool // the cut's client is here

	mu    sync.Mutex
	takes int
	past  bool // it has answered, or left: from now on it serves everybody well
	conns []*recorder
}

// A recorder keeps what was read from a connection, and ends it where the
// origin is to leave.
type recorder struct {
	net.Conn
	o   *cutOrigin
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.mu.Lock()
	r.all.Write(p[:n])
	r.mu.Unlock()
	o := r.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.past || !o.armed.Load() || o.c.takes == stays {
		return n, err
	}
	if o.takes -= n; o.takes <= 0 {
		o.past = true
		return max(n+o.takes, 0), errCut
	}
	return n, err
}

func (o *cutOrigin) serve(ln net.Listener) {
	var cfg *tls.Config
	if o.c.secure {
		leaf, err := o.k.w.ca.Leaf("127.0.0.1")
		if err != nil {
			o.k.t.Error(err)
			return
		}
		cfg = &tls.Config{Certificates: []tls.Certificate{*leaf}, NextProtos: []string{[]string{"http/1.1", "h2"}[o.c.origin-1]}}
	}
	o.k.origins.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			raw.SetDeadline(time.Now().Add(patience))
			conn := raw
			if cfg != nil {
				conn = tls.Server(&scissors{Conn: raw, left: o.c.gives, how: o.c.how}, cfg)
			}
			r := &recorder{Conn: conn, o: o}
			o.mu.Lock()
			o.conns = append(o.conns, r)
			o.mu.Unlock()
			o.k.origins.Go(func() {
				defer raw.Close()
				if o.talk(r) == errCut {
					part(conn, o.c.how, &drain{r})
				}
			})
		}
	})
}

// drain records what comes after the origin has left.
type drain struct{ r *recorder }

func (d *drain) Read(p []byte) (int, error) {
	n, err := d.r.Conn.Read(p)
	d.r.mu.Lock()
	d.r.all.Write(p[:n])
	d.r.mu.Unlock()
	return n, err
}

func (o *cutOrigin) talk(r *recorder) error {
	br := bufio.NewReader(r)
	first, err := br.Peek(3)
	switch {
	case err != nil:
		return err
	case string(first) != "PRI":
		return o.talk1(r, br)
	case o.c.origin == 1:
		io.WriteString(r, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		return nil
	}
	return o.talk2(r, br)
}

// first tells whether it is the cut's turn, once.
func (o *cutOrigin) first() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	mine := !o.past && o.c.takes == stays
	o.past = o.past || mine
	return mine
}

func keyOf(path string) string {
	if key := path[strings.LastIndexByte(path, '/')+1:]; len(key) == 1 {
		return key
	}
	return ""
}

func (o *cutOrigin) talk1(conn *recorder, br *bufio.Reader) error {
	r := wire.NewReader(br, wire.Limits{})
	for {
		var head wire.Request
		if err := r.ReadRequest(&head); err != nil {
			return err
		}
		framing, err := wire.RequestFraming(&head)
		if err != nil {
			o.k.t.Errorf("%v: the origin read %q", o.c, head.Bytes())
			return err
		}
		if framing.Kind != wire.None {
			if body, err := all2(wire.Payload(r.Body(framing))); err != nil {
				return err
			} else if body != "hello" {
				o.k.t.Errorf("%v: the origin read the body %q", o.c, body)
			}
		}
		key := keyOf(string(head.Path()))
		text := answer1(key)
		if key == o.c.keys[:1] && o.first() {
			io.WriteString(conn, text[:min(o.c.gives, len(text))])
			if o.c.gives < len(text) {
				return errCut
			}
		} else {
			io.WriteString(conn, text)
		}
		if key == "d" {
			part(conn.Conn, byFin, &drain{conn})
			return nil
		}
	}
}

func (o *cutOrigin) talk2(conn *recorder, br *bufio.Reader) error {
	if _, err := io.ReadFull(br, make([]byte, len(h2.Preface))); err != nil {
		return err
	}
	fr := http2.NewFramer(conn, br)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	fr.WriteSettingsAck()
	paths, ids := map[uint32]string{}, map[string]uint32{}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		id, ended := f.Header().StreamID, false
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if path := f.PseudoValue("path"); path != "" {
				paths[id] = path
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			ended = f.StreamEnded()
		}
		if !ended {
			continue
		}
		key := keyOf(paths[id])
		switch {
		case key == "":
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block2(":status", "200")})
			fr.WriteData(id, true, []byte("well"))
			continue
		case o.c.each:
			raw, _ := script(answersOf(key), map[string]uint32{key: id})
			conn.Write(raw)
			continue
		}
		if ids[key] = id; len(ids) < len(o.c.keys) && !o.isPast() {
			continue
		}
		if o.first() {
			err = o.give(conn, ids)
		} else {
			for key, id := range ids {
				raw, _ := script(answersOf(key), map[string]uint32{key: id})
				conn.Write(raw)
			}
		}
		clear(ids)
		if err != nil {
			return err
		}
	}
}

func (o *cutOrigin) isPast() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.past
}

// give says the script as far as it is to.
func (o *cutOrigin) give(conn *recorder, ids map[string]uint32) error {
	raw, ends := script(o.c.answers, ids)
	if !o.c.sealed {
		conn.Write(raw[:min(o.c.gives, len(raw))])
		if o.c.gives < len(raw) {
			return errCut
		}
		return nil
	}
	conn.Conn.(*tls.Conn).NetConn().(*scissors).armed.Store(true)
	start := 0
	for _, end := range ends {
		if _, err := conn.Write(raw[start:end]); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// read is what came to the origin in all, by path: heads, whole requests, and
// those that neither ended nor were reset.
func (o *cutOrigin) read(t *testing.T) (came, whole, open map[string]int) {
	came, whole, open = map[string]int{}, map[string]int{}, map[string]int{}
	for _, r := range o.conns {
		raw := r.all.Bytes()
		if rest, ok := bytes.CutPrefix(raw, []byte(h2.Preface)); ok {
			read2(t, o.c, rest, came, whole, open)
			continue
		}
		for _, word := range strings.Fields(string(raw)) {
			if strings.HasPrefix(word, "/") {
				came[word]++
			}
		}
		if n := bytes.Count(raw, []byte("x-sum: 5\r\n\r\n")); n > 0 {
			whole[cutPath(o.c.number, "a")] += n
		}
	}
	return came, whole, open
}

func read2(t *testing.T, c *cut, raw []byte, came, whole, open map[string]int) {
	fr := http2.NewFramer(io.Discard, bytes.NewReader(raw))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	paths, bodies := map[uint32]string{}, map[uint32]string{}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("%v: the origin read what is not HTTP/2: %v", c, err)
			}
			return
		}
		id, ended := f.Header().StreamID, false
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if path := f.PseudoValue("path"); path != "" {
				paths[id] = path
				came[path]++
				open[path]++
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			bodies[id] += string(f.Data())
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			delete(open, paths[id])
		}
		if ended {
			delete(open, paths[id])
			whole[paths[id]]++
			if keyOf(paths[id]) == "a" && bodies[id] != "hello" {
				t.Errorf("%v: the origin took %q for a whole body", c, bodies[id])
			}
		}
	}
}
