package session

import (
	"context"
	"net/url"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// checkSession asks whether the session is valid, by a macro, before the
// request is sent. Where the request itself is the probe, its answer is judged
// by the rule's condition; here is only what waits for that.
func (x *exchange) checkSession(ctx context.Context, i, j int) error {
	a := x.rules[i].Actions[j].CheckSession
	if a.Probe == rule.ProbeRequest {
		if a.StopIfValid && x.resends == 0 && x.fresh != x.sessions[i] {
			x.stopAfter(i, j)
		}
		return nil
	}
	r, s := x.rules[i], x.sessions[i]
	q := x.engine.checkOf(r, a)
	valid, err := x.askFirst(ctx, &q, s)
	switch {
	case err != nil:
		return err
	case valid && a.StopIfValid:
		x.stopAfter(i, j)
	case valid:
	case !s.recovers():
		x.note(r, flow.ActionNote, "%snothing recovers it (if_invalid)", q.label)
	}
	return nil
}

// waitForInvalid ends the actions where one waits for the answer to the request.
func (x *exchange) waitForInvalid() {
	for i, r := range x.rules {
		if a, j := r.CheckOf(); a != nil && a.Probe == rule.ProbeRequest && a.StopIfValid {
			x.stopAfter(i, j)
			return
		}
	}
}

// placeOf is the request's URL as offers are compared.
func placeOf(f *flow.Flow) string {
	u, err := url.Parse(f.Origin.URL(f.Received.Path()))
	if err != nil {
		return ""
	}
	return rule.Place(u)
}
