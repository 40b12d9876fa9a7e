package session

import (
	"fmt"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// protect refuses a request that would end the session which everybody shares.
// One that carries nothing of that session may pass: whose session it ends is
// the client's business.
func (x *exchange) protect() *flow.Error {
	f := x.flow
	if f.Unprotected {
		return nil
	}
	for i := range len(x.rules) + len(x.behind) {
		r := x.ruleAt(i)
		if !r.Protects(f) || x.isOwn(r) {
			continue
		}
		detail := fmt.Sprintf("rule %q protects the session from this request (protect)", r.Name)
		x.tell(r, flow.ActionRefuse, detail)
		return &flow.Error{Status: 403, Reason: flow.ReasonProtected, Detail: detail,
			Next: "to send it all the same, add the header " + DirectiveProtect + ": off; to end a session of your own, name its place, such as " + DirectiveKeep + ": cookie:sessid"}
	}
	return nil
}

// ruleAt is a rule that covers the request, those behind a stop included: what
// they protect may be the session that a rule before them uses.
func (x *exchange) ruleAt(i int) *rule.Rule {
	if i < len(x.rules) {
		return x.rules[i]
	}
	return x.behind[i-len(x.rules)]
}

// keepsAll reports whether the client keeps every place that the rule fills.
func (x *exchange) keepsAll(r *rule.Rule) bool {
	return len(x.flow.Keep) > 0 && x.fillsNothing(r, func(u *rule.Update) bool { return x.flow.Keeps(u.Target.Place()) })
}

// isOwn reports whether every place that the rule fills will hold a value of
// the client's own.
func (x *exchange) isOwn(r *rule.Rule) bool {
	x.message.Renew(x.flow.Request, x.held.content())
	return x.fillsNothing(r, func(u *rule.Update) bool {
		return x.flow.Keeps(u.Target.Place()) || r.KeepForeign && x.isForeign(u)
	})
}

func (x *exchange) fillsNothing(r *rule.Rule, isLeft func(*rule.Update) bool) bool {
	targets := 0
	for i := range r.Updates {
		u := &r.Updates[i]
		if !u.Puts() {
			continue
		}
		if targets++; !isLeft(u) {
			return false
		}
	}
	return targets > 0 && !usesCookies(r)
}
