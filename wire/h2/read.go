package h2

import (
	"errors"
	"io"
	"slices"
	"sync"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/wire"
)

// source is what the framer reads from. It writes out what is queued before it
// waits for the peer, and holds no buffer while nothing is under way.
type source struct {
	c      *Conn
	r      io.Reader
	page   *page
	rd, wr int
	err    error // came with the last bytes
	large  bool  // the framer has grown a buffer
	// between: nothing of a frame or a header block has been read yet, and what
	// comes next may be long in coming.
	between bool
	failed  bool // r has returned an error
}

// A page holds a full frame with its header, or what a TLS record carries.
type page [frameSize + 512]byte

// pages lets buffers outlive connections. It is a cache: nothing can be
// observed through it.
var pages = sync.Pool{New: func() any { return new(page) }}

func (s *source) Read(p []byte) (int, error) {
	if s.rd == s.wr {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.page[s.rd:s.wr])
	s.rd += n
	return n, nil
}

func (s *source) fill() error {
	if err := s.err; err != nil {
		s.err, s.failed = nil, true
		return err
	}
	s.c.mu.Lock()
	s.c.flush()
	parked := s.between && len(s.c.streams) == 0
	s.c.mu.Unlock()
	if s.page != nil && parked {
		s.release()
	}
	s.rd, s.wr = 0, 0
	var first [1]byte
	into := first[:]
	if s.page != nil {
		into = s.page[:]
	} else if !parked {
		s.page = pages.Get().(*page)
		into = s.page[:]
	}
	var n int
	for tries := 0; n == 0; tries++ {
		if n, s.err = s.r.Read(into); n == 0 && s.err != nil {
			err := s.err
			s.err, s.failed = nil, true
			return err
		}
		if tries > 100 {
			return io.ErrNoProgress
		}
	}
	if s.page == nil {
		s.page = pages.Get().(*page)
		s.page[0] = first[0]
	}
	s.wr, s.between = n, false
	return nil
}

func (s *source) release() {
	if s.page != nil {
		pages.Put(s.page)
	}
	s.page, s.rd, s.wr = nil, 0, 0
	if s.large {
		s.large = false
		s.c.newFramer() // its buffer goes with it
	}
}

// frame reads one frame and does what it says.
func (c *Conn) frame() error {
	c.source.between = !c.block.open
	fh, err := c.framer.ReadFrameHeader()
	if err != nil {
		return c.frameError(fh, err)
	}
	if fh.Length > 1024 {
		c.source.large = true
	}
	if fh.Type == http2.FrameHeaders {
		c.heads++
		c.head.Store(c.heads)
	}
	f, err := c.framer.ReadFrameForHeader(fh)
	if err != nil {
		return c.frameError(fh, err)
	}
	if open := c.block.open; open && (fh.Type != http2.FrameContinuation || fh.StreamID != c.block.id) {
		return connErr(ProtocolError, "%v inside a header block", fh.Type) // RFC 9113 §4.3
	}
	if !c.greeted && (fh.Type != http2.FrameSettings || fh.Flags.Has(http2.FlagSettingsAck)) {
		return connErr(ProtocolError, "the first frame is %v, not SETTINGS", fh.Type) // §3.4
	}
	greeted := c.greeted
	err = c.dispatch(fh, f)
	if !greeted && c.greeted && c.cfg.Greeted != nil {
		c.cfg.Greeted()
	}
	if !c.block.open && (fh.Type == http2.FrameHeaders || fh.Type == http2.FrameContinuation) {
		c.head.Store(0)
	}
	if fh.Type == http2.FrameSettings {
		c.freed() // perhaps more streams are allowed now
	}
	if c.said != nil {
		if c.cfg.Refused != nil {
			c.cfg.Refused(c.said)
		}
		c.said = nil
	}
	return err
}

func (c *Conn) dispatch(fh http2.FrameHeader, f http2.Frame) error {
	c.heard.Store(true)
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.HeadersFrame:
		return c.onHeaders(f)
	case *http2.ContinuationFrame:
		return c.onContinuation(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.GoAwayFrame:
		return c.onGoAway(f)
	case *http2.PriorityFrame:
		return c.onPriority(fh.StreamID, f.StreamDep)
	case *http2.PushPromiseFrame:
		return connErr(ProtocolError, "PUSH_PROMISE, which nobody allowed") // §8.4
	}
	return c.nuisance() // §5.5: unknown types are ignored
}

// frameError is what a frame that cannot be read means.
func (c *Conn) frameError(fh http2.FrameHeader, err error) error {
	var conn http2.ConnectionError
	var stream http2.StreamError
	switch {
	case errors.As(err, &conn):
		return connErr(Code(conn), "%v is malformed", fh.Type)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return connErr(FrameSize, "a frame of %d bytes", fh.Length)
	case errors.As(err, &stream) && fh.Type == http2.FrameWindowUpdate:
		return c.onBadIncrement(fh.StreamID)
	case errors.As(err, &stream):
		return connErr(Code(stream.Code), "%v is malformed", fh.Type)
	case err == io.ErrUnexpectedEOF && !c.source.failed:
		// The framer's word for a payload without its mandatory fields; and
		// io.ReadFull's for a connection that ended.
		return connErr(FrameSize, "%v is too short", fh.Type)
	}
	return err
}

// nuisance counts a frame that brought nothing.
func (c *Conn) nuisance() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nuisanceLocked()
}

func (c *Conn) nuisanceLocked() error {
	if c.nuisances++; c.nuisances > c.limits.Nuisances {
		return connErr(EnhanceYourCalm, "too many frames without use")
	}
	return c.full()
}

// full is about a peer that makes us answer and does not read. c.mu is held.
func (c *Conn) full() error {
	if len(c.out) > 4*c.limits.Queue+8*frameSize {
		return connErr(EnhanceYourCalm, "the peer does not read what it asks for")
	}
	return nil
}

// idle tells whether a stream was never opened. c.mu is held.
func (c *Conn) idle(id uint32) bool {
	if c.cfg.Client {
		return id%2 == 0 || id >= c.next
	}
	return id%2 == 0 || id > c.last
}

// wasReset tells whether this side reset the stream a short while ago.
func (c *Conn) wasReset(id uint32) bool {
	for i := range min(c.resets, resetRing) {
		if c.reset[i] == id {
			return true
		}
	}
	return false
}

func (c *Conn) onData(f *http2.DataFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, size := f.StreamID, int64(f.Length)
	if c.recvWindow -= size; c.recvWindow < 0 {
		return connErr(FlowControl, "more DATA than the connection's window holds")
	}
	s := c.streams[id]
	if s == nil {
		c.grant(nil, int(size))
		switch {
		case c.idle(id):
			return connErr(ProtocolError, "DATA on idle stream %d", id)
		case c.wasReset(id):
			return c.nuisanceLocked()
		case slices.Contains(c.whole[:], id):
			// RFC 9113 §5.1 leaves the choice, RFC 7540 did not. An origin that does
			// not know where an answer ends is not asked for another one.
			return connErr(StreamClosed, "DATA behind the end of stream %d", id)
		}
		return c.refuse(id, StreamClosed, "DATA on a closed stream")
	}
	if s.recvEnd {
		c.grant(nil, int(size))
		return c.spoil(s, StreamClosed, "DATA behind END_STREAM")
	}
	if s.recvWindow -= size; s.recvWindow < 0 {
		c.grant(nil, int(size))
		return c.spoil(s, FlowControl, "more DATA than the stream's window holds")
	}
	data := f.Data()
	if !s.headSeen {
		c.grant(nil, int(size))
		return c.spoil(s, ProtocolError, "DATA before the head")
	}
	s.got += int64(len(data))
	if len(data) > 0 {
		s.quiet = 0
	}
	end := f.StreamEnded()
	if c.cfg.Policy == wire.Strict && s.declared >= 0 && (s.got > s.declared || end && s.got != s.declared) {
		c.grant(nil, int(size))
		return c.spoil(s, ProtocolError, "the body contradicts its Content-Length") // §8.1.1
	}
	if pad := int(size) - len(data); pad > 0 {
		c.grant(s, pad)
	}
	if len(data) == 0 && !end {
		return c.nuisanceLocked()
	}
	s.take(data)
	if end {
		s.receivedEnd()
	}
	s.wake()
	return nil
}

func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.IsAck() {
		return c.nuisanceLocked()
	}
	if f.NumSettings() > 100 {
		return connErr(EnhanceYourCalm, "SETTINGS with %d values", f.NumSettings())
	}
	first := !c.greeted
	c.greeted = true
	for i := range f.NumSettings() {
		if err := c.setting(f.Setting(i)); err != nil {
			return err
		}
	}
	c.writer.WriteSettingsAck()
	c.wakeBlocked()
	if first {
		c.settings.Broadcast()
		return nil
	}
	return c.nuisanceLocked()
}

// setting is RFC 9113 §6.5.2.
func (c *Conn) setting(s http2.Setting) error {
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.encoder.setLimit(min(s.Val, tableSize))
	case http2.SettingEnablePush:
		if s.Val > 1 || s.Val == 1 && c.cfg.Client {
			return connErr(ProtocolError, "SETTINGS_ENABLE_PUSH %d", s.Val)
		}
	case http2.SettingEnableConnectProtocol: // RFC 8441 §3: once given, it is not taken back
		if s.Val > 1 || s.Val == 0 && c.peer.connect {
			return connErr(ProtocolError, "SETTINGS_ENABLE_CONNECT_PROTOCOL %d", s.Val)
		}
		c.peer.connect = s.Val == 1
	case http2.SettingMaxConcurrentStreams:
		c.peer.streams = s.Val
	case http2.SettingInitialWindowSize:
		if s.Val > maxWindow {
			return connErr(FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE %d", s.Val)
		}
		delta := int64(s.Val) - c.peer.window
		c.peer.window = int64(s.Val)
		for _, st := range c.streams { // §6.9.2
			if st.sendWindow += delta; st.sendWindow > maxWindow {
				return connErr(FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large")
			}
		}
	case http2.SettingMaxFrameSize:
		if s.Val < frameSize || s.Val > 1<<24-1 {
			return connErr(ProtocolError, "SETTINGS_MAX_FRAME_SIZE %d", s.Val)
		}
	}
	return nil
}

func (c *Conn) onPing(f *http2.PingFrame) error {
	c.mu.Lock()
	over := false
	err := func() error {
		if !f.IsAck() {
			c.writer.WritePing(true, f.Data)
			return c.nuisanceLocked()
		}
		if f.Data == shutdownPing() && c.shutdown == announced {
			c.shutdown = leaving
			c.writer.WriteGoAway(c.last, http2.ErrCodeNo, nil)
			over = c.isOver()
		}
		return nil
	}()
	if over {
		c.flush()
	}
	c.mu.Unlock()
	if over {
		c.cfg.Over()
	}
	return err
}

func (c *Conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := int64(f.Increment)
	if f.StreamID == 0 {
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return connErr(FlowControl, "WINDOW_UPDATE makes the connection's window too large")
		}
		c.wakeBlocked()
	} else if s := c.streams[f.StreamID]; s != nil {
		if s.sendWindow += n; s.sendWindow > maxWindow {
			return c.spoil(s, FlowControl, "WINDOW_UPDATE makes the window too large")
		}
		if s.sender.waits != waitNothing {
			s.wake()
		}
	} else if c.idle(f.StreamID) {
		return connErr(ProtocolError, "WINDOW_UPDATE on idle stream %d", f.StreamID)
	}
	if n < 128 {
		return c.nuisanceLocked()
	}
	return nil
}

// onBadIncrement is a WINDOW_UPDATE of nothing (RFC 9113 §6.9).
func (c *Conn) onBadIncrement(id uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		return c.spoil(s, ProtocolError, "WINDOW_UPDATE by nothing")
	}
	return connErr(ProtocolError, "WINDOW_UPDATE by nothing on stream %d", id)
}

func (c *Conn) onReset(f *http2.RSTStreamFrame) error {
	c.mu.Lock()
	id, code := f.StreamID, Code(f.ErrCode)
	s := c.streams[id]
	if s == nil {
		defer c.mu.Unlock()
		if c.idle(id) {
			return connErr(ProtocolError, "RST_STREAM on idle stream %d", id)
		}
		return c.nuisanceLocked()
	}
	s.fail(&StreamError{Stream: id, Code: code, Remote: true, Unprocessed: c.cfg.Client && code == RefusedStream})
	err := c.nuisanceLocked()
	c.mu.Unlock()
	return err
}

func (c *Conn) onGoAway(f *http2.GoAwayFrame) error {
	c.mu.Lock()
	again := c.goaway != nil
	c.goaway = &ConnError{Code: Code(f.ErrCode), Reason: printable(f.DebugData()), Remote: true}
	if c.cfg.Client {
		c.last = f.LastStreamID
		for id, s := range c.streams {
			if id > f.LastStreamID { // §6.8: these were not and will not be processed
				s.fail(&StreamError{Stream: id, Code: RefusedStream, Remote: true, Unprocessed: true})
			}
		}
	}
	var err error
	if again {
		err = c.nuisanceLocked()
	}
	over := c.isOver()
	c.mu.Unlock()
	c.freed()
	if over {
		c.cfg.Over()
	}
	return err
}

// printable is the beginning of a peer's text without control characters.
func printable(b []byte) string {
	b = b[:min(len(b), 128)]
	out := make([]byte, 0, len(b))
	for _, ch := range b {
		if ch >= ' ' && ch < 0x7f {
			out = append(out, ch)
		}
	}
	return string(out)
}

// onPriority tolerates what RFC 9113 §5.3 made meaningless, but for what RFC
// 7540 called an error and suites still ask for: a stream that depends on
// itself.
func (c *Conn) onPriority(id, on uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == on {
		if s := c.streams[id]; s != nil {
			return c.spoil(s, ProtocolError, "the stream depends on itself")
		}
		return connErr(ProtocolError, "stream %d depends on itself", id)
	}
	return c.nuisanceLocked()
}

// spoil resets a stream for what the peer did on it. c.mu is held.
func (c *Conn) spoil(s *Stream, code Code, reason string) error {
	why := &StreamError{Stream: s.id, Code: code, Reason: reason}
	c.said = why
	c.resetStream(s, code, why)
	return c.nuisanceLocked()
}

// refuse resets a stream that is none. c.mu is held.
func (c *Conn) refuse(id uint32, code Code, reason string) error {
	c.writer.WriteRSTStream(id, http2.ErrCode(code))
	c.remember(id)
	c.said = &StreamError{Stream: id, Code: code, Reason: reason}
	return c.nuisanceLocked()
}

func (c *Conn) remember(id uint32) {
	c.reset[c.resets%resetRing] = id
	c.resets++
}
