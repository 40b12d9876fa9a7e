package h2

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/wire"
)

// Config says what a connection does. Accept is needed on a server's side.
type Config struct {
	// Client: this side opens the streams.
	Client bool
	// Begun: the caller has read PrefaceHead already.
	Begun  bool
	Limits Limits
	// Policy says what to do with malformed messages; see the package's doc.
	Policy wire.Policy
	// Connect offers extended CONNECT (RFC 8441 §3) on a server's side; without
	// it :protocol is malformed.
	Connect bool
	// Accept gets a stream whose request's head is complete. Run calls it; it
	// must not wait. Stream.Done must be called for each.
	Accept func(*Stream)
	// Greeted is called when the peer's first SETTINGS have come. Run calls it.
	// Nil: nobody waits for them that way.
	Greeted func()
	// Refused hears of messages that were refused. Run calls it. Nil drops them.
	Refused func(error)
	// Freed is called after a stream ended, or when the connection takes no
	// more of them: somebody may be waiting for room. Any goroutine calls it.
	// Nil: nobody is.
	Freed func()
	// Over is called when, after Shutdown or GOAWAY of the peer, the last
	// stream ended: nothing will come any more. Any goroutine calls it.
	Over func()
}

// A Conn is one connection. Run belongs to one goroutine; any may call the
// other methods.
type Conn struct {
	cfg    Config
	limits Limits
	w      io.Writer

	heard atomic.Bool   // a frame came since the last Alive
	head  atomic.Uint64 // the number of the head that is arriving, 0: none is

	// Of Run's goroutine:
	source  source
	framer  *http2.Framer // reads
	decoder *hpack.Decoder
	block   block
	scratch wire.Head // the head that is being decoded
	said    error     // for Config.Refused, once c.mu is free
	heads   uint64    // that began so far

	mu       sync.Mutex // guards what follows
	settings sync.Cond  // waits for the first SETTINGS
	streams  map[uint32]*Stream
	busy     int    // handlers that have not called Done
	last     uint32 // the highest stream that the peer opened
	next     uint32 // client: the stream to be opened next
	reset    [resetRing]uint32
	resets   int // streams put into reset so far
	whole    [wholeRing]uint32
	wholes   int // streams put into whole so far
	blocked  int // streams that wait for a window or for room in out

	out      []byte // waits to be written
	spare    []byte
	writer   *http2.Framer // appends to out
	encoder  encoder
	flushing bool
	flushed  sync.Cond // waits for the end of flushing
	parting  bool      // the last words are being written
	writing  uint32    // looks that saw the same write
	headed   uint64    // the head that the last look saw
	heading  uint32    // looks that saw the same head
	werr     error

	sendWindow int64
	recvWindow int64
	credit     int // taken from recvWindow and not granted again
	peer       peerSettings
	nuisances  int
	shutdown   shutdown
	goaway     *ConnError // of the peer
	ended      error      // the connection is over
	greeted    bool       // the peer's first SETTINGS have come
	pings      int        // liveness pings under way
	over       bool       // cfg.Over was called
}

// How many streams that this side has reset are remembered: frames of theirs
// may be on their way (RFC 9113 §5.1).
const resetRing = 512

// wholeRing is how many streams a client remembers that both sides have ended by
// END_STREAM.
const wholeRing = 16

// partingLooks is for how many looks a connection that ends for the peer's fault
// tries to say so, and one that cannot be written to waits for what is left to
// be read.
const partingLooks = 4

type peerSettings struct {
	window  int64 // initial, of a stream
	frame   int
	streams uint32 // that we may open
	connect bool   // it takes extended CONNECT
}

// shutdown is how far a graceful end has come (RFC 9113 §6.8).
type shutdown uint8

const (
	staying   shutdown = iota
	announced          // GOAWAY without a last stream, and a PING that brings the certainty
	leaving            // GOAWAY with the last stream
)

// New makes a connection on r and w. It writes nothing before Start.
func New(r io.Reader, w io.Writer, cfg Config) *Conn {
	c := &Conn{cfg: cfg, limits: cfg.Limits.resolved(), w: w, streams: map[uint32]*Stream{}, next: 1,
		sendWindow: initialWindow, peer: peerSettings{window: initialWindow, frame: frameSize, streams: 100}}
	c.settings.L, c.flushed.L = &c.mu, &c.mu
	c.recvWindow = int64(c.limits.ConnWindow)
	c.source = source{c: c, r: r, between: true}
	c.newFramer()
	c.writer = http2.NewFramer((*sink)(c), nil)
	c.writer.AllowIllegalWrites = true
	c.decoder = hpack.NewDecoder(tableSize, c.decoded)
	c.decoder.SetMaxStringLength(c.limits.Message.Head)
	c.encoder.init()
	return c
}

func (c *Conn) newFramer() {
	c.framer = http2.NewFramer(nil, &c.source)
	c.framer.AllowIllegalReads = true
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(frameSize)
}

// sink is where the framer writes to: the queue.
type sink Conn

func (s *sink) Write(p []byte) (int, error) {
	s.out = append(s.out, p...)
	return len(p), nil
}

// Start queues the preface and writes it, unless more follows soon: hold says
// that the caller opens a stream at once.
func (c *Conn) Start(hold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: uint32(c.limits.Window)},
		{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.limits.Message.Head)}}
	if c.cfg.Client {
		c.out = append(c.out, Preface...)
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.limits.Streams)})
		if c.cfg.Connect {
			settings = append(settings, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		}
	}
	c.writer.WriteSettings(settings...)
	if more := c.limits.ConnWindow - initialWindow; more > 0 {
		c.writer.WriteWindowUpdate(0, uint32(more))
	}
	if !hold {
		c.flush()
	}
}

// Run reads the connection to its end. It returns nil when the peer closed it
// with nothing under way, *ConnError, or the error of the reader. All streams
// have ended when it returns. The caller closes the socket.
func (c *Conn) Run() error {
	err := c.preface()
	for err == nil {
		err = c.frame()
	}
	c.source.release()
	c.giveSlot()
	c.head.Store(0)
	c.mu.Lock()
	idle := len(c.streams) == 0
	var own *ConnError
	if errors.As(err, &own) && !own.Remote {
		c.writer.WriteGoAway(c.last, http2.ErrCode(own.Code), []byte(own.Reason))
		c.parting = true
		c.flush()
		for c.flushing { // by somebody else, and the caller closes the socket next
			c.flushed.Wait()
		}
	}
	c.end(err)
	c.mu.Unlock()
	c.freed()
	if err == io.EOF && idle {
		return nil
	}
	return err
}

func (c *Conn) preface() error {
	if c.cfg.Client {
		return nil
	}
	want := Preface
	if c.cfg.Begun {
		want = Preface[len(PrefaceHead):]
	}
	var got [len(Preface)]byte
	for n := range len(want) {
		if _, err := io.ReadFull(&c.source, got[n:n+1]); err != nil {
			return err
		}
		if got[n] != want[n] {
			return connErr(ProtocolError, "what came is not the preface of HTTP/2")
		}
	}
	return nil
}

// end fails every stream. c.mu is held.
func (c *Conn) end(err error) {
	if c.ended == nil {
		c.ended = err
	}
	for id, s := range c.streams {
		lost := &LostError{Cause: err}
		if c.goaway != nil && c.cfg.Client {
			lost.Cause = c.goaway
			lost.Unprocessed = id > c.last
		}
		s.fail(lost)
	}
	c.wakeBlocked()
	c.settings.Broadcast()
}

// Abort ends every stream, and every wait for one, with the reason. The caller
// closes the socket, which ends Run.
func (c *Conn) Abort(why error) {
	c.mu.Lock()
	c.end(why)
	c.mu.Unlock()
	c.freed()
}

// Shutdown has the peer open no more streams, and lets those under way end;
// then Config.Over is called.
func (c *Conn) Shutdown() {
	c.mu.Lock()
	if c.shutdown == staying {
		if c.cfg.Client {
			c.shutdown = leaving
			c.writer.WriteGoAway(0, http2.ErrCodeNo, nil)
		} else {
			// RFC 9113 §6.8: first without a number, since streams may be on
			// their way; the answer to the PING comes behind them.
			c.shutdown = announced
			c.writer.WriteGoAway(maxStreamID, http2.ErrCodeNo, nil)
			c.writer.WritePing(false, shutdownPing())
		}
		c.flush()
	}
	over := c.isOver()
	c.mu.Unlock()
	if over {
		c.cfg.Over()
	}
}

// Recognizable in a transcript.
func shutdownPing() [8]byte { return [8]byte{'g', 'o', 'i', 'n', 'g'} }
func livePing() [8]byte     { return [8]byte{'a', 'l', 'i', 'v', 'e'} }

// isOver tells, once, that nothing will come any more. c.mu is held.
func (c *Conn) isOver() bool {
	if c.over || c.cfg.Over == nil || len(c.streams) > 0 || c.busy > 0 || c.shutdown != leaving && c.goaway == nil {
		return false
	}
	c.over = true
	return true
}

// Room is how many further streams a client may open now, and whether there
// will ever be room again.
func (c *Conn) Room() (n int, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open() {
		return 0, false
	}
	// A connection whose window is taken up by bodies that nobody reads
	// would let further ones wait.
	if c.recvWindow < int64(c.limits.Window) {
		return 0, true
	}
	return int(min(c.peer.streams, 1<<20)) - len(c.streams), true
}

// open tells whether this side may ever open another stream. c.mu is held.
func (c *Conn) open() bool {
	return c.ended == nil && c.werr == nil && c.goaway == nil && c.shutdown == staying && c.next <= maxStreamID-2
}

// Greeted waits for the peer's SETTINGS, and returns why they do not come when
// the connection ends before.
func (c *Conn) Greeted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.greeted && c.ended == nil {
		c.settings.Wait()
	}
	if c.greeted {
		return nil
	}
	return c.ended
}

// TakesConnect tells whether the peer has said that it takes extended CONNECT
// (RFC 8441 §3). Before Greeted it has not.
func (c *Conn) TakesConnect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer.connect
}

// Active is how many streams are open.
func (c *Conn) Active() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// freed tells whoever waits for room. c.mu is not held.
func (c *Conn) freed() {
	if c.cfg.Freed != nil {
		c.cfg.Freed()
	}
}

// Look counts waits and forgives nuisances. It ends streams that wait longer
// than Limits.Looks. An error says that the caller must close the socket:
// ErrStuck when a write lasts too long, ErrSlowHead when a head does, or why a
// write failed when the end of what the peer sent does not follow.
func (c *Conn) Look() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nuisances /= 2
	l := &c.limits.Looks
	if head := c.head.Load(); head == 0 || head != c.headed {
		c.headed, c.heading = head, 0
	} else if c.heading++; l.Head > 0 && c.heading > l.Head {
		c.end(ErrSlowHead)
		return ErrSlowHead
	}
	if c.flushing {
		limit := l.Write
		if c.parting {
			limit = partingLooks
		}
		if c.writing++; limit > 0 && c.writing > limit {
			c.end(ErrStuck)
			return ErrStuck
		}
	} else if c.werr != nil {
		if c.writing++; c.writing > partingLooks {
			c.end(c.werr)
			return c.werr
		}
	} else if len(c.streams) == 0 && len(c.out) == 0 {
		c.out, c.spare = nil, nil // an idle connection holds no buffer
	}
	for _, s := range c.streams {
		if s.tunnel {
			if s.quiet++; l.Tunnel > 0 && s.quiet > l.Tunnel {
				c.resetStream(s, Cancel, ErrSilent)
			}
			continue
		}
		limit := l.Body
		if s.receiver.waits == waitHead {
			limit = l.Head
		}
		if s.receiver.exceeds(limit) {
			c.resetStream(s, Cancel, ErrSilent)
		} else if s.sender.exceeds(l.Window) {
			c.resetStream(s, Cancel, ErrWindow)
		}
	}
	// What is queued now leaves when the woken handlers are done: a look must
	// not wait for the peer.
	return nil
}

// Alive asks the peer for a sign of life when nothing was heard since the last
// call, and reports false when as many of them as allowed stayed unanswered.
func (c *Conn) Alive(unanswered int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard.Swap(false) {
		c.pings = 0
		return true
	}
	if c.pings >= unanswered {
		return false
	}
	c.pings++
	c.writer.WritePing(false, livePing())
	c.flush()
	return true
}
