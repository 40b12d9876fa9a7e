package h2

import "github.com/holdfast-proxy/holdfast/wire"

// Sizes that the protocol fixes (RFC 9113 §4.2, §6.5.2, §6.9.1).
const (
	initialWindow = 1<<16 - 1
	maxWindow     = 1<<31 - 1
	frameSize     = 1 << 14 // what this side takes, and sends at most
	tableSize     = 4096    // of the dynamic tables, both ways
	maxStreamID   = 1<<31 - 1
)

// Preface is what a client sends first (RFC 9113 §3.4). Its first line looks
// like the head of an HTTP/1 request: PrefaceHead.
const (
	Preface     = PrefaceHead + "SM\r\n\r\n"
	PrefaceHead = "PRI * HTTP/2.0\r\n\r\n"
)

// Limits bound what a peer can cause. Zero is the default that stands beside
// each.
type Limits struct {
	// Streams are how many streams the peer may have open, and how many
	// handlers may run for it: 256.
	Streams int
	// Window is how many bytes of one body may wait here to be read: 256 KiB.
	Window int
	// ConnWindow is the same of all bodies of the connection: 4 MiB.
	ConnWindow int
	// Message bounds the decoded header list (as RFC 9113 §6.5.2 counts it)
	// and the number of fields, and the block before decoding.
	Message wire.Limits
	// Large are the slots for heads above wire.LargeHead, as they come or once
	// decoded; several connections may share them. One is held until Stream.Done.
	// Without a free one the head is not kept: see Stream.Crowded. Nil: no bound.
	Large wire.Slots
	// Continuations are the frames that follow one HEADERS frame: 32.
	Continuations int
	// Nuisances are frames that cost work and bring nothing, between two
	// looks; half of them are carried over: 2000.
	Nuisances int
	// Queue is how many bytes of bodies wait to be written until the senders
	// wait too: 64 KiB. Four times as much of anything ends the connection.
	Queue int
	// Interim are 1xx answers to one request: 64.
	Interim int

	// Looks are how many calls of Conn.Look a wait may last; 0 is no limit.
	Looks struct {
		Head   uint32 // for the rest of a head; client: for the answer's, once the request is sent
		Body   uint32 // for a piece of a body that somebody reads
		Window uint32 // for the peer to take a piece of a body
		Write  uint32 // for one write to end
		Tunnel uint32 // without a byte either way on a stream that is a tunnel
	}
}

func (l Limits) resolved() Limits {
	for _, n := range []struct {
		limit    *int
		standard int
	}{
		{&l.Streams, 256}, {&l.Window, 256 << 10}, {&l.ConnWindow, 4 << 20}, {&l.Continuations, 32},
		{&l.Nuisances, 2000}, {&l.Queue, 64 << 10}, {&l.Interim, 64},
		{&l.Message.Head, wire.DefaultHead}, {&l.Message.Fields, wire.DefaultFields},
	} {
		if *n.limit <= 0 {
			*n.limit = n.standard
		}
	}
	l.Window = min(max(l.Window, initialWindow), maxWindow)
	l.ConnWindow = min(max(l.ConnWindow, initialWindow), maxWindow)
	return l
}
