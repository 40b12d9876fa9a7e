// Package upstream carries flows to their origins and brings the answers back.
//
// [Pool.Send] is a flow.Handler. It takes a connection to the flow's origin,
// writes the exact bytes of f.Request and of f.RequestBody, reads the head of
// the answer into f.Response and leaves the answer's body as a stream in
// f.ResponseBody. It repairs nothing and adds nothing: what the origin reads is
// what f.Request holds.
//
// # Connections
//
// Connections are kept and used again, the one used last first, for flows to
// the same origin. One goes back when the answer has been read to its end,
// both sides allow it, the request was written whole, neither message was
// framed ambiguously, and no byte follows the answer. Else it is closed.
//
// A kept connection may have died meanwhile. It is looked at before it is used
// again if it rested for more than a second, or if the request is not
// idempotent (RFC 9110 §9.2.2). If it fails all the same before a byte of the
// answer came, the request is sent once more on a new connection, provided
// that all of it is at hand and that it is idempotent or certainly no byte of
// it was delivered. Anything else is the origin breaking off, and told so:
// a request that may have been carried out is not carried out twice.
//
// # HTTP/2
//
// A request goes out in the version of HTTP in which its client made it, so
// that it leaves as it came. One that came by HTTP/2 is converted only for an
// origin that does not agree on HTTP/2 (by ALPN, or without TLS by not greeting
// in it), one that came by HTTP/1 only for an origin that refuses HTTP/1; the
// trace says so. All flows to one origin share a connection; another is made
// when all its streams are taken. What the origin says that it did not process
// (RFC 9113 §8.7) is sent again, up to three times in all, if all of it is at
// hand. A connection on which nothing was heard is asked for a sign of life,
// and ended when two stay unanswered.
//
// Extended CONNECT (RFC 8441) goes to an origin whose SETTINGS offer it. To
// others a WebSocket's goes as the Upgrade of HTTP/1.1, on a connection of its
// own, with a key that is made and checked here; anything else of that kind is
// refused. An Upgrade by HTTP/1.1 becomes extended CONNECT only for an origin
// that refuses HTTP/1.
//
// # Ways out
//
// [Ways] say per origin by which proxy it is reached, at which address, with
// which client certificate and which demands on TLS; a way is looked up once
// and remembered. Connections that depend on the identity are kept apart, and
// so are TLS sessions. A connection on which NTLM or Negotiate was seen is one
// client connection's alone. [Throttle] holds requests back by origin and tool.
//
// # Waiting
//
// A request without a body, or whose body has arrived already, costs no
// goroutine: one write, then reads. Other bodies are copied by a goroutine
// while the answer is awaited, so early answers and "Expect: 100-continue"
// (RFC 9110 §10.1.1) work as if nobody stood between; that goroutine ends
// before Send returns an error, and otherwise no later than the exchange, the
// body, or the pool is closed.
//
// No timer is set for a request. One goroutine of the pool looks every
// [Tick] at the connections in use and ends what has waited too long, or
// whose context is done: a cancelled context ends a wait within a tick.
//
// At most Limits.LargeHeads answers with a head above wire.LargeHead are under
// way at a time.
//
// # Bodies that wait
//
// A request body whose Next may have to wait for the network also has
//
//	Ready() bool // whether Next returns without waiting
//
// and its Close may be called while another goroutine is in Next, which then
// returns. Of a body without Ready it is assumed that Next never waits. The
// bodies of answers have both too.
//
// # What it will not do
//
// It decides nothing about sessions, follows no redirect, keeps no cookie,
// decodes no body. Of proxies it speaks HTTP and SOCKS 5, and to them Basic and
// the password of RFC 1929 alone.
package upstream
