package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// reasonInternal is for failures that are nobody's but Holdfast's own.
const reasonInternal = "internal"

// document is the problem document of RFC 9457, with Holdfast's own members.
type document struct {
	Type   string `json:"type"`   // "urn:holdfast:" and the reason
	Title  string `json:"title"`  // the reason in words
	Status int    `json:"status"` // as in the status line
	Detail string `json:"detail"` // what happened
	Reason string `json:"reason"` // flow.Reason…, for machines
	Next   string `json:"next,omitempty"`
	Flow   string `json:"flow,omitempty"` // the flow's ID, for looking up its trace
}

// style is how a problem is told.
type style struct {
	html      bool // the client prefers a page
	closing   bool // the connection ends with it
	keepAlive bool // an HTTP/1.0 client that asked for it has to be told
	flow      string
}

// refuse tells the client of a handler's failure. It returns what deliver does.
func (c *client) refuse(x *exchange, err error) (keep bool, written error) {
	f := &x.flow
	e := toldError(err, &x.body)
	c.s.refused(f, e)
	st := style{html: prefersHTML(&x.request), flow: f.ID.String()}
	st.closing = !x.body.canGoOn() || !x.request.KeepAlive() || c.s.closing.Load()
	st.keepAlive = !st.closing && isVersion10(x.request.Version())
	head, body := problem(e, st)
	if err := answer(f, head, body); err != nil {
		return false, err
	}
	return c.deliver(x)
}

// refused notes that the flow is refused, and drops what there was of an answer.
func (s *Server) refused(f *flow.Flow, e *flow.Error) {
	f.Refused = e
	f.Trace.Add(flow.Event{At: s.cfg.Clock().Sub(f.Start), Actor: "proxy", Action: flow.ActionRefuse, Detail: e.Error()})
	if f.ResponseBody != nil {
		f.ResponseBody.Close()
	}
	if f.Upgraded != nil {
		f.Upgraded.Close()
		f.Upgraded = nil
	}
}

// toldError is the error as the client is told of it.
func toldError(err error, body *requestBody) *flow.Error {
	var e *flow.Error
	switch {
	case errors.As(err, &e):
		return e
	case body.broken() && isTimeout(err):
		return &flow.Error{Status: 408, Reason: flow.ReasonBadRequest, Cause: err,
			Detail: "The body of the request did not arrive in time.", Next: "Send it without long pauses."}
	case body.broken() && errors.Is(err, io.ErrUnexpectedEOF):
		return &flow.Error{Status: 400, Reason: flow.ReasonBadRequest, Cause: err,
			Detail: "The body of the request ends before its framing says so.", Next: "Correct its length."}
	case errors.Is(err, context.DeadlineExceeded):
		return &flow.Error{Status: 504, Reason: flow.ReasonTimeout, Cause: err,
			Detail: "A limit of waiting ran out.", Next: "Look at the flow's trace to see what took so long."}
	}
	return &flow.Error{Status: 502, Reason: reasonInternal, Cause: err,
		Detail: "Holdfast failed to get an answer.", Next: "Look at the flow's trace."}
}

// badRequest is a request that cannot be read, or has no certain end.
func badRequest(err error) error {
	e := &flow.Error{Status: 400, Reason: flow.ReasonBadRequest, Cause: err,
		Detail: fmt.Sprintf("The request cannot be read: %v.", err),
		Next:   "Correct the request: where it ends must be certain (RFC 9112)."}
	var parse *wire.ParseError
	if errors.As(err, &parse) && parse.Status >= 400 && parse.Status != 502 {
		e.Status = parse.Status
	}
	return e
}

// crowdedError is about a head that is legal and large, when there are too many.
func crowdedError() error {
	return &flow.Error{Status: 503, Reason: flow.ReasonCrowded,
		Detail: "The head of the request is larger than 64 KiB, and too many such heads are held at the moment.",
		Next:   "Repeat the request later or make its head smaller; limits.large_heads in the configuration says how many there may be."}
}

// problem is an answer of Holdfast's own.
func problem(e *flow.Error, st style) (head, body []byte) {
	status := e.Status
	if status == 0 {
		status = 502
	}
	d := document{Type: "urn:holdfast:" + e.Reason, Title: strings.ReplaceAll(e.Reason, "_", " "), Status: status,
		Detail: e.Detail, Reason: e.Reason, Next: e.Next, Flow: st.flow}
	kind := "application/problem+json"
	if st.html {
		kind, body = "text/html; charset=utf-8", page(d.Title, d.Detail, d.Next)
	} else {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(d); err != nil {
			panic("internal error: a problem document is text: " + err.Error())
		}
		body = b.Bytes()
	}
	head = statusLine(nil, status)
	if status == 407 {
		head = append(head, challenge...)
	}
	head = append(head, "Content-Type: "+kind+"\r\nContent-Length: "+strconv.Itoa(len(body))+
		"\r\nCache-Control: no-store\r\nProxy-Status: "+proxyStatus(e)+"\r\n"...)
	switch {
	case st.closing:
		head = append(head, "Connection: close\r\n"...)
	case st.keepAlive:
		head = append(head, "Connection: keep-alive\r\n"...)
	}
	return append(head, "\r\n"...), body
}

// proxyStatus is RFC 9209: the error type from its registry (§2.3), Holdfast's
// reason as a parameter of its own, and the details.
func proxyStatus(e *flow.Error) string {
	kind := "proxy_internal_error"
	switch e.Reason {
	case flow.ReasonLocked, flow.ReasonRecovery, flow.ReasonStillDead, flow.ReasonClosing:
		kind = "proxy_internal_response"
	case flow.ReasonUnreachable:
		kind = "destination_unavailable"
	case flow.ReasonTLS:
		kind = "tls_certificate_error"
	case flow.ReasonBroken:
		kind = "connection_terminated"
	case flow.ReasonBadResponse:
		kind = "http_protocol_error"
	case flow.ReasonBadRequest, flow.ReasonDirective, flow.ReasonIdentity:
		kind = "http_request_error"
	case flow.ReasonTimeout:
		kind = "connection_timeout"
	case flow.ReasonLoop:
		kind = "proxy_loop_detected"
	case flow.ReasonProxyDown, flow.ReasonProxyRefused:
		kind = "destination_unavailable"
	case flow.ReasonProxyLogin:
		kind = "proxy_configuration_error"
	case flow.ReasonClientCert:
		kind = "tls_alert_received"
	case flow.ReasonThrottled, flow.ReasonCrowded, flow.ReasonConnections:
		kind = "connection_limit_reached"
	case flow.ReasonProxyPassword, flow.ReasonProtected:
		kind = "http_request_denied"
	}
	return "holdfast; error=" + kind + "; reason=" + e.Reason + "; details=" + quoted(e.Detail)
}

// quoted is a string of RFC 9651 §3.3.3, which holds printable ASCII only.
func quoted(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r > '~':
			b = append(b, '?')
		default:
			b = append(b, byte(r))
		}
	}
	return string(append(b, '"'))
}

// page is a small page for people.
func page(title, detail, next string) []byte {
	return []byte("<!doctype html><meta charset=utf-8><title>Holdfast: " + html.EscapeString(title) + "</title>\n<h1>" +
		html.EscapeString(title) + "</h1>\n<p>" + html.EscapeString(detail) + "</p>\n<p>" + html.EscapeString(next) + "</p>\n")
}

// prefersHTML tells whether a client names HTML before JSON, as browsers do.
func prefersHTML(r *wire.Request) bool {
	accept, _ := r.Get("Accept")
	html, json := bytes.Index(accept, []byte("text/html")), bytes.Index(accept, []byte("json"))
	return html >= 0 && (json < 0 || html < json)
}

// Answer sets the flow's response to one of Holdfast's own, with a body that is
// kept. contentType must not hold line ends.
func Answer(f *flow.Flow, status int, contentType string, body []byte) error {
	head := statusLine(nil, status)
	head = append(head, "Content-Type: "+contentType+"\r\nContent-Length: "+strconv.Itoa(len(body))+
		"\r\nCache-Control: no-store\r\n\r\n"...)
	return answer(f, head, body)
}

func answer(f *flow.Flow, head, body []byte) error {
	response, err := wire.ParseResponse(head)
	if err != nil {
		return fmt.Errorf("internal error: an answer of Holdfast's own: %w", err)
	}
	f.Response, f.ResponseBody = response, nil
	if len(body) > 0 && string(f.Received.Method()) != "HEAD" {
		f.ResponseBody = wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(body))}, body)
	}
	return nil
}

// statusLine appends a status line with the usual phrase (RFC 9110 §15).
func statusLine(b []byte, status int) []byte {
	phrase := ""
	switch status {
	case 200:
		phrase = "OK"
	case 400:
		phrase = "Bad Request"
	case 403:
		phrase = "Forbidden"
	case 404:
		phrase = "Not Found"
	case 407:
		phrase = "Proxy Authentication Required"
	case 408:
		phrase = "Request Timeout"
	case 431:
		phrase = "Request Header Fields Too Large"
	case 500:
		phrase = "Internal Server Error"
	case 502:
		phrase = "Bad Gateway"
	case 503:
		phrase = "Service Unavailable"
	case 504:
		phrase = "Gateway Timeout"
	case 505:
		phrase = "HTTP Version Not Supported"
	case 508:
		phrase = "Loop Detected"
	}
	return append(b, "HTTP/1.1 "+strconv.Itoa(status)+" "+phrase+"\r\n"...)
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
