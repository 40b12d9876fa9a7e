package flow

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/wire"
)

// Tools that Holdfast itself uses. A listener or the proxy credentials may
// name others (scanner, sqlmap).
const (
	ToolProxy = "proxy" // whatever came through a listener without a label
	ToolMacro = "macro" // login, refresh and probe requests of Holdfast's own

	ToolScript = "script" // what scripts fetch
)

// Anonymous is the identity that is built in: nobody. Its requests go out
// without credentials.
const Anonymous = "anonymous"

// Origin says where a request goes: the connection, not the Host field.
type Origin struct {
	TLS  bool
	Host string // name or IP literal without brackets, lower case
	Port uint16
	// Address is the IP literal, without brackets, to connect to; "" resolves
	// Host. It is set where a client resolved the name itself.
	Address string
}

// Scheme is "https" or "http".
func (o Origin) Scheme() string {
	if o.TLS {
		return "https"
	}
	return "http"
}

// URL is the origin with a path, as a person writes it: a default port is left
// out.
func (o Origin) URL(path []byte) string {
	host := o.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.TLS && o.Port != 443 || !o.TLS && o.Port != 80 {
		host += ":" + strconv.Itoa(int(o.Port))
	}
	return o.Scheme() + "://" + host + string(path)
}

// A Flow is one exchange: live while it passes through the pipeline, a record
// afterwards. One goroutine owns it at a time; the pipeline hands it on.
//
// Every flow ends exactly once, by [Flow.End], with a response or an error.
type Flow struct {
	ID       ID
	Tool     string
	Identity string // "" is the default identity
	Listener string // the label of the listener it came in by
	// Client is the number of the client's connection it came by; 0 is none.
	// Authentication of a connection (NTLM) is of that one alone.
	Client uint64
	// Connection is done when the client's connection has ended. nil: nobody
	// knows, and the flow is all that is known of the client.
	Connection context.Context
	Origin     Origin
	Start      time.Time // when the request's head was complete
	Ended      time.Time
	// Sent and Answered are when the last sending began and when its answer's
	// head was there; Waited is the time between the two, all sendings added.
	Sent, Answered time.Time
	Waited         time.Duration

	// ShownPath is what traces show as the request's path; "" is the path
	// itself. Requests that were built from variables may hold secrets in it.
	ShownPath string

	// Auth is how the request is logged in by HTTP authentication, unless it has
	// credentials of its own; nil: not at all.
	Auth *Auth

	// Keep names places of the request, as rules name them ("cookie:sid"), that
	// are left as the client wrote them, whatever the rules say.
	Keep []string
	// Unprotected says that the request is sent although it may end a session
	// that others use.
	Unprotected bool

	// Received is the request as the client wrote it. Request is what is
	// sent; the two are one pointer until Edit is called.
	Received *wire.Request
	Request  *wire.Request
	// RequestBody streams the request's body; nil when there is none.
	RequestBody wire.Body

	// Response is the answer for the client, with its body as a stream; a
	// nil body means none. The one who takes the response out of the
	// pipeline reads ResponseBody to io.EOF or closes it.
	Response     *wire.Response
	ResponseBody wire.Body
	// Upgraded is the connection to the origin after a 101 or a CONNECT
	// answer: bytes both ways, no messages any more. Whoever takes the flow
	// out of the pipeline closes it.
	Upgraded Tunnel

	// Interim receives 1xx answers (RFC 9110 §15.2) while the final one is
	// awaited. nil drops them. It is called from the goroutine that runs the
	// handler.
	Interim func(*wire.Response) error

	// Earlier holds the answers that the client never saw: of a dead
	// session, before the request was sent again.
	Earlier []Attempt
	// PassedDead says that the client was given an answer of a dead session.
	PassedDead bool
	// Recovered says that the request waited for a session.
	Recovered bool
	// Refused is what the client was told instead of an answer; nil when it
	// got one.
	Refused *Error
	Stamp   Stamp
	Trace   Trace
	Err     error

	// Memory is what the end of the pipeline keeps from one flow of a client
	// to the next, and RuleMemory what the rules do.
	Memory, RuleMemory any

	edited   *wire.Request // memory for Edit
	bodyWas  []byte        // by EditedBody
	bodyIs   []byte        // likewise; nil: the body is sent as it came
	peeked   *peekedBody   // by Peek
	released bool
	done     []func(*Flow)
	hearers  *hearers // of a WebSocket; nil: nobody
}

// Release says that nobody holds on to the flow beyond its end, nor to its
// messages: their memory may then serve the client's next one. Whoever puts
// the pipeline together knows; it is called when the flow ends.
func (f *Flow) Release() { f.released = true }

// Reusable reports whether the memory may be used again.
func (f *Flow) Reusable() bool {
	return f.released && len(f.Earlier) == 0 && f.RequestBody == nil && f.Upgraded == nil
}

// Reset empties a flow whose memory is used again.
func (f *Flow) Reset() {
	*f = Flow{Memory: f.Memory, RuleMemory: f.RuleMemory, done: f.done[:0], edited: f.edited, Trace: Trace{Events: f.Trace.Events[:0]}}
}

// Stamp says which session's tokens a request carries.
type Stamp struct {
	Generation uint64
	Sequence   uint64 // rises with each request that is stamped; answers are ordered by it
}

// Attempt is one sending whose answer was not delivered.
type Attempt struct {
	Request  *wire.Request
	Response *wire.Response
	Body     []byte // raw, up to 256 KiB; nil as well where memory was short
	Stamp    Stamp
	Reason   string
}

// Tunnel is a byte stream to the origin.
type Tunnel interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	Close() error
}

// A Handler takes a flow with its request and returns with its response set,
// or with an error; an [*Error] says what the client is told.
type Handler func(ctx context.Context, f *Flow) error

// A Stage wraps a handler: it may edit the flow before, judge the response
// after, call next more than once (to send again), or not at all.
type Stage func(next Handler) Handler

// Edit returns the request for changing. The first call copies it, so that
// Received stays what the client wrote.
func (f *Flow) Edit() *wire.Request {
	if f.Request == f.Received {
		if f.edited == nil {
			f.edited = new(wire.Request)
		}
		f.Received.CopyTo(f.edited)
		f.Request = f.edited
	}
	return f.Request
}

// Keeps reports whether a place is left as the client wrote it.
func (f *Flow) Keeps(place string) bool {
	for _, kept := range f.Keep {
		if kept == place {
			return true
		}
	}
	return false
}

// OnEnd has fn called when the flow ends; the latest registered runs first.
func (f *Flow) OnEnd(fn func(*Flow)) { f.done = append(f.done, fn) }

// End finishes the flow: the response has been delivered (err nil) or cannot
// be. Later calls do nothing.
func (f *Flow) End(now time.Time, err error) {
	if !f.Ended.IsZero() {
		return
	}
	f.Ended, f.Err = now, err
	for i := len(f.done) - 1; i >= 0; i-- {
		f.done[i](f)
	}
	clear(f.done)
	f.done = f.done[:0]
}
