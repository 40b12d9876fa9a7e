package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// compile makes the file of the draft. With problems its result is not whole.
func (d *decoder) compile(name string, f *fileDraft) *File {
	file := &File{
		Name: name, Variables: variableMap(f.variables), Identities: make(map[string]Identity),
		AutoExtract: f.autoExtract, AutoInject: f.autoInject, Lockout: f.lockout, Limits: f.limits, History: f.history.History,
		Ways: f.ways,
	}
	file.Framing, _ = wire.ParsePolicy(f.framing.s) // other words were reported
	for _, i := range f.identities {
		file.Order = append(file.Order, i.name)
		file.Identities[i.name] = Identity{Variables: variableMap(i.variables), Cookies: d.cookieFile(i.cookies), Pool: i.pool.compile(), TOTP: d.totp(i.totp)}
	}
	file.Ways.Origins = d.origins(f, file.Identities)
	d.waysIn(f, file)
	names := newNames(f)
	file.Macros = d.compileBrowsers(f.browsers, d.compileMacros(f.macros, names), names)
	file.Browser, names.macros = f.program, file.Macros
	for k := range f.identities {
		i := &f.identities[k]
		if identity := file.Identities[i.name]; len(i.auths) > 0 {
			identity.Auth = d.identityAuth(i, names, &file.Ways)
			file.Identities[i.name] = identity
		}
	}
	c := ruleCompiler{decoder: d, names: names, macros: file.Macros,
		unique: uniqueNames{d: d, what: "rule", seen: make(map[string]*yaml.Node)}}
	c.scopes(f)
	c.shared = c.protections(f.protect)
	file.Credentials = d.credentials(f)
	for i := range f.rules {
		file.Rules = append(file.Rules, c.rule(&f.rules[i]))
	}
	file.Macros = c.macros
	names.check(d)
	for i := range f.rules {
		c.purpose(&f.rules[i], &file.Rules[i])
	}
	c.pools(f, file)
	c.whole(f, file)
	d.cookieJar(f, file)
	file.Sources = d.sources
	return file
}

func variableMap(all []variable) map[string]string {
	m := make(map[string]string, len(all))
	for _, v := range all {
		m[v.name] = v.value
	}
	return m
}

// ruleCompiler makes rules of drafts.
type ruleCompiler struct {
	*decoder
	names  *names
	macros []*macro.Macro
	unique uniqueNames
	shared []rule.Scope // what the file protects for all rules

	project    *rule.Project // nil without a scope of the project
	identities []string
	asked      bool // a rule uses the project's scope
}

func (c *ruleCompiler) rule(r *ruleDraft) rule.Rule {
	c.unique.add(r.name)
	c.unique.add(r.id)
	out := c.fromPreset(r)
	out.Name, out.ID, out.Enabled, out.Priority = r.name.s, r.id.s, r.enabled, r.priority
	if out.ID == "" {
		out.ID = nameUUID(r.name.s)
	}
	if r.scope != nil {
		out.Scope = c.scope(r.scope)
	}
	if v := r.validation; v != nil {
		out.Confirm = v.confirm.s
		if v.check != nil {
			out.Dead = v.check.query
		}
		out.DeadCloseCodes = v.closeCodes
		if v.confirm.given() {
			c.asks(v.confirm)
		}
		out.Probe = c.probe(v.probe)
	}
	for _, w := range r.recovery {
		if slices.Contains(out.Recovery, w.s) {
			c.warnAt(w.n, "name it once", "the macro %q stands twice in reauth_macro", w.s)
			continue
		}
		out.Recovery = append(out.Recovery, w.s)
		c.macroExists(w)
	}
	for i := range r.updates {
		out.Updates = append(out.Updates, c.update(&r.updates[i])...)
	}
	out.Actions = c.actionsOf(r)
	if r.resend.given() {
		out.Resend = rule.Resend(r.resend.s)
	}
	if r.onFailure.given() {
		out.OnFailure = rule.OnFailure(r.onFailure.s)
	}
	out.KeepForeign = r.keepForeign
	out.Protect = append(c.protections(r.protect), c.shared...)
	out.Proactive = r.proactive
	out.Auth = c.authOf(r.auth, "", 0, c.names)
	c.triggered(r, &out)
	c.bind(r, &out)
	out.Digest = c.digest(r.n)
	return out
}

// fromPreset is what the rule's preset brings, or an empty rule.
func (c *ruleCompiler) fromPreset(r *ruleDraft) rule.Rule {
	if r.preset == nil {
		return rule.Rule{}
	}
	params := make(map[string]string)
	at := make(map[string]*yaml.Node)
	for _, p := range r.preset.params {
		params[p.key.Value], at[p.key.Value] = p.value.s, p.value.n
	}
	// The preset's macro and the rule's reauth_macro are one thing.
	switch n := at[presetMacro]; {
	case n != nil && len(r.recovery) > 0:
		c.errorAt(n, "keep reauth_macro, which can be a list", "the macro is named twice: here and in reauth_macro")
	case n != nil:
		r.recovery = []word{{n: n, s: params[presetMacro]}}
	case len(r.recovery) > 0:
		params[presetMacro] = r.recovery[0].s
	}
	out, err := rule.Preset(r.preset.name.s, params)
	if err != nil {
		n := r.preset.name.n
		if e, ok := err.(*rule.Error); ok && at[e.Key] != nil {
			n = at[e.Key]
		}
		c.ruleError(err, n)
		r.broken = true
		return rule.Rule{}
	}
	out.Recovery = nil // from r.recovery, like every rule's
	for _, u := range out.Updates {
		c.note(u, r.preset.name)
		c.names.use(use{name: u.Token, n: r.preset.name.n}) // that nothing puts it in is the preset's choice
	}
	return out
}

const presetMacro = "macro"

// asks reports a macro that the file does not have, or that is a login in a
// browser: that only brings sessions.
func (c *ruleCompiler) asks(w word) {
	for _, m := range c.macros {
		if (w.s == m.Name || w.s == m.ID) && m.Browser != nil {
			c.errorAt(w.n, "name a macro with steps; a browser can stand in reauth_macro, if_invalid and recover_in_browser", "%q is a login in a browser", shorten(w.s))
			return
		}
	}
	c.macroExists(w)
}

// macroExists reports a macro that the file does not have.
func (c *ruleCompiler) macroExists(w word) {
	var known []string
	for _, m := range c.macros {
		if w.s == m.Name || w.s == m.ID {
			return
		}
		known = append(known, m.Name)
	}
	next := fmt.Sprintf("add it: macros: [{name: login, id: %s, steps: [{request: …}]}]", w.s)
	if !strings.ContainsRune(w.s, '-') {
		next = fmt.Sprintf("add it: macros: [{name: %s, steps: [{request: …}]}]", w.s)
	}
	if len(known) > 0 {
		next += "; there is " + strings.Join(known, ", ")
	}
	if s := suggest(w.s, known); s != "" {
		next = fmt.Sprintf("did you mean %q? or ", s) + next
	}
	c.errorAt(w.n, next, "there is no macro %q", shorten(w.s))
}

// update makes the update of a draft: none when it says nothing.
func (c *ruleCompiler) update(u *updateDraft) []rule.Update {
	if !u.token.given() || !c.tokenName(u.token) {
		return nil
	}
	if u.source == nil && u.target == nil {
		c.errorAt(u.n, "add source: (where the value comes from), target: (where it goes), or both", "the token update %s has neither source nor target", u.token.s)
		return nil
	}
	out := rule.Update{Token: u.token.s, Source: c.sourceOf(u.source), Optional: u.optional}
	if u.target != nil {
		out.Target = c.targetOf(u.target, u.token.s)
	}
	c.note(out, u.token)
	if t := out.Target; t != nil && t.Template != nil {
		c.names.useTemplate(u.target.keys["template"], "", 0)
	}
	return []rule.Update{out}
}

// note tells the names of an update. at is where a message about them points.
func (c *ruleCompiler) note(u rule.Update, at word) {
	if u.Source != nil {
		c.names.extract(extracted{name: u.Token, n: at.n})
	}
	if u.Source != nil {
		c.names.useScript(u.Source.Script, at.n, "", 0)
	}
	if u.Computes() {
		c.names.extract(extracted{name: u.Token, n: at.n}) // its script gives it the value, for its template
		c.names.useScript(u.Target.Script, at.n, "", 0)
	}
	if u.Target != nil {
		c.names.use(use{name: u.Token, n: at.n, injected: true})
	}
}

// purpose finds a rule that lacks a part which the others need. Of a rule with
// mistakes it says nothing.
func (c *ruleCompiler) purpose(r *ruleDraft, out *rule.Rule) {
	at := r.name.n
	if at == nil || r.broken {
		return
	}
	judges := out.Dead != nil || len(out.DeadCloseCodes) > 0 || out.Probe != nil
	check, _ := out.CheckOf()
	recovers := out.Recovers()
	if check != nil {
		judges = true
		recovers = recovers || len(check.Macros) > 0
	}
	switch {
	case !judges && len(out.Updates) == 0 && len(r.updates) == 0 && len(out.Actions) == 0 && len(r.actions) == 0 && r.trigger == nil && !r.run.given() && len(r.protect) == 0 && r.auth == nil:
		c.errorAt(at, "add validation:, reauth_macro: and token_updates:, or take the rule out", "rule %q does nothing", r.name.s)
	case judges && !recovers && learnsFromClients(out): // the check keeps dead values out
	case judges && !recovers && out.Confirm == "" && out.Probe == nil: // else package rule says so
		c.warnAt(at, "add reauth_macro: with the name of a macro that logs in", "rule %q sees a dead session and has no reauth_macro to get a new one", r.name.s)
	case !judges && recovers && r.preset == nil && r.trigger == nil:
		c.warnAt(at, "add validation:, or the macro runs only while a token has no value", "rule %q cannot see that the session is dead", r.name.s)
	}
	bringing := slices.Clone(out.Recovery)
	for i := range out.Actions {
		if run := out.Actions[i].RunMacro; run != nil {
			bringing = append(bringing, run.Macro)
		}
	}
	for _, u := range out.Updates {
		if u.Puts() && u.Source == nil && len(out.Recovery) > 0 && c.names.isExtracted(u.Token) && !c.brings(bringing, u.Token) {
			c.warnAt(at, fmt.Sprintf("extract %s in one of them: extract: [{token_name: %s, source: …}]", u.Token, u.Token),
				"rule %q puts in the token %s, and none of its macros extracts it", r.name.s, u.Token)
		}
	}
}

// learnsFromClients reports whether the rule takes tokens from requests.
func learnsFromClients(r *rule.Rule) bool {
	return slices.ContainsFunc(r.Updates, func(u rule.Update) bool {
		return u.Source != nil && u.Source.FromRequest()
	})
}

// brings reports whether one of the macros extracts the token. A macro that
// does not exist was reported and may bring anything.
func (c *ruleCompiler) brings(recovery []string, token string) bool {
	for _, name := range recovery {
		i := slices.IndexFunc(c.macros, func(m *macro.Macro) bool { return m.Name == name || m.ID == name })
		if i < 0 || slices.Contains(c.macros[i].Produces(), token) {
			return true
		}
	}
	return false
}

// whole has package rule check all rules together.
func (c *ruleCompiler) whole(f *fileDraft, file *File) {
	if len(f.rules) == 0 && len(c.problems) == 0 {
		c.warnings = append(c.warnings, Problem{File: c.text.name, What: "there are no rules: nothing is kept logged in", Next: "add rules:"})
	}
	if len(c.problems) > 0 {
		return // most of what it would say was said, with better places
	}
	globals := rule.Globals{AutoExtract: file.AutoExtract, AutoInject: file.AutoInject}
	if len(file.Order) > 0 {
		globals.Identity = file.Order[0]
	}
	set, err := rule.Compile(file.Rules, globals)
	if many, ok := err.(rule.Errors); ok {
		for _, e := range many {
			c.ruleError(e, f.rules[e.Index].n)
		}
		return
	}
	if err != nil {
		c.ruleError(err, f.rules[0].n)
		return
	}
	file.Set = set
	for _, w := range set.Warnings() {
		i := slices.IndexFunc(f.rules, func(r ruleDraft) bool { return r.name.s == w.Rule })
		if i >= 0 {
			c.warnAt(f.rules[i].name.n, "", "rule %q %s", w.Rule, w.Text)
		}
	}
}
