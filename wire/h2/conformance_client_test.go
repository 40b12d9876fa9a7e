package h2_test

import (
	"strings"

	"golang.org/x/net/http2"
)

// originCases are frames that mean something else, or happen in another state,
// when it is an origin that sends them, behind the whole request on stream 1.
func originCases() []conform {
	ok := func(p *peer, end bool) { p.head(1, end, ":status= 200") }
	block := func(p *peer) string { return string(p.block(":status= 200", "x= y")) }
	cont := func(p *peer, id uint32) { p.frame(http2.FrameContinuation, 4, id, string(p.block("x= y"))) }
	return []conform{
		{"4.2", "DATA of the largest allowed size", "ping", func(p *peer) {
			ok(p, false)
			p.fr.WriteData(1, true, make([]byte, 1<<14))
			p.ping()
		}},
		{"4.2", "DATA beyond the allowed size", "connection FRAME_SIZE_ERROR", func(p *peer) {
			ok(p, false)
			p.fr.WriteData(1, true, make([]byte, 1<<14+1))
		}},
		{"5.1", "idle: DATA", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteData(3, true, []byte("x")) }},
		{"5.1", "idle: RST_STREAM", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteRSTStream(3, 8) }},
		{"5.1", "idle: WINDOW_UPDATE", "connection PROTOCOL_ERROR", func(p *peer) { p.fr.WriteWindowUpdate(3, 100) }},
		{"5.1", "idle: CONTINUATION", "connection PROTOCOL_ERROR", func(p *peer) { cont(p, 3) }},
		{"5.1", "closed by RST_STREAM: DATA", "stream STREAM_CLOSED", func(p *peer) {
			ok(p, false)
			p.fr.WriteRSTStream(1, 8)
			p.fr.WriteData(1, true, []byte("x"))
		}},
		{"5.1", "closed by RST_STREAM: HEADERS", "connection STREAM_CLOSED", func(p *peer) {
			ok(p, false)
			p.fr.WriteRSTStream(1, 8)
			p.head(1, true, "x= y")
		}},
		{"5.1", "closed by RST_STREAM: CONTINUATION", "connection PROTOCOL_ERROR", func(p *peer) {
			ok(p, false)
			p.fr.WriteRSTStream(1, 8)
			cont(p, 1)
		}},
		{"5.1", "closed: DATA", "connection STREAM_CLOSED", func(p *peer) { ok(p, true); p.fr.WriteData(1, true, []byte("x")) }},
		{"5.1", "closed: HEADERS", "connection STREAM_CLOSED", func(p *peer) { ok(p, true); p.head(1, true, "x= y") }},
		{"5.1", "closed: CONTINUATION", "connection PROTOCOL_ERROR", func(p *peer) { ok(p, true); cont(p, 1) }},
		{"5.1", "closed: WINDOW_UPDATE is late, not wrong", "ping", func(p *peer) { ok(p, true); p.fr.WriteWindowUpdate(1, 200); p.ping() }},
		{"6.1", "DATA on stream 0", "connection PROTOCOL_ERROR", func(p *peer) { ok(p, false); p.fr.WriteData(0, true, []byte("x")) }},
		{"6.1", "DATA with more padding than payload", "connection PROTOCOL_ERROR", func(p *peer) { ok(p, false); p.frame(http2.FrameData, 9, 1, "\x09abc") }},
		{"6.2", "HEADERS on stream 0", "connection PROTOCOL_ERROR", func(p *peer) { p.head(0, true, ":status= 200") }},
		{"6.2", "HEADERS with more padding than payload", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameHeaders, 0xd, 1, "\x09\x88") }},
		{"6.4", "RST_STREAM of three bytes", "connection FRAME_SIZE_ERROR", func(p *peer) { p.frame(http2.FrameRSTStream, 0, 1, "\x00\x00\x00") }},
		{"6.9", "WINDOW_UPDATE by nothing on a stream", "stream PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00") }},
		{"6.9.1", "the connection's window beyond 2^31-1", "connection FLOW_CONTROL_ERROR", func(p *peer) {
			p.fr.WriteWindowUpdate(0, 1<<31-1)
			p.fr.WriteWindowUpdate(0, 1<<31-1)
		}},
		{"6.9.1", "a stream's window beyond 2^31-1", "stream FLOW_CONTROL_ERROR", func(p *peer) {
			p.fr.WriteWindowUpdate(1, 1<<31-1)
			p.fr.WriteWindowUpdate(1, 1<<31-1)
		}},
		{"6.10", "several CONTINUATION frames", "ping", func(p *peer) {
			b := block(p)
			p.frame(http2.FrameHeaders, 1, 1, b[:1])
			p.frame(http2.FrameContinuation, 0, 1, b[1:2])
			p.frame(http2.FrameContinuation, 4, 1, b[2:])
			p.ping()
		}},
		{"6.10", "another frame inside a block", "connection PROTOCOL_ERROR", func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, block(p))
			p.fr.WriteData(1, true, []byte("x"))
		}},
		{"6.10", "CONTINUATION on stream 0", "connection PROTOCOL_ERROR", func(p *peer) { p.frame(http2.FrameHeaders, 0, 1, block(p)); cont(p, 0) }},
		{"6.10", "CONTINUATION behind END_HEADERS", "connection PROTOCOL_ERROR", func(p *peer) { ok(p, false); cont(p, 1) }},
		{"6.10", "CONTINUATION behind one with END_HEADERS", "connection PROTOCOL_ERROR", func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, block(p))
			cont(p, 1)
			cont(p, 1)
		}},
		{"6.10", "CONTINUATION behind DATA", "connection PROTOCOL_ERROR", func(p *peer) {
			ok(p, false)
			p.fr.WriteData(1, false, []byte("x"))
			cont(p, 1)
		}},
		{"6.10", "a block that never ends", "connection ENHANCE_YOUR_CALM", func(p *peer) {
			p.frame(http2.FrameHeaders, 0, 1, block(p))
			for range 40 {
				p.frame(http2.FrameContinuation, 0, 1, strings.Repeat("\x88", 10))
			}
		}},
	}
}
