package holdfast

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
)

// Engine is what keeps the identities logged in, as the configuration says that
// holds: for looking at sessions, and for changing them by hand. Ask for it anew
// each time.
func (h *Holdfast) Engine() *session.Engine { return h.holds.Load().engine }

// File is the configuration that holds.
func (h *Holdfast) File() *config.File { return h.holds.Load().file }

// Identity is who requests speak for that name nobody; "" is the first of the
// configuration, or the only one that there is where it names none.
func (h *Holdfast) Identity() string { return h.holds.Load().identity }

// Rules lists the rules in the order of the configuration, those that are
// switched off too.
func (h *Holdfast) Rules() []rule.Rule { return slices.Clone(h.File().Rules) }

// SetRuleEnabled switches a rule on or off, by its name or ID, for requests that
// begin later; see Change. changed says whether it was otherwise before.
func (h *Holdfast) SetRuleEnabled(name string, on bool) (changed bool, err error) {
	h.changing.Lock() // what the rule says else is not to change meanwhile
	defer h.changing.Unlock()
	file := h.File()
	i := slices.IndexFunc(file.Rules, func(r rule.Rule) bool { return r.Name == name || r.ID != "" && r.ID == name })
	if i < 0 {
		var names []string
		for _, r := range file.Rules {
			names = append(names, r.Name)
		}
		return false, &flow.Error{Status: 404, Reason: flow.ReasonRule, Detail: fmt.Sprintf("there is no rule %q", name), Next: "name one of: " + list(names)}
	}
	if file.Rules[i].Enabled == on {
		return false, nil
	}
	e, err := file.Switched(file.Rules[i].Name, on)
	if err != nil {
		return false, err
	}
	_, err = h.apply(Edit{Kind: e.Kind, Name: e.Name, Text: e.Text})
	return err == nil, err
}

// Sender is how requests of Holdfast's own are sent that belong to no session: by
// the ways out that hold now, past the rules, recorded as others are.
func (h *Holdfast) Sender() flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error { return h.own(h.holds.Load())(ctx, f) }
}

// NewID names a flow for Sender.
func (h *Holdfast) NewID() flow.ID { return h.ids.Next(time.Now()) }

// Another is the configuration of another Holdfast that reaches origins as this
// one does, for trying something out: it keeps nothing, and has no listeners.
func (h *Holdfast) Another() Config {
	c := h.config
	return Config{File: h.File(), Home: c.Home, Identity: c.Identity, Upstream: c.Upstream, Insecure: c.Insecure, Roots: c.Roots, Framing: c.Framing, Warn: c.Warn,
		Browser: c.Browser, Ask: c.Ask}
}

// Shield keeps the proxy from being used to reach an address of this machine,
// such as that of its own API: whoever it speaks for, and however the address
// is named. Call it before Run.
func (h *Holdfast) Shield(addr net.Addr) { h.server.Shield(addr) }

// Connections is how many connections with clients are open.
func (h *Holdfast) Connections() int { return h.server.Connections() }

// Uptime is for how long it has been there.
func (h *Holdfast) Uptime() time.Duration { return time.Since(h.began) }
