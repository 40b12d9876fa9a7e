package flow

import "fmt"

// Reasons that a client can tell apart by machine: they stand in the
// Proxy-Status field (RFC 9209) and in the problem document (RFC 9457) of an
// answer that Holdfast makes itself.
const (
	ReasonLocked        = "session_locked"     // too many failed logins: nobody tries until a person unlocks
	ReasonRecovery      = "recovery_failed"    // the macros ran and did not bring a session
	ReasonStore         = "store_unreachable"  // the store that a fleet shares cannot be asked who recovers the session
	ReasonPerson        = "person_needed"      // a person is to log in, or asked for something to log in with, and has not answered
	ReasonAction        = "action_failed"      // an action of a rule failed, such as the run of a macro
	ReasonScript        = "script_failed"      // a script of a rule failed, or met one of its limits
	ReasonStillDead     = "still_dead"         // a new session was made and its answer is judged dead again
	ReasonUnreachable   = "origin_unreachable" // no connection, after retries
	ReasonTLS           = "origin_certificate" // the origin's certificate does not verify
	ReasonBroken        = "origin_broke_off"   // the connection ended inside the answer's head
	ReasonBadResponse   = "origin_not_http"    // the answer is no HTTP
	ReasonBadRequest    = "request_malformed"  // the request cannot be read, or its framing is ambiguous
	ReasonTimeout       = "origin_timeout"     // a stated limit of waiting ran out
	ReasonLoop          = "request_to_self"    // the request asks Holdfast to proxy to itself
	ReasonProxyPassword = "proxy_password"     // the proxy credentials lack the password, or have another one
	ReasonIdentity      = "identity_unknown"   // the proxy user name names nobody
	ReasonDirective     = "directive_unknown"  // a Holdfast- field of the request cannot be understood
	ReasonProtected     = "session_protected"  // the request would end a session that others use
	ReasonClosing       = "holdfast_closing"   // Holdfast is being stopped
	ReasonShielded      = "request_to_api"     // the request asks Holdfast to proxy to its own API
	ReasonRule          = "rule_unknown"       // there is no such rule

	ReasonProxyDown    = "proxy_unreachable"     // the proxy on the way out cannot be reached, or is no such proxy
	ReasonProxyLogin   = "proxy_credentials"     // it wants credentials, or others
	ReasonProxyRefused = "proxy_refused"         // it does not open a way to the origin
	ReasonAuth         = "origin_authentication" // the HTTP authentication that the origin asks for cannot be answered
	ReasonClientCert   = "client_certificate"    // the origin wants a client certificate, or another
	ReasonCrowded      = "large_heads"           // too many heads of more than 64 KiB are held at the moment
	ReasonConnections  = "connections"           // a tunnel by HTTP/2 would be one connection too many
	ReasonBusy         = "sessions_busy"         // all sessions of the identity were in use for too long
	ReasonThrottled    = "throttled"             // too many requests wait for their turn, or one would wait for too long
)

// Error is a failure that the client is told: as a response of Holdfast's own
// with Status, Reason and texts. Cause is for the trace, never for the client.
type Error struct {
	Status int    // 502 when zero
	Reason string // one of the Reason constants
	Detail string // what happened, one sentence, no secrets
	Next   string // what a person can do about it
	Cause  error
	// NoSession says that the request was refused because there is no session
	// for it, whatever the reason for that.
	NoSession bool
}

// Code is the status that the client is given.
func (e *Error) Code() int {
	if e.Status == 0 {
		return 502
	}
	return e.Status
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Reason, e.Detail)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// OfSession reports whether the failure is that of keeping a session, and not
// of reaching an origin. It may be asked of nil.
func (e *Error) OfSession() bool {
	if e == nil {
		return false
	}
	switch e.Reason {
	case ReasonLocked, ReasonRecovery, ReasonStillDead, ReasonPerson:
		return true
	}
	return e.NoSession
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }
