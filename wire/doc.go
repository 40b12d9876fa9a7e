// Package wire reads and edits HTTP messages whose model is the bytes with a
// parsed view.
//
// A [Head] holds the start line and the fields as they were received, and
// spans into them. [Head.Bytes] gives back what came in, byte for byte: order,
// case, spacing, duplicates, bare line feeds and folded lines. An edit
// ([Head.Set], [Request.SetTarget] …) replaces one span and leaves every other
// byte alone. Bodies pass as pieces of the connection's own bytes, chunk heads,
// extensions and trailers included; [Payload] and [DecodeChunked] are views for
// those who want to look inside.
//
// The same Head serves HTTP/2, where the field list with its pseudo-headers,
// their order and the never-index flags are the truth and Bytes is only a
// rendering for people. An HTTP/2 codec fills it by [Head.Reset] and
// [Head.AppendField].
//
// # Framing
//
// Where a body ends is decided by RFC 9112 §6.3 under a [Policy]. Strict, the
// zero value, refuses requests that two recipients could read differently in
// ways that matter (two lengths, length and chunks, a space before a colon);
// what it forwards in spite of an oddity it marks Ambiguous, which tells the
// owner of a connection never to reuse it. Every oddity is a bit in [Notes].
//
// # Reading
//
// A [Reader] reads one direction of one connection. On its steady path it
// allocates nothing: heads go into a Request or Response that the caller
// reuses, body pieces are slices of the pooled buffer. [Reader.Idle] gives the
// buffer back while nothing is expected.
//
// # What it will not do
//
// It opens no connection, starts no goroutine, reads no clock and never
// repairs a message. It does not check that field values, methods or targets
// are valid: a tester sends invalid ones on purpose. It has no header map.
//
// None of its types may be used by two goroutines at once, except that any
// number may read a Head which nobody edits.
package wire
