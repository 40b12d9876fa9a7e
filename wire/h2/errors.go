package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// A Code is an error code of RFC 9113 §7.
type Code uint32

// The error codes.
const (
	NoError         Code = 0x0
	ProtocolError   Code = 0x1
	InternalError   Code = 0x2
	FlowControl     Code = 0x3
	SettingsTimeout Code = 0x4
	StreamClosed    Code = 0x5
	FrameSize       Code = 0x6
	RefusedStream   Code = 0x7
	Cancel          Code = 0x8
	Compression     Code = 0x9
	ConnectError    Code = 0xa
	EnhanceYourCalm Code = 0xb
	Inadequate      Code = 0xc
	HTTP11Required  Code = 0xd
)

// String is the name that RFC 9113 gives the code.
func (c Code) String() string { return http2.ErrCode(c).String() }

// A ConnError ended the connection.
type ConnError struct {
	Code   Code
	Reason string // for people
	Remote bool   // the peer said so with GOAWAY
}

func (e *ConnError) Error() string {
	if e.Remote {
		return fmt.Sprintf("the HTTP/2 peer ended the connection: %v %s", e.Code, e.Reason)
	}
	return fmt.Sprintf("HTTP/2 connection error %v: %s", e.Code, e.Reason)
}

// A StreamError ended one stream.
type StreamError struct {
	Stream uint32
	Code   Code
	Reason string // for people; "" when the peer reset the stream
	Remote bool   // the peer said so, with RST_STREAM or GOAWAY
	// Unprocessed: the peer has not acted on the request and never will, so
	// that even one that is not idempotent may be sent again (RFC 9113 §8.7).
	Unprocessed bool
}

func (e *StreamError) Error() string {
	if e.Remote {
		return fmt.Sprintf("the HTTP/2 peer reset stream %d: %v", e.Stream, e.Code)
	}
	return fmt.Sprintf("HTTP/2 stream %d: %v: %s", e.Stream, e.Code, e.Reason)
}

// A LostError is a connection that ended under a stream.
type LostError struct {
	Cause error
	// Unprocessed is as in StreamError.
	Unprocessed bool
}

func (e *LostError) Error() string { return "the HTTP/2 connection ended: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Cause }

// What a stream or connection can be told to have ended by.
var (
	// ErrNoStream: the connection takes no further stream at the moment, or
	// never again; see Conn.Room.
	ErrNoStream = errors.New("h2: the connection takes no further stream")
	// ErrEnded: the stream's sending side has ended.
	ErrEnded = errors.New("h2: the stream has ended")
	// ErrSilent: a limit of Limits.Looks ran out while the peer sent nothing.
	ErrSilent = errors.New("h2: the peer sent nothing within the limit")
	// ErrWindow: a limit of Limits.Looks ran out while the peer granted no
	// window.
	ErrWindow = errors.New("h2: the peer took nothing within the limit")
	// ErrSlowHead: a head that began was not complete within the limit.
	ErrSlowHead = errors.New("h2: the head of a message did not arrive within the limit")
	// ErrStuck: the peer does not read, so that writes do not end.
	ErrStuck = errors.New("h2: the peer reads nothing")

	errClosed = errors.New("h2: the connection is closed")
)

func connErr(code Code, format string, args ...any) *ConnError {
	return &ConnError{Code: code, Reason: fmt.Sprintf(format, args...)}
}
