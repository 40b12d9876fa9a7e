package proxy

import (
	"errors"
	"fmt"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// frame decides where the request ends, by Config.Policy, and notes what is odd
// about that.
func (c *client) frame(x *exchange) (wire.Framing, error) {
	framing, err := c.s.cfg.Policy.Request(&x.request)
	c.note(&x.flow, "request", framing.Notes, framing.Ambiguous)
	if err != nil {
		c.s.cfg.OnError(fmt.Errorf("request of %v: %w", c.raw.RemoteAddr(), err)) // no handler hears of it
		return framing, badFraming(&x.request, err)
	}
	return framing, nil
}

// note puts oddities of a message into the trace.
func (c *client) note(f *flow.Flow, message string, notes wire.Notes, ambiguous bool) {
	if notes == 0 {
		return
	}
	detail := message + ": " + notes.String()
	if ambiguous {
		detail += "; ambiguous, so no connection it was on is used again"
	}
	f.Trace.Add(flow.Event{At: c.s.cfg.Clock().Sub(f.Start), Actor: "wire", Action: flow.ActionNote, Detail: detail})
}

// noteBodies notes what showed only while bodies were read.
func (c *client) noteBodies(x *exchange) {
	if x.flow.RequestBody != nil {
		c.note(&x.flow, "body of the request", x.body.Framing().Notes&wire.BodyNotes, true)
	}
	if body := x.flow.ResponseBody; body != nil {
		c.note(&x.flow, "body of the answer", body.Framing().Notes&wire.BodyNotes, true)
	}
}

// badFraming refuses a request whose end is not certain, and says which policy
// forwards it.
func badFraming(r *wire.Request, err error) error {
	err = badRequest(err)
	var e *flow.Error
	if errors.As(err, &e) {
		e.Next = "Correct the request: where it ends must be certain (RFC 9112). To have it forwarded as it is, start Holdfast with --framing " +
			wire.Forwarding(r).String() + "."
	}
	return err
}

// interimIsOdd tells whether a client may take something else than its head for
// a 1xx answer.
func interimIsOdd(r *wire.Response) bool {
	framing, err := wire.ResponseFraming(r, nil)
	return err != nil || framing.Ambiguous
}
