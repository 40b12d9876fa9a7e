package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

var (
	errStall     = errors.New("the origin takes no more of the request")
	errFirstByte = errors.New("no answer within the limit")
	errSilence   = errors.New("nothing more came within the limit")
	errInterim   = errors.New("too many interim answers")
)

// undelivered is a write of which no byte left on a connection used before.
type undelivered struct{ error }

func (u undelivered) Unwrap() error { return u.error }

// clientError is a failure on the client's side of the flow: it does not take
// an interim answer, or its body cannot be read.
type clientError struct{ error }

func (e clientError) Unwrap() error { return e.error }

func closingError(cause error) error {
	return &flow.Error{Status: 503, Reason: flow.ReasonClosing, Detail: "Holdfast is being stopped.",
		Next: "Start it again and repeat the request.", Cause: cause}
}

func crowdedError(addr string) error {
	return &flow.Error{Status: 503, Reason: flow.ReasonCrowded,
		Detail: fmt.Sprintf("The head of the answer of %s is larger than 64 KiB, and too many such heads are held at the moment.", addr),
		Next:   "Repeat the request later; limits.large_heads in the configuration says how many there may be."}
}

// dialError says why there is no connection.
func (p *Pool) dialError(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &flow.Error{Status: 502, Reason: flow.ReasonUnreachable, Cause: err,
		Detail: fmt.Sprintf("No connection to %s.", addr),
		Next:   "Check that the origin runs and can be reached from this machine."}
	var dns *net.DNSError
	var known *flow.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &dns):
		e.Detail = fmt.Sprintf("The name of %s does not resolve.", addr)
		e.Next = "Check the name, or this machine's resolver."
	case timedOut(err):
		e.Status, e.Reason = 504, flow.ReasonTimeout
		e.Detail = fmt.Sprintf("No connection to %s within %v.", addr, p.limits.Dial)
	}
	return e
}

// handshakeError says why a connection could not be secured.
func (p *Pool) handshakeError(ctx context.Context, addr string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, errClosing) {
		return closingError(err)
	}
	var untrusted *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &untrusted):
		return &flow.Error{Status: 502, Reason: flow.ReasonTLS, Cause: err,
			Detail: fmt.Sprintf("The certificate of %s does not verify: %s.", addr, certificateFault(untrusted)),
			Next: "Add the origin's root certificate to those that Holdfast trusts (--upstream-ca, or ca: under origins: in the configuration), " +
				"or accept any certificate with --insecure-upstream, or verify: false for this one."}
	case timedOut(err):
		return &flow.Error{Status: 504, Reason: flow.ReasonTimeout, Cause: err,
			Detail: fmt.Sprintf("%s did not finish the TLS handshake within %v.", addr, p.limits.Handshake),
			Next:   "Check that the origin speaks TLS on this port."}
	case errors.As(err, &noTLS):
		return &flow.Error{Status: 502, Reason: flow.ReasonUnreachable, Cause: err,
			Detail: fmt.Sprintf("%s does not speak TLS.", addr),
			Next:   "Use http:// if the origin does not serve https on this port."}
	case rejectsOurs(err):
		return clientCertError(addr, err)
	}
	return &flow.Error{Status: 502, Reason: flow.ReasonUnreachable, Cause: err,
		Detail: fmt.Sprintf("The TLS handshake with %s failed: %v.", addr, err),
		Next: "Check which versions of TLS the origin speaks, and whether it wants a client certificate; " +
			"origins: in the configuration has min_tls, legacy and certificate."}
}

// rejectsOurs tells whether the origin says by an alert (RFC 8446 §6.2) that
// it wants a client certificate or not this one. By TLS 1.3 that comes only
// after the handshake.
func rejectsOurs(err error) bool {
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" {
		return false
	}
	switch strings.TrimPrefix(alert.Err.Error(), "tls: ") {
	case "certificate required", "bad certificate", "unknown certificate authority", "unknown certificate",
		"expired certificate", "revoked certificate", "unsupported certificate", "access denied":
		return true
	}
	return false
}

func clientCertError(addr string, err error) error {
	return &flow.Error{Status: 502, Reason: flow.ReasonClientCert, Cause: err,
		Detail: fmt.Sprintf("%s wants a client certificate, or does not take the one it was shown.", addr),
		Next:   "Name one with certificate: under origins: in the configuration."}
}

// certificateFault is what is wrong with a certificate, in words.
func certificateFault(err *tls.CertificateVerificationError) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "it is signed by an authority that is not trusted here"
	case errors.As(err, &name):
		return name.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired or is not valid yet"
	}
	return err.Err.Error()
}

// answerError says why no answer came.
func (c *conn) answerError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var known *flow.Error
	err = c.why(err)
	if errors.As(err, &known) || errors.As(err, new(clientError)) {
		return err
	}
	addr := address(c.key.origin)
	var parse *wire.ParseError
	e := &flow.Error{Status: 502, Reason: flow.ReasonBroken, Cause: err,
		Detail: fmt.Sprintf("%s closed the connection before its answer was there.", addr),
		Next:   "Repeat the request; if it happens again, the origin fails on it."}
	switch {
	case errors.Is(err, errClosing):
		return closingError(err)
	case rejectsOurs(err):
		return clientCertError(addr, err)
	case errors.As(err, &parse) && c.greets2():
		e.Cause = errGreets2
		e.Reason = flow.ReasonBadResponse
		e.Detail = fmt.Sprintf("%s speaks HTTP/2 only, and the body of the request is gone.", addr)
		e.Next = "Repeat the request: it will be sent by HTTP/2."
	case errors.As(err, &parse):
		e.Reason = flow.ReasonBadResponse
		e.Detail = fmt.Sprintf("What %s answered is not HTTP/1: %v.", addr, err)
		e.Next = "Check that the origin serves HTTP on this port, and whether it wants https. --framing lenient forwards an answer without a status line as it is, --framing raw any answer."
	case errors.Is(err, errInterim):
		e.Reason = flow.ReasonBadResponse
		e.Detail = fmt.Sprintf("%s sent more than %d interim answers to one request.", addr, c.pool.limits.Interim)
	case errors.Is(err, errFirstByte):
		e.Status, e.Reason = 504, flow.ReasonTimeout
		e.Detail = fmt.Sprintf("%s did not answer within %v.", addr, c.pool.limits.FirstByte)
		e.Next = "Check what keeps the origin busy, or raise the limit."
	case errors.Is(err, errStall):
		e.Status, e.Reason = 504, flow.ReasonTimeout
		e.Detail = fmt.Sprintf("%s took nothing of the request for %v.", addr, c.pool.limits.Stall)
	case errors.Is(err, errSilence):
		e.Status, e.Reason = 504, flow.ReasonTimeout
		e.Detail = fmt.Sprintf("%s fell silent within its answer for %v.", addr, c.pool.limits.Silence)
	}
	return e
}

// bodyError is a request body that could not be read: the client's doing.
func bodyError(err error) error {
	var parse *wire.ParseError
	if errors.As(err, &parse) {
		return &flow.Error{Status: 400, Reason: flow.ReasonBadRequest, Cause: err,
			Detail: fmt.Sprintf("The body of the request cannot be read: %v.", err),
			Next:   "Correct the framing of the body. --framing lenient forwards lines that end in LF alone, --framing raw everything."}
	}
	return clientError{fmt.Errorf("reading the request's body: %w", err)}
}

func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}
