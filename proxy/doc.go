// Package proxy serves HTTP proxy clients: it reads requests, makes a flow of
// each, has a handler answer it, and writes the answer.
//
// # The life of a request
//
//  1. A connection is accepted; at most Limits.Connections at a time. Its
//     listener's [Kind] and its first byte say what it speaks.
//  2. A head is read (Limits.LargeHeads large ones at a time). CONNECT and SOCKS5
//     are answered at once. What follows is TLS, ended here with a leaf certificate
//     for the name of SNI, else for the host asked for; or HTTP, which goes on with
//     step 3; or neither, which Config.Tunnel takes on, like what PassThrough names.
//  3. The flow is filled: tool and identity from the listener and from
//     "Proxy-Authorization: Basic", whose name part is IDENTITY+TOOL, IDENTITY
//     or +TOOL (the last plus sign counts; Config.Password may be wanted, and
//     the credentials of a CONNECT hold for what comes through it); the origin
//     from CONNECT, else from the absolute-form target (RFC 9112 §3.2.2).
//  4. Config.Handler runs.
//  5. The answer's head and what has arrived of its body leave in one write;
//     then each piece leaves as it arrives. Nothing is held back.
//  6. Flow.End is called, once, whatever happened.
//
// Requests that a client sends ahead are answered in order.
//
// # What is changed
//
// Through CONNECT, nothing: the handler gets the bytes that the client wrote,
// and the client gets the bytes that the handler gives. In a request with an
// absolute-form target, which is meant for a proxy, and only there
//
//   - the target becomes its origin-form (the asterisk-form for OPTIONS without
//     a path), byte for byte what stands behind the authority, without a fragment;
//   - lines named Proxy-Connection, Proxy-Authorization and Proxy-Authenticate
//     are removed (RFC 9110 §11.7, RFC 9112 §C.2.2);
//   - if there is no Host line, one is added, since the target no longer says it.
//
// A Host line that differs from the target's authority stays: the connection
// goes where the target says. Flow.Received keeps all as it was. Connection,
// Keep-Alive, TE, Upgrade and Trailer pass untouched both ways, and no Via line
// is added: a tester sees what the two ends say.
//
// # Failures
//
// A *flow.Error of the handler becomes an answer with its status, a
// Proxy-Status line (RFC 9209) and a problem document (RFC 9457), or a page if
// the client prefers HTML. An answer that breaks off in its body ends the
// client's connection, so that it never looks complete.
//
// # Waiting
//
// No deadline is set for a request. One goroutine of the server looks every [Tick] at
// the connections: it ends what exceeds its limit, and cancels the context of a flow
// whose client has gone, which it asks the operating system (Linux and the BSDs;
// elsewhere a client's leaving shows in the next write). A client that closed only its
// sending side keeps waiting for its answer where that can be told: without TLS, for
// Limits.HalfClosed. A connection that waits for a request holds no buffer, and after
// two looks nothing of the request before: it waits for the socket alone.
//
// # Bodies of requests
//
// The body that a handler finds in a flow has the method Ready, and its Close
// may be called from another goroutine: see package upstream. Of a body that a
// handler leaves unread a little is read, else the connection ends with the answer.
//
// # After an upgrade
//
// The bytes that follow a 101, or success by HTTP/2 (RFC 8441), go both ways as
// they come, and either side may close first. Of a WebSocket (RFC 6455) a copy is
// decoded for those who registered with [flow.Flow.OnMessage] or OnClose; what
// cannot be decoded ends that, with a note in the trace, never the tunnel.
//
// # HTTP/2
//
// A client is offered it in TLS, and extended CONNECT in it, when its origin does so;
// else prior knowledge serves. Answers of the other version are converted. TLS to the
// proxy itself offers it: each CONNECT is a stream, served as a connection would be.
//
// # What it will not do
//
// It knows nothing of sessions, rules or storage, opens no connection, and speaks
// neither SOCKS4, BIND nor UDP.
package proxy
