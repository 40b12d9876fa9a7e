// Package h2 is HTTP/2 (RFC 9113) on messages of package wire: frames come from
// golang.org/x/net/http2's Framer, header compression from its hpack, and
// everything between the two and a [wire.Request] is here.
//
// A [Conn] is one connection, of either side. It opens no socket and starts no
// goroutine: it reads from an io.Reader within [Conn.Run], which its owner
// calls in a goroutine of his own, and writes to an io.Writer from whichever
// goroutine has something to send. What several streams have to send at the
// same time leaves in one write, made by the first of them.
//
// A [Stream] is one request with its answer. Heads keep the order, the case and
// the never-index flags of their fields, pseudo-headers among them wherever
// they stood; split cookies stay split. A [Body] is a [wire.Body] whose framing
// is [wire.Stream]; trailers are in [wire.Framing.Trailers] once Next returned
// io.EOF. A stream on which CONNECT succeeded is a [Tunnel], with or without
// :protocol (RFC 8441).
//
// # Errors
//
// What RFC 9113 calls a connection error ends the connection with GOAWAY and
// is returned by Run as *[ConnError]; what it calls a stream error ends that
// stream with RST_STREAM and is returned by its methods as *[StreamError],
// which also tells whether the peer certainly has not processed the request
// (§8.7).
//
// Under [wire.Strict] malformed messages (§8.1.1) are stream errors: upper case
// or invalid bytes in names, line ends in values, connection-specific fields,
// unknown, repeated, missing or misplaced pseudo-headers, a body that
// contradicts its Content-Length. Under the other policies such messages pass.
// White space around a value passes under each: nobody frames by it.
//
// # Limits
//
// [Limits] bounds what a peer can make this side keep or do. Whatever costs
// work and brings nothing (PING, SETTINGS, PRIORITY, RST_STREAM of a request
// under way, empty DATA, tiny window updates, frames of unknown type, stream
// errors provoked) counts, and half of the count is forgiven with each
// [Conn.Look]; too many are ENHANCE_YOUR_CALM. Header blocks are bounded in
// size before and after decompression and in the number of their frames. A
// handler counts as a stream until its end, though the stream was reset long
// ago, so resetting streams quickly gains nothing.
//
// There is no clock here: waits are counted in calls of Look, which the owner
// makes at a steady pace.
//
// # What it will not do
//
// No priorities (§5.3 is obsolete) and no server push, which is refused. It
// repairs no message.
package h2
