package holdfast

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/browser"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// edition is a configuration with what is made of it. It never changes, once it
// holds: another one takes its place, and requests that began under it end under
// it.
type edition struct {
	number   uint64 // from 1
	file     *config.File
	identity string // who requests speak for that name nobody
	engine   *session.Engine
	pool     *upstream.Pool
	throttle *upstream.Throttle
	browser  *browser.Runner // nil where nothing listens
	handler  flow.Handler    // for requests of clients
}

// firstEdition makes what New was given hold.
func (h *Holdfast) firstEdition() error {
	e := &edition{number: 1, file: h.config.File, pool: h.newPool(h.config.File), throttle: throttle(h.config.File.Ways.Throttle)}
	c, err := h.engineFor(e, h.changed.Variables)
	if err == nil {
		e.engine, err = session.New(c)
	}
	if err != nil {
		e.pool.Close()
		return err
	}
	e.handler = h.pipeline(e)
	h.holds.Store(e)
	return nil
}

func (h *Holdfast) newPool(file *config.File) *upstream.Pool {
	c := h.config
	return upstream.New(upstream.Config{Policy: h.policy, Insecure: c.Insecure, Roots: c.Roots, Refuse: h.refuseSelf,
		Ways: ways(file.Ways, c.Upstream), Limits: poolLimits(file)})
}

// engineFor is what the engine of an edition is made of.
func (h *Holdfast) engineFor(e *edition, byHand []variable) (session.Config, error) {
	c, identity, err := engineConfig(e.file, h.config.Identity)
	if err != nil {
		return c, err
	}
	e.identity = identity
	lay(byHand, &c)
	c.Keeper, c.Fleet, c.Exec, c.Ask = keeperOf(h.config.Store), fleetOf(h.config.Store, h.node), e.execute, h.asker()
	c.Browser = func(ctx context.Context, l *session.Login) error { return h.browse(ctx, e, l) }
	c.Send, c.IDs, c.Warn = h.own(e), h.ids, h.config.Warn
	c.Changed = h.config.Changed
	return c, nil
}

// Reloaded says what changed when another configuration began to hold.
type Reloaded struct {
	Number     uint64 // of configurations since Holdfast began; the first is 1
	Rules      Difference
	Macros     Difference
	Identities Difference
	Keys       []string // of the file beside these, that say something else than before
	Sessions   session.Handover
}

// Difference lists names, in the order of the files.
type Difference struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
}

// Nothing reports whether there is no difference.
func (d *Difference) Nothing() bool { return len(d.Added)+len(d.Removed)+len(d.Changed) == 0 }

// String says it in one line, such as "+a -b ~c".
func (d *Difference) String() string {
	var all []string
	for _, one := range []struct {
		sign  string
		names []string
	}{{"+", d.Added}, {"-", d.Removed}, {"~", d.Changed}} {
		for _, name := range one.names {
			all = append(all, one.sign+name)
		}
	}
	return strings.Join(all, " ")
}

// String says what changed in one line.
func (r *Reloaded) String() string {
	var all []string
	for _, one := range []struct {
		word string
		d    *Difference
	}{{"rules", &r.Rules}, {"macros", &r.Macros}, {"identities", &r.Identities}} {
		if !one.d.Nothing() {
			all = append(all, one.word+" "+one.d.String())
		}
	}
	if len(r.Keys) > 0 {
		all = append(all, "changed: "+strings.Join(r.Keys, ", "))
	}
	if len(all) == 0 {
		all = append(all, "nothing is different")
	}
	all = append(all, fmt.Sprintf("sessions: %d go on", r.Sessions.GoOn))
	if n := r.Sessions.Anew; len(n) > 0 {
		all = append(all, "begin anew: "+strings.Join(n, "; "))
	}
	if n := r.Sessions.GaveUp; len(n) > 0 {
		all = append(all, "given up: "+strings.Join(n, "; "))
	}
	return fmt.Sprintf("configuration %d holds: %s", r.Number, strings.Join(all, "; "))
}

// A RestartError says which keys of a configuration cannot be changed while
// Holdfast runs.
type RestartError struct{ Keys []string }

func (e *RestartError) Error() string {
	return "these keys cannot be changed while Holdfast runs: " + strings.Join(e.Keys, ", ") + "; restart it with the new configuration, or leave them as they are"
}

// change has another configuration hold. changing is held.
func (h *Holdfast) change(file *config.File, byHand []variable) (*Reloaded, error) {
	before := h.holds.Load()
	if keys := fixed(before.file, file); len(keys) > 0 {
		return nil, &RestartError{keys}
	}
	c := h.config
	c.File = file
	if err := errors.Join(askable(c), h.spoken(file)); err != nil {
		return nil, err
	}
	e := &edition{number: before.number + 1, file: file, pool: before.pool, throttle: before.throttle, browser: before.browser}
	if !sameWays(before.file, file) {
		e.pool = h.newPool(file)
	}
	if !reflect.DeepEqual(before.file.Ways.Throttle, file.Ways.Throttle) {
		e.throttle = throttle(file.Ways.Throttle)
	}
	if before.browser != nil && before.file.Browser != file.Browser {
		e.browser = h.newBrowser(file)
	}
	of, err := h.engineFor(e, byHand)
	if err != nil {
		return nil, err
	}
	engine, sessions, err := before.engine.Next(of)
	if err != nil {
		return nil, err
	}
	e.engine = engine
	e.handler = h.pipeline(e)
	h.holds.Store(e)
	if e.pool != before.pool {
		h.retire(before.pool)
	}
	out := difference(before.file, file)
	out.Number, out.Sessions = e.number, *sessions
	if h.config.Reloaded != nil {
		h.config.Reloaded(out)
	}
	return out, nil
}

// retire has the connections of a pool close when they are no longer in use.
func (h *Holdfast) retire(p *upstream.Pool) {
	p.Retire()
	h.pools = append(slices.DeleteFunc(h.pools, (*upstream.Pool).Rests), p)
}

// spoken reports listeners whose identity a configuration does not have.
func (h *Holdfast) spoken(file *config.File) error {
	for _, p := range h.config.Listen {
		if _, known := file.Identities[p.Identity]; p.Identity != "" && !known && p.Identity != flow.Anonymous {
			return fmt.Errorf("there is no identity %q for %s; the configuration has: %s", p.Identity, p.Address, list(file.Order))
		}
	}
	return nil
}

// fixed are the keys that say something else, and that hold as long as Holdfast
// runs.
func fixed(before, after *config.File) []string {
	return unequal([]keyed{
		{"listen", before.Listen, after.Listen},
		{"proxy_password", before.ProxyPassword, after.ProxyPassword},
		{"pass_through", before.PassThrough, after.PassThrough},
		{"auto_pass_through", before.AutoPassThrough, after.AutoPassThrough},
		{"framing", before.Framing, after.Framing},
		{"history", before.History, after.History},
		{"limits.connections", before.Limits.Connections, after.Limits.Connections},
		{"limits.large_heads", before.Limits.LargeHeads, after.Limits.LargeHeads},
	})
}

// keyed is what two configurations say of a key.
type keyed struct {
	name          string
	before, after any
}

// unequal names the keys of which they do not say the same.
func unequal(all []keyed) (names []string) {
	for _, k := range all {
		if !reflect.DeepEqual(k.before, k.after) {
			names = append(names, k.name)
		}
	}
	return names
}

// sameWays reports whether connections of one configuration are of use to the
// other.
func sameWays(a, b *config.File) bool {
	x, y := a.Ways, b.Ways
	x.Throttle, y.Throttle = nil, nil
	return reflect.DeepEqual(x, y)
}

// difference is what is otherwise in another configuration.
func difference(before, after *config.File) *Reloaded {
	out := &Reloaded{}
	collect := func(f *config.File) (rules, macros, identities []named) {
		for i := range f.Rules {
			r := &f.Rules[i]
			rules = append(rules, named{r.Name, fmt.Sprint(r.Enabled, r.Digest)})
		}
		for _, m := range f.Macros {
			macros = append(macros, named{m.Name, m.Digest})
		}
		for _, name := range f.Order {
			identities = append(identities, named{name, f.Identities[name]})
		}
		return rules, macros, identities
	}
	rules, macros, identities := collect(before)
	rules2, macros2, identities2 := collect(after)
	out.Rules, out.Macros, out.Identities = differ(rules, rules2), differ(macros, macros2), differ(identities, identities2)
	out.Keys = unequal([]keyed{
		{"variables", before.Variables, after.Variables},
		{"auto_extract", before.AutoExtract, after.AutoExtract},
		{"auto_inject", before.AutoInject, after.AutoInject},
		{"anonymous", before.Credentials, after.Credentials},
		{"cookie_jar", before.CookieJar, after.CookieJar},
		{"lockout", before.Lockout, after.Lockout},
		{"limits", before.Limits, after.Limits},
		{"browser", before.Browser, after.Browser},
		{"throttle", before.Ways.Throttle, after.Ways.Throttle},
	})
	if !sameWays(before, after) {
		out.Keys = append(out.Keys, "ways out")
	}
	return out
}

// named is an entry of a configuration, with what it says.
type named struct {
	name string
	says any
}

func differ(before, after []named) (d Difference) {
	d = Difference{Added: []string{}, Removed: []string{}, Changed: []string{}}
	had := make(map[string]any)
	for _, n := range before {
		had[n.name] = n.says
	}
	for _, n := range after {
		says, ok := had[n.name]
		switch {
		case !ok:
			d.Added = append(d.Added, n.name)
		case !reflect.DeepEqual(says, n.says):
			d.Changed = append(d.Changed, n.name)
		}
		delete(had, n.name)
	}
	for _, n := range before {
		if _, gone := had[n.name]; gone {
			d.Removed = append(d.Removed, n.name)
		}
	}
	return d
}
