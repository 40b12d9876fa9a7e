package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// maxH2Streams bounds the answers that wait for flow control on one
// connection of the origin.
const maxH2Streams = 256

// An originH2 answers one HTTP/2 connection from one goroutine: it reads
// frames while there are any, and writes what they caused in one go.
type originH2 struct {
	o       *origin
	conn    net.Conn
	in      *h2Reader
	dec     *hpack.Decoder
	enc     *hpack.Encoder
	block   bytes.Buffer
	out     []byte
	window  int64 // of the connection, towards the client
	initial int64 // of a new stream
	streams map[uint32]*originStream
	pending []uint32 // streams with bytes to send, in order
	path    string   // of the header block being decoded
	auth    bool
	credit  int // request bytes taken since the last WINDOW_UPDATE
}

// An originStream is a request which is not answered yet, or whose answer
// waits for a window.
type originStream struct {
	path     string
	auth     bool
	window   int64
	body     []byte
	streamed int64
	answered bool // its head has been written
}

func serveOriginH2(o *origin, conn net.Conn) {
	c := &originH2{
		o: o, conn: conn, in: newH2Reader(conn),
		window: h2Window, initial: h2Window,
		streams: map[uint32]*originStream{},
	}
	c.enc = hpack.NewEncoder(&c.block)
	c.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case ":path":
			c.path = f.Value
		case "authorization":
			c.auth = bytes.Contains([]byte(f.Value), []byte(benchToken))
		}
	})
	preface := make([]byte, len(h2Preface))
	if _, err := io.ReadFull(c.in.r, preface); err != nil || string(preface) != h2Preface {
		return
	}
	c.out = appendH2(nil, h2Settings, 0, 0, nil)
	for {
		if err := c.send(); err != nil {
			return
		}
		f, err := c.in.next()
		if err != nil || c.take(f) != nil {
			return
		}
	}
}

// send writes frames as far as the windows reach, then what has gathered,
// unless more frames are there to be read first.
func (c *originH2) send() error {
	for len(c.pending) > 0 && c.window > 0 {
		id := c.pending[0]
		s := c.streams[id]
		if s == nil || s.window <= 0 || !s.answered {
			c.pending = c.pending[1:]
			continue // a WINDOW_UPDATE queues it again
		}
		if done := c.sendData(id, s); done {
			delete(c.streams, id)
			c.pending = c.pending[1:]
		}
		if len(c.out) >= 4*h2MaxFrame {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	if c.in.buffered() {
		return nil
	}
	return c.flush()
}

// sendData appends one DATA frame and says whether it was the last.
func (c *originH2) sendData(id uint32, s *originStream) bool {
	room := int(min(c.window, s.window, h2MaxFrame))
	piece := s.body
	if len(piece) == 0 {
		piece = c.o.answers.block[:min(s.streamed, int64(len(c.o.answers.block)))]
	}
	piece = piece[:min(len(piece), room)]
	if len(s.body) > 0 {
		s.body = s.body[len(piece):]
	} else {
		s.streamed -= int64(len(piece))
	}
	c.window -= int64(len(piece))
	s.window -= int64(len(piece))
	done := len(s.body) == 0 && s.streamed == 0
	flags := byte(0)
	if done {
		flags = h2FlagEndStream
	}
	c.out = appendH2(c.out, h2Data, flags, id, piece)
	return done
}

func (c *originH2) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// take handles one frame.
func (c *originH2) take(f h2Frame) error {
	switch f.kind {
	case h2Headers, h2Continuation:
		return c.takeHeaders(f)
	case h2Data:
		c.credit += len(f.payload)
		if c.credit >= h2Window/2 {
			c.out = appendH2Window(c.out, 0, c.credit)
			c.credit = 0
		}
		if s := c.streams[f.stream]; s != nil {
			if f.flags&h2FlagEndStream != 0 {
				c.answer(f.stream, s)
			} else if len(f.payload) > 0 {
				c.out = appendH2Window(c.out, f.stream, len(f.payload))
			}
		}
	case h2Settings:
		if f.flags&h2FlagEndStream != 0 {
			return nil // an ACK
		}
		eachH2Setting(f.payload, c.setting)
		c.out = appendH2(c.out, h2Settings, h2FlagEndStream, 0, nil)
	case h2Ping:
		if f.flags&h2FlagEndStream == 0 {
			c.out = appendH2(c.out, h2Ping, h2FlagEndStream, 0, f.payload)
		}
	case h2Reset:
		delete(c.streams, f.stream)
	case h2GoAway:
		if len(c.streams) == 0 {
			return io.EOF
		}
	case h2WindowUpdate:
		if len(f.payload) < 4 {
			return errH2Padding
		}
		n := int64(binary.BigEndian.Uint32(f.payload) & 0x7fffffff)
		if f.stream == 0 {
			c.window += n
		} else if s := c.streams[f.stream]; s != nil {
			if s.window += n; s.window > 0 && s.window <= n {
				c.pending = append(c.pending, f.stream)
			}
		}
	}
	return nil
}

func (c *originH2) setting(id uint16, value uint32) {
	switch id {
	case h2SettingInitialWindow:
		// A change applies to the streams that are open, too (§6.9.2).
		delta := int64(value) - c.initial
		c.initial = int64(value)
		for id, s := range c.streams {
			if s.window += delta; s.window > 0 && s.window <= delta {
				c.pending = append(c.pending, id)
			}
		}
	case h2SettingTableSize:
		c.enc.SetMaxDynamicTableSize(min(value, 4096))
	}
}

func (c *originH2) takeHeaders(f h2Frame) error {
	if f.kind == h2Headers {
		c.path, c.auth = "", false
		if c.streams[f.stream] == nil {
			if len(c.streams) >= maxH2Streams {
				return io.ErrShortBuffer
			}
			c.streams[f.stream] = &originStream{window: c.initial}
		}
	}
	block, err := f.headerBlock()
	if err != nil {
		return err
	}
	if _, err := c.dec.Write(block); err != nil {
		return err
	}
	s := c.streams[f.stream]
	if s == nil {
		return io.ErrUnexpectedEOF
	}
	if f.kind == h2Headers && f.flags&h2FlagEndStream != 0 {
		s.streamed = -1 // answer when the header block is complete
	}
	if f.flags&h2FlagEndHeaders == 0 {
		return nil
	}
	if err := c.dec.Close(); err != nil {
		return err
	}
	if c.path != "" {
		s.path, s.auth = c.path, c.auth
	}
	if s.streamed == -1 {
		c.answer(f.stream, s)
	}
	return nil
}

// answer writes the response's head and queues its body.
func (c *originH2) answer(id uint32, s *originStream) {
	a := c.o.answer(originPath(s.path), s.auth)
	s.body, s.streamed, s.answered = a.body, a.streamed, true
	c.block.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":status", Value: strconv.Itoa(a.status)},
		{Name: "server", Value: "bench"},
		{Name: "date", Value: "Mon, 06 Jan 2025 10:00:00 GMT"},
		{Name: "content-type", Value: a.kind},
		{Name: "cache-control", Value: "no-store"},
		{Name: "content-length", Value: strconv.FormatInt(int64(len(a.body))+a.streamed, 10)},
	} {
		// The buffer of a bytes.Buffer takes every write.
		_ = c.enc.WriteField(f)
	}
	c.out = appendH2(c.out, h2Headers, h2FlagEndHeaders, id, c.block.Bytes())
	c.pending = append(c.pending, id)
}
