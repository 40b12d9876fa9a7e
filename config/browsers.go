package config

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

const (
	tableBrowserLogin  = "a browser"
	tableBrowserAction = "an action in a browser"
	tableBrowserField  = "an action on a field"
	tableBrowserMark   = "a state of a browser"
	tableBrowserTake   = "take"
	tableProgram       = "the program browser"
	tableStored        = "a value in storage"
)

func browserTables() map[string][]formatKey {
	return map[string][]formatKey{
		tableBrowserLogin: keysOf(browserLoginFields()), tableBrowserAction: keysNamed(macro.BrowserActions()),
		tableBrowserField: keysOf(browserFieldFields()), tableBrowserMark: keysOf(markFields()),
		tableProgram: keysOf(programFields()), tableBrowserTake: keysOf(takeFields()), tableStored: keysOf(storedFields()),
	}
}

type browserDraft struct {
	n          *yaml.Node
	name, id   word
	url        word
	headless   bool
	actions    []browserActionDraft
	until      markDraft
	refused    []word
	timeout    time.Duration
	wait       time.Duration
	cookies    rule.Pick
	stored     []storedDraft
	screenshot bool
}

type browserActionDraft struct {
	do, selector, value word
	mark                markDraft
}

type markDraft struct {
	n                                                  *yaml.Node
	url, selector, text, cookie, local, session, token word
}

type storedDraft struct {
	token, key, path word
	session          bool
}

// browserKeys are the file's keys that are about browsers.
func browserKeys() []field[fileDraft] {
	return []field[fileDraft]{
		{"browsers", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			f.browsers = each(d, n, "browsers", tableBrowserLogin, browserLoginFields(), func(b *browserDraft, n *yaml.Node) { b.n, b.headless = n, true })
		}},
		{"browser", "", func(d *decoder, n *yaml.Node, f *fileDraft) { object(d, n, tableProgram, programFields(), &f.program) }},
	}
}

func programFields() []field[Program] {
	return []field[Program]{
		{"path", "", func(d *decoder, n *yaml.Node, p *Program) {
			plainText("path", func(p *Program) *string { return &p.Path })(d, n, p)
			if p.Path != "" {
				d.may(n, 0, useBrowser, p.Path)
			}
		}},
		{"at_once", "", number("at_once", 1, 100, func(p *Program) *int { return &p.AtOnce })},
	}
}

func browserLoginFields() []field[browserDraft] {
	return []field[browserDraft]{
		{"name", "give it a name; rules say it in reauth_macro", single("a browser's name", func(b *browserDraft) *word { return &b.name })},
		{"id", "", single("a browser's id", func(b *browserDraft) *word { return &b.id })},
		{"url", "", single("url", func(b *browserDraft) *word { return &b.url })},
		{"headless", "", flag("headless", func(b *browserDraft) *bool { return &b.headless })},
		{"steps", "", func(d *decoder, n *yaml.Node, b *browserDraft) {
			d.list(n, "steps", func(n *yaml.Node) {
				if a, ok := d.browserAction(n); ok {
					b.actions = append(b.actions, a)
				}
			})
		}},
		{"until", "", func(d *decoder, n *yaml.Node, b *browserDraft) { d.mark(n, &b.until) }},
		{"fail_if", "", words("fail_if", func(b *browserDraft) *[]word { return &b.refused })},
		{"timeout", "", duration("timeout", time.Second, macro.MaxTimeout, func(b *browserDraft) *time.Duration { return &b.timeout })},
		{"wait", "", duration("wait", time.Second, macro.MaxTimeout, func(b *browserDraft) *time.Duration { return &b.wait })},
		{"take", "", func(d *decoder, n *yaml.Node, b *browserDraft) { object(d, n, tableBrowserTake, takeFields(), b) }},
		{"screenshot", "", flag("screenshot", func(b *browserDraft) *bool { return &b.screenshot })},
	}
}

func browserFieldFields() []field[browserActionDraft] {
	return []field[browserActionDraft]{
		{"selector", "", single("selector", func(a *browserActionDraft) *word { return &a.selector })},
		{"value", "", func(d *decoder, n *yaml.Node, a *browserActionDraft) { a.value, _ = d.word(n, "value") }},
		{"key", "", single("key", func(a *browserActionDraft) *word { return &a.value })},
	}
}

func markFields() []field[markDraft] {
	at := func(name string, into func(*markDraft) *word) field[markDraft] {
		return field[markDraft]{name, "", single(name, into)}
	}
	return []field[markDraft]{
		at("url", func(m *markDraft) *word { return &m.url }),
		at("selector", func(m *markDraft) *word { return &m.selector }),
		at("text", func(m *markDraft) *word { return &m.text }),
		at("cookie", func(m *markDraft) *word { return &m.cookie }),
		at("local_storage", func(m *markDraft) *word { return &m.local }),
		at("session_storage", func(m *markDraft) *word { return &m.session }),
		at("token", func(m *markDraft) *word { return &m.token }),
	}
}

func takeFields() []field[browserDraft] {
	storage := func(name string, session bool) field[browserDraft] {
		return field[browserDraft]{name, "", func(d *decoder, n *yaml.Node, b *browserDraft) {
			b.stored = append(b.stored, each(d, n, name, tableStored, storedFields(), func(s *storedDraft, _ *yaml.Node) { s.session = session })...)
		}}
	}
	return []field[browserDraft]{
		{"cookies", "", pick("cookies", func(b *browserDraft) *rule.Pick { return &b.cookies })},
		storage("local_storage", false),
		storage("session_storage", true),
	}
}

func storedFields() []field[storedDraft] {
	return []field[storedDraft]{
		{"token_name", needTokenName, single("token_name", func(s *storedDraft) *word { return &s.token })},
		{"key", "name the key that the page stores it under", single("key", func(s *storedDraft) *word { return &s.key })},
		{"path", "", single("path", func(s *storedDraft) *word { return &s.path })},
	}
}

// mark reads how a state shows.
func (d *decoder) mark(n *yaml.Node, m *markDraft) {
	m.n = n
	before := len(d.problems)
	if object(d, n, tableBrowserMark, markFields(), m) && len(d.problems) == before && *m == (markDraft{n: n}) {
		d.errorAt(n, "say what is there then: {url: /account}, {selector: …}, {text: …}, {cookie: …}, {local_storage: …}, {session_storage: …} or {token: …}", "nothing is waited for")
	}
}

// browserAction reads `click: SELECTOR`, `fill: {selector: …, value: …}` and so on.
func (d *decoder) browserAction(n *yaml.Node) (a browserActionDraft, ok bool) {
	pairs, ok := d.pairs(n, tableBrowserAction)
	if !ok {
		return a, false
	}
	if len(pairs) != 1 {
		d.errorAt(n, "begin each with `- ` on a line of its own: - click: button", "an action in a browser has one key, its name; this has %d", len(pairs))
		return a, false
	}
	a.do = word{pairs[0].key, pairs[0].key.Value}
	value := pairs[0].value
	if !keyLike(a.do.s) || !d.oneOf(a.do, "action in a browser", macro.BrowserActions()) {
		return a, false
	}
	switch scalar := value.Kind == yaml.ScalarNode && !isNull(value); {
	case a.do.s == macro.BrowserWait:
		d.mark(value, &a.mark)
		return a, a.mark != (markDraft{n: value})
	case scalar && (a.do.s == macro.BrowserGoto || a.do.s == macro.BrowserPress):
		a.value, ok = d.word(value, a.do.s)
	case scalar && (a.do.s == macro.BrowserClick || a.do.s == macro.BrowserCheck):
		a.selector, ok = d.word(value, a.do.s)
	default:
		ok = object(d, value, tableBrowserField, browserFieldFields(), &a)
	}
	if !ok {
		return a, false
	}
	valued := a.do.s != macro.BrowserClick && a.do.s != macro.BrowserCheck
	selects := a.do.s != macro.BrowserGoto && a.do.s != macro.BrowserPress
	switch {
	case valued && !a.value.given():
		d.errorAt(a.do.n, fmt.Sprintf("write - %s: {selector: \"#user\", value: \"{{USER}}\"}; a key for press, a URL for goto", a.do.s), "%s says no value", a.do.s)
	case !valued && a.value.given():
		d.errorAt(a.value.n, "take it out", "%s takes no value", a.do.s)
	case selects && a.selector.s == "":
		d.errorAt(a.do.n, fmt.Sprintf("write - %s: {selector: \"#user\", …}, or text=WORDS, label=WORDS", a.do.s), "%s names no element", a.do.s)
	case a.do.s == macro.BrowserGoto && a.selector.given():
		d.errorAt(a.selector.n, "take it out", "goto takes no selector")
	default:
		return a, true
	}
	return a, false
}

// compileBrowsers makes macros of browsers: rules name both alike.
func (d *decoder) compileBrowsers(drafts []browserDraft, macros []*macro.Macro, names *names) []*macro.Macro {
	unique := uniqueNames{d: d, what: "browser", seen: make(map[string]*yaml.Node)}
	for i := range drafts {
		b := &drafts[i]
		if !b.name.given() {
			continue // reported
		}
		unique.add(b.name)
		unique.add(b.id)
		id := b.id.s
		if id == "" {
			id = nameUUID(b.name.s)
		}
		for _, m := range macros {
			if m.Browser == nil && (m.Name == b.name.s || m.ID == id) {
				d.errorAt(b.name.n, "give one of them another name or id", "there is a macro %q already", shorten(b.name.s))
			}
		}
		macros = append(macros, &macro.Macro{ID: id, Name: b.name.s, Browser: d.compileBrowser(b, names), Digest: d.digest(b.n)})
	}
	return macros
}

func (d *decoder) compileBrowser(b *browserDraft, names *names) *macro.Browser {
	out := &macro.Browser{Visible: !b.headless, Timeout: b.timeout, Wait: b.wait, Cookies: b.cookies, Screenshot: b.screenshot}
	out.URL = d.browserURL(b.url, b.name.s, names)
	if out.Timeout == 0 {
		if out.Timeout = macro.BrowserTimeout; out.Visible {
			out.Timeout = macro.PersonTimeout
		}
	}
	if out.Wait == 0 {
		out.Wait = out.Timeout
	}
	if b.headless && !b.url.given() {
		d.errorAt(b.name.n, "add url: with the page of the login", "browser %q does not say where it begins", shorten(b.name.s))
	}
	if b.headless && len(b.actions) == 0 {
		d.errorAt(b.name.n, "add steps: with what to do, or headless: false for a person", "browser %q does nothing", shorten(b.name.s))
	}
	if len(b.actions) > macro.MaxActions {
		d.errorAt(b.name.n, fmt.Sprintf("at most %d are done", macro.MaxActions), "browser %q has too many steps", shorten(b.name.s))
	}
	for _, a := range b.actions {
		action := macro.BrowserAction{Do: a.do.s, Selector: a.selector.s}
		switch a.do.s {
		case macro.BrowserGoto:
			action.Value = d.browserURL(a.value, b.name.s, names)
		case macro.BrowserWait:
			action.Mark = d.compileMark(&a.mark, b.name.s, names)
		default:
			if a.value.given() {
				action.Value = d.template(a.value, b.name.s, 0, names)
			}
		}
		out.Actions = append(out.Actions, action)
	}
	out.Until = d.compileMark(&b.until, b.name.s, names)
	if b.headless && out.Until.Empty() && len(b.refused) == 0 {
		d.warnAt(b.name.n, "add until: with what is there then, such as {url: /account}", "browser %q does not see whether somebody is logged in", shorten(b.name.s))
	}
	for _, w := range b.refused {
		out.Refused = append(out.Refused, w.s)
	}
	for _, s := range b.stored {
		if !s.token.given() || !s.key.given() || !d.tokenName(s.token) {
			continue
		}
		names.extract(extracted{name: s.token.s, n: s.token.n, macro: b.name.s})
		stored := macro.Stored{Token: s.token.s, Key: s.key.s, Session: s.session}
		if s.path.given() {
			stored.JSON = &rule.Source{Type: rule.SourceJSON, Path: s.path.s}
			if err := stored.JSON.Compile(); err != nil {
				d.ruleError(err, s.path.n)
			}
		}
		out.Take = append(out.Take, stored)
	}
	return out
}

func (d *decoder) compileMark(m *markDraft, name string, names *names) macro.BrowserMark {
	return macro.BrowserMark{URL: d.browserURL(m.url, name, names), Selector: m.selector.s, Text: m.text.s, Cookie: m.cookie.s,
		Local: m.local.s, Session: m.session.s, Token: m.token.s}
}

// browserURL reads an address: whole, or a path.
func (d *decoder) browserURL(w word, name string, names *names) *rule.Template {
	if !w.given() {
		return nil
	}
	if lower := strings.ToLower(w.s); !strings.HasPrefix(w.s, "/") && !strings.HasPrefix(w.s, "{{") && !strings.HasPrefix(lower, "http://") && !strings.HasPrefix(lower, "https://") {
		d.errorAt(w.n, "write https://…, {{BASE}}/…, or a path that begins with /", "%q is no URL", shorten(w.s))
		return nil
	}
	return d.template(w, name, 0, names)
}
