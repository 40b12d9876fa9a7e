package session

import (
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// DefaultCredentials are the request fields that commonly hold what somebody is
// known by, and what belongs to a session of his.
func DefaultCredentials() []string {
	return []string{"Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "X-Csrf-Token", "X-Xsrf-Token", "Csrf-Token"}
}

// strip takes the credentials out of a request that speaks for nobody: the
// fields that are known for them, and the places that the rules fill. A body is
// left alone, and so is what the client keeps.
func (e *Engine) strip(f *flow.Flow, rules []*rule.Rule) {
	var out []string
	for _, name := range e.credentials {
		place := "header:" + strings.ToLower(name)
		if f.Keeps(place) || place == "header:cookie" && keepsCookie(f) {
			continue
		}
		if f.Request.Has(name) {
			f.Edit().Del(name)
			out = append(out, place)
		}
	}
	m := rule.Message{Request: f.Request}
	for _, r := range rules {
		for i := range r.Updates {
			t := r.Updates[i].Target
			if t == nil || f.Keeps(t.Place()) {
				continue
			}
			if _, there := t.Current(&m); !there {
				continue
			}
			m.Request = f.Edit()
			if t.Remove(&m) {
				out = append(out, t.Place())
			}
		}
	}
	if len(out) > 0 {
		e.tell(f, flow.ActionStrip, "taken out, since the request is anonymous: "+strings.Join(out, ", "))
	}
}

// keepsCookie reports whether a single cookie is kept: then those that rules
// fill are taken out one by one, and others stay.
func keepsCookie(f *flow.Flow) bool {
	for _, place := range f.Keep {
		if strings.HasPrefix(place, "cookie:") {
			return true
		}
	}
	return false
}
