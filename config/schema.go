package config

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The functions below are the format: one table per mapping. What is read is
// a draft, words with their places; compile makes the real thing of it.

const (
	tableFile       = "the file"
	tableIdentity   = "an identity"
	tableMacro      = "a macro"
	tableStep       = "a step"
	tableExtraction = "an extraction"
	tableSource     = "a source"
	tableTarget     = "a target"
	tableRule       = "a rule"
	tableScope      = "a scope"
	tableProject    = "the project's scope"
	tableAnonymous  = "anonymous"
	tableURLs       = "an entry of URLs"
	tableValidation = "a validation"
	tableCheck      = "a check_type"
	tableHeader     = "the value of HeaderContains"
	tableConfirm    = "confirm"
	tableProbe      = "a probe"
	tableProactive  = "proactive"
	tableUpdate     = "a token update"
	tablePreset     = "a preset"
	tableLockout    = "lockout"
	tableLimits     = "limits"
	tableListener   = "a listener"
	tableJar        = "cookie_jar"
)

// tables lists every mapping of the format with its keys.
func tables() map[string][]formatKey {
	all := wayTables()
	maps.Copy(all, actionTables())
	maps.Copy(all, browserTables())
	maps.Copy(all, map[string][]formatKey{
		tableFile: keysOf(fileFields()), tableIdentity: keysOf(identityFields()),
		tableOAuth: keysOf(oauthFields()), tableRepeat: keysOf(repeatFields()), tableAuth: keysOf(authFields()), tableIdentityAuth: keysOf(identityAuthFields()), tableExec: keysOf(execFields()), tablePrompt: keysOf(promptFields()), tableRedirects: keysOf(redirectsFields()),
		tableMacro: keysOf(macroFields()), tableStep: keysOf(stepFields()),
		tableExtraction: keysOf(extractionFields()), tableSource: keysOf(sourceFields()),
		tableTarget: keysOf(targetFields()), tableRule: keysOf(ruleFields()),
		tableScope: keysOf(scopeFields()), tableProject: keysOf(projectFields()), tableURLs: keysOf(urlsFields()),
		tableValidation: keysOf(validationFields()),
		tableCheck:      keysOf(checkFields()), tableHeader: keysOf(headerFields()),
		tableConfirm: keysOf(confirmFields()), tableProbe: keysOf(probeFields()), tableProactive: keysOf(proactiveFields()),
		tableUpdate: keysOf(updateFields()),
		tablePreset: keysOf(presetFields()), tableLockout: keysOf(lockoutFields()),
		tableLimits: keysOf(limitsFields()), tableListener: keysOf(listenerFields()),
		tableJar: keysOf(jarFields()), tableHistory: keysOf(historyFields()),
		tableAnonymous: keysOf(anonymousFields()),
	})
	return all
}

type fileDraft struct {
	variables   []variable
	identities  []identityDraft
	macros      []macroDraft
	rules       []ruleDraft
	project     *projectDraft
	protect     []protectDraft
	credentials []word
	autoExtract bool
	autoInject  bool
	framing     word
	lockout     Lockout
	limits      Limits
	history     historyDraft
	ways        Ways
	origins     []originDraft
	listeners   []listenerDraft
	password    word
	passThrough []word
	autoPass    bool
	jar         *jarDraft // nil: not written
	browsers    []browserDraft
	program     Program
}

// variable is a name with its value, which is already put together from the
// environment and from files.
type variable struct {
	name, value string
	broken      bool // a reference in it could not be followed
}

type identityDraft struct {
	name      string
	variables []variable
	cookies   word
	pool      poolDraft
	totp      word
	auths     []authDraft
}

func fileFields() []field[fileDraft] {
	return slices.Concat([]field[fileDraft]{
		{"variables", "", func(d *decoder, n *yaml.Node, f *fileDraft) { f.variables = d.variables(n) }},
		{"identities", "", func(d *decoder, n *yaml.Node, f *fileDraft) { f.identities = d.identities(n) }},
		{"macros", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			f.macros = each(d, n, "macros", tableMacro, macroFields(), func(m *macroDraft, n *yaml.Node) { m.n = n })
		}},
		{"rules", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			d.list(n, "rules", func(n *yaml.Node) {
				before := len(d.problems)
				r := ruleDraft{n: n, enabled: true}
				if object(d, n, tableRule, ruleFields(), &r) {
					r.broken = len(d.problems) > before
					f.rules = append(f.rules, r)
				}
			})
		}},
		{"scope", "", func(d *decoder, n *yaml.Node, f *fileDraft) { f.project = d.project(n) }},
		{"protect", "", func(d *decoder, n *yaml.Node, f *fileDraft) { f.protect = d.protect(n) }},
		{"anonymous", "", func(d *decoder, n *yaml.Node, f *fileDraft) { object(d, n, tableAnonymous, anonymousFields(), f) }},
		{"auto_extract", "", flag("auto_extract", func(f *fileDraft) *bool { return &f.autoExtract })},
		{"auto_inject", "", flag("auto_inject", func(f *fileDraft) *bool { return &f.autoInject })},
		{"framing", "", choice("framing", framingWords(), func(f *fileDraft) *word { return &f.framing })},
		{"cookie_jar", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			f.jar = &jarDraft{observe: true}
			object(d, n, tableJar, jarFields(), f.jar)
		}},
		{"lockout", "", func(d *decoder, n *yaml.Node, f *fileDraft) { object(d, n, tableLockout, lockoutFields(), &f.lockout) }},
		{"limits", "", func(d *decoder, n *yaml.Node, f *fileDraft) { object(d, n, tableLimits, limitsFields(), &f.limits) }},
		{"listen", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			f.listeners = each(d, n, "listen", tableListener, listenerFields(), func(l *listenerDraft, n *yaml.Node) { l.n = n })
		}},
		{"proxy_password", "", single("proxy_password", func(f *fileDraft) *word { return &f.password })},
		{"pass_through", "", words("pass_through", func(f *fileDraft) *[]word { return &f.passThrough })},
		{"auto_pass_through", "", flag("auto_pass_through", func(f *fileDraft) *bool { return &f.autoPass })},
	}, historyKeys(), browserKeys(), wayKeys())
}

// each reads a list of mappings. prepare, where there is one, sets defaults.
func each[T any](d *decoder, n *yaml.Node, list, what string, fields []field[T], prepare func(*T, *yaml.Node)) []T {
	var all []T
	d.list(n, list, func(n *yaml.Node) {
		var t T
		if prepare != nil {
			prepare(&t, n)
		}
		if object(d, n, what, fields, &t) {
			all = append(all, t)
		}
	})
	return all
}

func identityFields() []field[identityDraft] {
	return append([]field[identityDraft]{
		{"variables", "", func(d *decoder, n *yaml.Node, i *identityDraft) { i.variables = d.variables(n) }},
		{"cookies", "", single("cookies", func(i *identityDraft) *word { return &i.cookies })},
		{"totp", "", single("totp", func(i *identityDraft) *word { return &i.totp })},
		{"auth", "", identityAuths},
	}, poolFields()...)
}

func lockoutFields() []field[Lockout] {
	return []field[Lockout]{
		{"failures", "", number("failures", 1, 1000, func(l *Lockout) *int { return &l.Failures })},
		{"window", "", duration("window", time.Second, 30*24*time.Hour, func(l *Lockout) *time.Duration { return &l.Window })},
	}
}

func limitsFields() []field[Limits] {
	return []field[Limits]{
		{"resend_body", "", size("resend_body", 1, 16<<30, func(l *Limits) *int64 { return &l.ResendBody })},
		{"memory_body", "", size("memory_body", 1, 1<<30, func(l *Limits) *int64 { return &l.MemoryBody })},
		{"edited_body", "", size("edited_body", 1, 64<<20, func(l *Limits) *int64 { return &l.EditedBody })},
		{"judged_body", "", size("judged_body", 1, 256<<20, func(l *Limits) *int64 { return &l.JudgedBody })},
		{"hold", "", duration("hold", 10*time.Millisecond, 10*time.Minute, func(l *Limits) *time.Duration { return &l.Hold })},
		{"wait", "", duration("wait", time.Second, time.Hour, func(l *Limits) *time.Duration { return &l.Wait })},
		{"unreachable", "", duration("unreachable", time.Second, time.Hour, func(l *Limits) *time.Duration { return &l.Unreachable })},
		{"memory", "", size("memory", 1<<20, 1<<40, func(l *Limits) *int64 { return &l.Memory })},
		{"disk", "", size("disk", 1, 1<<50, func(l *Limits) *int64 { return &l.Disk })},
		{"connections", "", number("connections", 1, 1_000_000, func(l *Limits) *int { return &l.Connections })},
		{"script", "", func(d *decoder, n *yaml.Node, l *Limits) {
			object(d, n, tableScriptLimits, scriptLimitFields(), &l.Script)
		}},
		{"large_heads", "", number("large_heads", 1, 10_000, func(l *Limits) *int { return &l.LargeHeads })},
	}
}

type macroDraft struct {
	name, id word
	inputs   []inputDraft
	n        *yaml.Node
	oauth    *oauthDraft
	once     bool
	said     bool // that it has steps, or a grant
	steps    []stepDraft
}

type stepDraft struct {
	n         *yaml.Node
	name      word
	exec      *execDraft
	prompt    *promptDraft
	wait      time.Duration
	request   word
	script    *scriptDraft // nil: the step is no script
	tls       bool
	redirects redirectsDraft
	bareIn    bool // send_cookies: false
	bareOut   bool // keep_cookies: false
	auth      *authDraft
	repeat    *repeatDraft
	extract   []extractionDraft
	expect    word
}

type extractionDraft struct {
	token    word
	source   *sourceDraft
	optional bool
	equals   word
}

func macroFields() []field[macroDraft] {
	return []field[macroDraft]{
		{"name", "give it a name; rules say it in reauth_macro", single("a macro's name", func(m *macroDraft) *word { return &m.name })},
		{"id", "", single("a macro's id", func(m *macroDraft) *word { return &m.id })},
		{"oauth2", "", func(d *decoder, n *yaml.Node, m *macroDraft) {
			m.said = true
			o := oauthDraft{n: n}
			if object(d, n, tableOAuth, oauthFields(), &o) {
				m.oauth = &o
			}
		}},
		{"inputs", "", func(d *decoder, n *yaml.Node, m *macroDraft) { m.inputs = inputs("inputs", true)(d, n) }},
		{"steps", "", func(d *decoder, n *yaml.Node, m *macroDraft) {
			m.said = true
			m.steps = each(d, n, "steps", tableStep, stepFields(), func(s *stepDraft, n *yaml.Node) { s.tls, s.n = true, n })
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				d.errorAt(n, "add the requests to send, in order", "a macro needs at least one step")
			}
		}},
	}
}

func stepFields() []field[stepDraft] {
	return append([]field[stepDraft]{
		{"name", "", single("a step's name", func(s *stepDraft) *word { return &s.name })},
		{"request", "", single("a request", func(s *stepDraft) *word { return &s.request })},
		{"script", "", func(d *decoder, n *yaml.Node, s *stepDraft) {
			program := d.programOf(n, tableCode, codeFields())
			s.script = &program
		}},
		{"tls", "", flag("tls", func(s *stepDraft) *bool { return &s.tls })},
		{"extract", "", func(d *decoder, n *yaml.Node, s *stepDraft) {
			s.extract = each(d, n, "extract", tableExtraction, extractionFields(), nil)
		}},
		{"expect", "", single("expect", func(s *stepDraft) *word { return &s.expect })},
	}, append(flowFields(), localFields()...)...)
}

func extractionFields() []field[extractionDraft] {
	return []field[extractionDraft]{
		{"token_name", needTokenName, single("token_name", func(e *extractionDraft) *word { return &e.token })},
		{"source", needSource, func(d *decoder, n *yaml.Node, e *extractionDraft) { e.source = d.source(n) }},
		{"optional", "", flag("optional", func(e *extractionDraft) *bool { return &e.optional })},
		{"equals", "", single("equals", func(e *extractionDraft) *word { return &e.equals })},
	}
}

const (
	needTokenName = "name the variable that takes the value"
	needSource    = "say where the value comes from: source: {type: JSON, path: access_token}"
	needTarget    = "say where the value goes: target: {type: RequestHeader, name: Authorization}"
)

type ruleDraft struct {
	n           *yaml.Node
	name, id    word
	scope       *scopeDraft
	validation  *validationDraft
	recovery    []word
	inputs      []inputDraft
	auth        *authDraft
	updates     []updateDraft
	actions     []actionDraft
	trigger     *triggerDraft
	run         word
	preset      *presetDraft
	resend      word
	onFailure   word
	keepForeign bool
	protect     []protectDraft
	proactive   *rule.Proactive
	enabled     bool
	priority    int
	broken      bool // it has mistakes, so what it lacks may be one of them
}

type validationDraft struct {
	check      *checkDraft
	closeCodes []int
	confirm    word
	probe      *probeDraft
}

type updateDraft struct {
	n        *yaml.Node
	token    word
	source   *sourceDraft
	target   *targetDraft
	optional bool
}

type sourceDraft struct {
	n    *yaml.Node
	keys places
}

type targetDraft struct {
	n    *yaml.Node
	keys places
}

// places are the keys of a source or a target that were given. Which of them
// have a meaning depends on the type.
type places map[string]word

type presetDraft struct {
	n      *yaml.Node
	name   word
	params []parameter
}

type parameter struct {
	key   *yaml.Node
	value word
}

func ruleFields() []field[ruleDraft] {
	return []field[ruleDraft]{
		{"name", "give the rule a name; traces and messages say it", single("a rule's name", func(r *ruleDraft) *word { return &r.name })},
		{"id", "", single("a rule's id", func(r *ruleDraft) *word { return &r.id })},
		{"scope", "say which requests it is for: scope: {pattern: \"*.example.com\", target: host}", func(d *decoder, n *yaml.Node, r *ruleDraft) {
			r.scope = d.scope(n)
		}},
		{"validation", "", func(d *decoder, n *yaml.Node, r *ruleDraft) {
			var v validationDraft
			fields := validationFields()
			if hasKey(n, "close_codes") || hasKey(n, "probe") {
				fieldNamed(fields, "check_type").need = "" // one of them is enough
			}
			if object(d, n, tableValidation, fields, &v) {
				r.validation = &v
			}
		}},
		{"reauth_macro", "", words("reauth_macro", func(r *ruleDraft) *[]word { return &r.recovery })},
		{"macro_inputs", "", func(d *decoder, n *yaml.Node, r *ruleDraft) { r.inputs = inputs("macro_inputs", false)(d, n) }},
		{"auth", "", auth(func(r *ruleDraft) **authDraft { return &r.auth })},
		{"token_updates", "", func(d *decoder, n *yaml.Node, r *ruleDraft) {
			r.updates = each(d, n, "token_updates", tableUpdate, updateFields(), func(u *updateDraft, n *yaml.Node) { u.n = n })
		}},
		{"on", "", func(d *decoder, n *yaml.Node, r *ruleDraft) { r.trigger = d.trigger(n) }},
		{"run", "", single("run", func(r *ruleDraft) *word { return &r.run })},
		{"actions", "", func(d *decoder, n *yaml.Node, r *ruleDraft) { r.actions = d.actions(n) }},
		{"preset", "", func(d *decoder, n *yaml.Node, r *ruleDraft) { r.preset = d.preset(n) }},
		{"resend", "", choice("resend", resendWords(), func(r *ruleDraft) *word { return &r.resend })},
		{"on_failure", "", choice("on_failure", onFailureWords(), func(r *ruleDraft) *word { return &r.onFailure })},
		{"protect", "", func(d *decoder, n *yaml.Node, r *ruleDraft) { r.protect = d.protect(n) }},
		{"keep_foreign", "", flag("keep_foreign", func(r *ruleDraft) *bool { return &r.keepForeign })},
		{"proactive", "", func(d *decoder, n *yaml.Node, r *ruleDraft) { r.proactive = d.proactive(n) }},
		{"enabled", "", flag("enabled", func(r *ruleDraft) *bool { return &r.enabled })},
		{"priority", "", number("priority", -1_000_000, 1_000_000, func(r *ruleDraft) *int { return &r.priority })},
	}
}

func resendWords() []string {
	return []string{string(rule.ResendAlways), string(rule.ResendSafe), string(rule.ResendNever)}
}

func framingWords() []string {
	return []string{wire.Strict.String(), wire.Lenient.String(), wire.Raw.String()}
}

func onFailureWords() []string { return []string{string(rule.FailClosed), string(rule.FailPass)} }

func validationFields() []field[validationDraft] {
	return []field[validationDraft]{
		{"check_type", "say how a dead session shows: check_type: {type: StatusCode, value: [401]}", func(d *decoder, n *yaml.Node, v *validationDraft) { v.check = d.check(n) }},
		{"close_codes", "", func(d *decoder, n *yaml.Node, v *validationDraft) { v.closeCodes = d.closeCodes(n) }},
		{"confirm", "", func(d *decoder, n *yaml.Node, v *validationDraft) { object(d, n, tableConfirm, confirmFields(), v) }},
		{"probe", "", func(d *decoder, n *yaml.Node, v *validationDraft) {
			var p probeDraft
			if object(d, n, tableProbe, probeFields(), &p) {
				v.probe = &p
			}
		}},
	}
}

func confirmFields() []field[validationDraft] {
	return []field[validationDraft]{
		{"macro", "name the macro that asks: confirm: {macro: whoami}", single("macro", func(v *validationDraft) *word { return &v.confirm })},
	}
}

func updateFields() []field[updateDraft] {
	return []field[updateDraft]{
		{"token_name", needTokenName, single("token_name", func(u *updateDraft) *word { return &u.token })},
		{"source", "", func(d *decoder, n *yaml.Node, u *updateDraft) { u.source = d.source(n) }},
		{"target", "", func(d *decoder, n *yaml.Node, u *updateDraft) {
			t := targetDraft{n: n, keys: make(places)}
			if object(d, n, tableTarget, targetFields(), &t.keys) {
				u.target = &t
			}
		}},
		{"optional", "", flag("optional", func(u *updateDraft) *bool { return &u.optional })},
	}
}

func presetFields() []field[presetDraft] {
	return []field[presetDraft]{
		{"name", "write one of " + strings.Join(rule.PresetNames(), ", "), single("a preset's name", func(p *presetDraft) *word { return &p.name })},
		{"params", "", func(d *decoder, n *yaml.Node, p *presetDraft) {
			pairs, _ := d.pairs(n, "params")
			for _, kv := range pairs {
				if w, ok := d.word(kv.value, "a parameter"); ok {
					p.params = append(p.params, parameter{key: kv.key, value: w})
				}
			}
		}},
	}
}

// preset reads `preset: jwt_bearer` or `preset: {name: …, params: {…}}`.
func (d *decoder) preset(n *yaml.Node) *presetDraft {
	p := presetDraft{n: n}
	if n.Kind == yaml.ScalarNode {
		single("a preset's name", func(p *presetDraft) *word { return &p.name })(d, n, &p)
	} else {
		object(d, n, tablePreset, presetFields(), &p)
	}
	if !p.name.given() {
		return nil
	}
	return &p
}
