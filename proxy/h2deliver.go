package proxy

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// deliver writes the answer to its stream. What is at hand leaves in one write;
// then each piece leaves as it arrives.
func (x *exchange2) deliver() error {
	f, s := &x.flow, x.s
	if f.Upgraded != nil {
		return x.tunnel()
	}
	head, body := &f.Response.Head, f.ResponseBody
	var payload *wire.PayloadBody
	if f.Response.Proto() != wire.HTTP2 {
		converted, notes, err := h2.ResponseTo2(f.Response)
		if err != nil {
			if body != nil {
				body.Close()
			}
			return x.broken(err)
		}
		x.note("the answer came by HTTP/1 and was given to the client as HTTP/2", notes)
		head = &converted.Head
		if body != nil {
			payload = wire.Payload(body)
		}
	}
	if body == nil {
		return unwritten(s.WriteHead(head, true))
	}
	if err := s.WriteHead(head, false); err != nil {
		body.Close()
		return unwritten(err)
	}
	framing, sent := body.Framing(), int64(0)
	for {
		if !x.readyFor(body, payload) {
			s.Flush()
		}
		piece, err := next(body, payload)
		if err != nil && err != io.EOF {
			body.Close()
			s.Write(piece, false)
			return x.broken(err)
		}
		var werr error
		switch trailers := behind(body, payload, err); {
		case trailers != nil:
			if werr = s.Write(piece, false); werr == nil {
				werr = s.WriteTrailers(trailers)
			}
		default:
			// The stream ends with the last piece: a client that counts may be
			// gone before a frame that says so by itself.
			sent += int64(len(piece))
			last, ok := body.(interface{ Last() bool })
			ended := err == io.EOF || framing.Kind == wire.Length && sent == framing.Length || ok && payload == nil && last.Last()
			if werr = s.Write(piece, ended); werr == nil && ended && err == nil {
				_, err = next(body, payload) // takes the end, which is there
			}
		}
		if werr != nil {
			body.Close()
			return unwritten(werr)
		}
		if err == io.EOF {
			return nil
		}
	}
}

func unwritten(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errUnwritten, err)
}

func (x *exchange2) readyFor(body wire.Body, payload *wire.PayloadBody) bool {
	return ready(body) && (payload == nil || body.Framing().Kind != wire.Chunked)
}

func next(body wire.Body, payload *wire.PayloadBody) ([]byte, error) {
	if payload == nil {
		return body.Next()
	}
	piece, err := payload.Next()
	if err == io.EOF && body.Framing().Kind == wire.Chunked {
		// The last chunk tells the payload's end; the body's own is what
		// gives the connection free.
		if _, end := body.Next(); end != io.EOF {
			return piece, io.ErrUnexpectedEOF
		}
	}
	return piece, err
}

// behind are the trailers, once the body is at its end.
func behind(body wire.Body, payload *wire.PayloadBody, err error) *wire.Head {
	if err != io.EOF {
		return nil
	}
	if payload != nil {
		return h2.TrailersTo2(payload.Trailers())
	}
	if t := body.Framing().Trailers; t != nil && t.NumFields() > 0 {
		return t
	}
	return nil
}

// broken ends a stream whose answer broke off, with the origin's code if it
// gave one.
func (x *exchange2) broken(err error) error {
	code := h2.InternalError
	var stream *h2.StreamError
	if errors.As(err, &stream) && stream.Remote && stream.Code != h2.NoError {
		code = stream.Code
	}
	x.s.Reset(code)
	return fmt.Errorf("%w: %w", errCutShort, err)
}

func (x *exchange2) note(what string, notes []string) {
	note(&x.flow, x.t.c.s, what, notes)
}

func note(f *flow.Flow, s *Server, what string, notes []string) {
	if len(notes) > 0 {
		what += "; " + strings.Join(notes, "; ")
	}
	f.Trace.Add(flow.Event{At: s.cfg.Clock().Sub(f.Start), Actor: "proxy", Action: flow.ActionNote, Detail: what})
}

// answerTo1 gives an answer that came by HTTP/2 the form of HTTP/1, for a
// client of that.
func (c *client) answerTo1(x *exchange) error {
	f := &x.flow
	old := isVersion10(x.request.Version())
	converted, notes, err := h2.ResponseTo1(f.Response, f.ResponseBody != nil, !old)
	if err == nil {
		var framing wire.Framing
		if framing, err = wire.ResponseFraming(converted, x.request.Method()); err == nil && f.ResponseBody != nil {
			f.ResponseBody = h2.BodyTo1(f.ResponseBody, framing)
		} else if err == nil && framing.Kind == wire.UntilClose {
			// END_STREAM said that nothing follows the head; HTTP/1 says it so.
			err = converted.Add("Content-Length", "0")
		}
	}
	if err != nil {
		if f.ResponseBody != nil {
			f.ResponseBody.Close()
		}
		return fmt.Errorf("%w: %w", errCutShort, err)
	}
	note(f, c.s, "the answer came by HTTP/2 and was given to the client as HTTP/1.1", notes)
	f.Response = converted
	return nil
}
