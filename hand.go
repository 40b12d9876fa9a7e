package holdfast

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// ruleList is the rules of the configuration, with those switched off and on
// that a person switched since.
type ruleList struct {
	mu  sync.Mutex // one change at a time
	all []rule.Rule
}

// Engine is what keeps the identities logged in: for looking at sessions, and
// for changing them by hand.
func (h *Holdfast) Engine() *session.Engine { return h.engine }

// File is the configuration that it began with.
func (h *Holdfast) File() *config.File { return h.config.File }

// Identity is who requests speak for that name nobody; "" is the first of the
// configuration, or the only one that there is where it names none.
func (h *Holdfast) Identity() string { return h.config.Identity }

// Rules lists the rules in the order of the configuration, those that are
// switched off too.
func (h *Holdfast) Rules() []rule.Rule {
	h.rules.mu.Lock()
	defer h.rules.mu.Unlock()
	return slices.Clone(h.rules.all)
}

// SetRuleEnabled switches a rule on or off, by its name or ID, for requests that
// begin later. It holds until Holdfast ends; the file stays as it is. changed
// says whether it was otherwise before.
func (h *Holdfast) SetRuleEnabled(name string, on bool) (changed bool, err error) {
	h.rules.mu.Lock()
	defer h.rules.mu.Unlock()
	i := slices.IndexFunc(h.rules.all, func(r rule.Rule) bool { return r.Name == name || r.ID != "" && r.ID == name })
	if i < 0 {
		var names []string
		for _, r := range h.rules.all {
			names = append(names, r.Name)
		}
		return false, &flow.Error{Status: 404, Reason: flow.ReasonRule, Detail: fmt.Sprintf("there is no rule %q", name), Next: "name one of: " + list(names)}
	}
	if h.rules.all[i].Enabled == on {
		return false, nil
	}
	next := slices.Clone(h.rules.all)
	next[i].Enabled = on
	set, err := rule.Compile(next, h.config.File.Set.Globals)
	if err != nil {
		return false, err
	}
	if err := h.engine.SetRules(set); err != nil {
		return false, err
	}
	h.rules.all = next
	return true, nil
}

// Shield keeps the proxy from being used to reach an address of this machine,
// such as that of its own API: whoever it speaks for, and however the address
// is named. Call it before Run.
func (h *Holdfast) Shield(addr net.Addr) { h.server.Shield(addr) }

// Connections is how many connections with clients are open.
func (h *Holdfast) Connections() int { return h.server.Connections() }

// Uptime is for how long it has been there.
func (h *Holdfast) Uptime() time.Duration { return time.Since(h.began) }
