package main

import (
	"bytes"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2/hpack"
)

// A client2 speaks HTTP/2: batches of w.streams requests at once.
type client2 struct {
	t      *target
	w      work
	until  time.Time
	conn   net.Conn
	in     *h2Reader
	enc    *hpack.Encoder
	dec    *hpack.Decoder
	block  bytes.Buffer
	out    []byte
	id     uint32 // of the next stream
	status string // in the header block being decoded
	open   map[uint32]*call2
	last   bool // the peer said GOAWAY: this batch is the connection's last
	credit int  // bytes taken since the last WINDOW_UPDATE of the connection
}

// A call2 is one request in flight.
type call2 struct {
	status string
	bytes  int64
}

func newClient2(t *target, w work) *client2 { return &client2{t: t, w: w} }

func (c *client2) batch() int { return c.w.streams }

func (c *client2) deadline(t time.Time) {
	c.until = t
	if c.conn != nil {
		_ = c.conn.SetDeadline(t) // a closed connection says so on use
	}
}

func (c *client2) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client2) connect() error {
	conn, err := c.t.connect(c.t.tls, c.until)
	if err != nil {
		return err
	}
	if conn, err = secure(conn, "", "h2"); err != nil {
		return err
	}
	c.conn, c.in, c.id, c.credit, c.last = conn, newH2Reader(conn), 1, 0, false
	c.block.Reset()
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			c.status = f.Value
		}
	})
	c.open = make(map[uint32]*call2, c.w.streams)
	c.out = append(c.out[:0], h2Preface...)
	c.out = appendH2(c.out, h2Settings, 0, 0, appendH2Setting(nil, h2SettingInitialWindow, h2BigWindow))
	c.out = appendH2Window(c.out, 0, h2BigWindow-h2Window)
	return nil // the preface goes out with the first request
}

func (c *client2) exchange(rec *recorder) error {
	start := time.Now()
	if c.conn == nil {
		if err := c.connect(); err != nil {
			return err
		}
	}
	for range c.w.streams {
		c.request()
	}
	if err := c.flush(); err != nil {
		c.close()
		return err
	}
	for len(c.open) > 0 {
		if err := c.take(rec, start); err != nil {
			c.close()
			return noEOF(err)
		}
	}
	if c.last || c.id > 1<<30 {
		c.close() // stream numbers run out, too (RFC 9113 §5.1.1)
	}
	return c.flush()
}

// request appends a HEADERS frame.
func (c *client2) request() {
	c.block.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":path", Value: c.w.path},
		{Name: ":authority", Value: c.t.tls},
		{Name: ":scheme", Value: "https"},
		{Name: "user-agent", Value: benchAgent},
		{Name: "accept", Value: benchAccept},
		{Name: "accept-language", Value: "en-GB,en;q=0.5"},
		{Name: "accept-encoding", Value: "gzip, deflate, br"},
		{Name: "cookie", Value: "theme=dark; session=0123456789abcdef"},
		{Name: "x-requested-with", Value: "XMLHttpRequest"},
	} {
		_ = c.enc.WriteField(f) // a bytes.Buffer takes every write
	}
	c.out = appendH2(c.out, h2Headers, h2FlagEndHeaders|h2FlagEndStream, c.id, c.block.Bytes())
	c.open[c.id] = &call2{}
	c.id += 2
}

func (c *client2) flush() error {
	if len(c.out) == 0 || c.conn == nil {
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// take handles one frame.
func (c *client2) take(rec *recorder, start time.Time) error {
	f, err := c.in.next()
	if err != nil {
		return err
	}
	call := c.open[f.stream]
	switch f.kind {
	case h2Headers, h2Continuation:
		block, err := f.headerBlock()
		if err != nil {
			return err
		}
		if _, err := c.dec.Write(block); err != nil {
			return err
		}
		if f.flags&h2FlagEndHeaders != 0 {
			if err := c.dec.Close(); err != nil {
				return err
			}
			if call != nil && call.status == "" {
				call.status = c.status
			}
		}
		if f.kind == h2Continuation {
			return nil
		}
	case h2Data:
		p, err := f.unpadded()
		if err != nil {
			return err
		}
		if call != nil {
			call.bytes += int64(len(p))
		}
		if c.credit += len(f.payload); c.credit >= h2BigWindow/2 {
			c.out = appendH2Window(c.out, 0, c.credit)
			c.credit = 0
			if err := c.flush(); err != nil {
				return err
			}
		}
	case h2Settings:
		if f.flags&h2FlagEndStream == 0 {
			c.out = appendH2(c.out, h2Settings, h2FlagEndStream, 0, nil)
		}
		return nil
	case h2Ping:
		if f.flags&h2FlagEndStream == 0 {
			c.out = appendH2(c.out, h2Ping, h2FlagEndStream, 0, f.payload)
		}
		return c.flush()
	case h2Reset:
		return fmt.Errorf("bench: stream was reset, code %x", f.payload)
	case h2GoAway:
		if len(f.payload) < 8 || [4]byte(f.payload[4:8]) != [4]byte{} {
			return fmt.Errorf("bench: GOAWAY, %x", f.payload)
		}
		c.last = true
		return nil
	default:
		return nil
	}
	if call == nil || f.flags&h2FlagEndStream == 0 {
		return nil
	}
	delete(c.open, f.stream)
	if call.status != "200" || call.bytes != c.w.size {
		return fmt.Errorf("answer with status %s and %d bytes, not 200 and %d", call.status, call.bytes, c.w.size)
	}
	rec.ok(start, call.bytes)
	return nil
}
