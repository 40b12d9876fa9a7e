package session

import (
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
)

// authenticate has the request logged in by HTTP authentication, as the first
// of its rules says that says something of it. The client's own credentials, and
// those that rules put in, go before.
func (x *exchange) authenticate() {
	f := x.flow
	f.Auth = nil
	for _, r := range x.rules {
		if r.Auth == nil {
			continue
		}
		if f.Keeps("header:authorization") {
			x.note(r, flow.ActionKeep, "header:authorization is left as the client wrote it ("+DirectiveKeep+")")
			return
		}
		filled, missing := r.Auth.Fill(x.lookup)
		if filled == nil {
			x.note(r, flow.ActionNote, "auth: no value for %s", strings.Join(missing, ", "))
			return
		}
		f.Auth = filled
		return
	}
}
