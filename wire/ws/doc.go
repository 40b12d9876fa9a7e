// Package ws reads WebSocket (RFC 6455) as it passes: it finds the frames in a
// stream of bytes and makes messages of a copy, so that a relay can forward
// what it received, byte for byte, and still know what was said.
//
// Three layers, each usable alone:
//
//   - [ParseHeader] and [AppendHeader] are the frame's head as it stands on the
//     wire, an odd one included: what is parsed can be written back identically.
//   - [Scanner] cuts a stream into pieces of frames. Its pieces are slices of
//     what it was given, and put together again they are the stream.
//   - [Decoder] unmasks, puts fragments together, inflates permessage-deflate
//     (RFC 7692) and reads close frames, all of it on copies and within
//     [Limits].
//
// [Upgraded] tells from the two heads of a handshake whether what follows is
// WebSocket, and with which extension.
//
// # What is odd, and what is broken
//
// A tester breaks the protocol on purpose, and an origin may tolerate it. So a
// violation is a bit in [Notes] and decoding goes on, as long as it is clear
// where the next frame begins: reserved bits and opcodes, frames that are masked
// or not against the rules, fragments of control frames, text that is no UTF-8,
// close codes that nobody may send. Decoding ends, with [Decoder.Err], at a
// length that cannot be, and where violations become so many that the stream is
// probably no WebSocket.
//
// # What it will not do
//
// It never answers a ping, never closes, never masks for an endpoint, and never
// changes a byte: it is no endpoint. It opens no connection, starts no goroutine
// and reads no clock. Other extensions than permessage-deflate are not known.
//
// None of its types may be used by two goroutines at once.
package ws
