package config

import (
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

const (
	tableAction     = "an action"
	tableUseCookies = rule.ActionUseCookies
	tableSetParam   = rule.ActionSetParam
	tableSetHeader  = rule.ActionSetHeader
	tableSession    = rule.ActionCheckSession
	tableAsker      = "the probe of check_session"
	tableMatch      = "match"
	tableInvalid    = "if_invalid"
	tableRunMacro   = rule.ActionRunMacro
	tablePostMacro  = rule.ActionRunPostMacro
	tableBrowser    = rule.ActionRecoverInBrowser
	tablePick       = "a choice of names"
)

// actionTables are the mappings of actions with their keys.
func actionTables() map[string][]formatKey {
	return map[string][]formatKey{
		tableAction: keysNamed(rule.ActionNames()), tableUseCookies: keysOf(useCookiesFields()), tableSetParam: keysOf(setParamFields()),
		tableSetHeader: keysOf(setHeaderFields()), tableSession: keysOf(sessionFields()), tableAsker: keysOf(askerFields()),
		tableMatch: keysOf(matchFields()), tableInvalid: keysOf(invalidFields()), tableRunMacro: keysOf(runMacroFields()),
		tablePostMacro: keysOf(postMacroFields()), tableBrowser: keysOf(browserFields()), tableScript: keysOf(scriptFields()),
		tableCode: keysOf(codeFields()), tableScriptLimits: keysOf(scriptLimitFields()),
		tablePick: keysOf(pickFields()), tableTrigger: keysOf(triggerFields()), tableTriggerHeader: keysOf(triggerHeaderFields()),
	}
}

// actionDraft is an action with the words that are checked against the rest of
// the file.
type actionDraft struct {
	n         *yaml.Node
	action    rule.Action
	macros    []word
	templates []word
}

// maxActions bounds the actions of a rule.
const maxActions = 64

// actions reads a rule's list of actions.
func (d *decoder) actions(n *yaml.Node) (all []actionDraft) {
	if list := resolve(n); list.Kind == yaml.SequenceNode && len(list.Content) > maxActions {
		d.errorAt(n, "make several rules of it", "a rule has at most %d actions", maxActions)
		return nil
	}
	d.list(n, "actions", func(n *yaml.Node) {
		a := actionDraft{n: n}
		if d.action(n, &a) {
			all = append(all, a)
		}
	})
	return all
}

// action reads `set_header: {…}`, or a name alone.
func (d *decoder) action(n *yaml.Node, a *actionDraft) bool {
	name, value := word{}, (*yaml.Node)(nil)
	if n.Kind == yaml.ScalarNode {
		name, _ = d.word(n, tableAction)
	} else {
		pairs, ok := d.pairs(n, tableAction)
		if !ok {
			return false
		}
		if len(pairs) != 1 {
			d.errorAt(n, "begin each with `- ` on a line of its own: - set_header: {name: …, value: …}", "an action has one key, its name; this has %d", len(pairs))
			return false
		}
		name, value = word{pairs[0].key, pairs[0].key.Value}, pairs[0].value
	}
	if name.given() && !keyLike(name.s) { // it may hold a value
		d.errorAt(name.n, "write - set_header: {name: …, value: …}, with a blank behind each colon", "this is no action")
		return false
	}
	if !name.given() || !d.oneOf(name, "action", rule.ActionNames()) {
		return false
	}
	if value != nil && isNull(value) {
		value = nil
	}
	return d.readAction(name, value, a)
}

func (d *decoder) readAction(name word, n *yaml.Node, a *actionDraft) bool {
	out := &a.action
	switch name.s {
	case rule.ActionStop:
		out.Stop = true
		if n != nil && (n.Kind != yaml.ScalarNode || n.Value != "true") {
			d.errorAt(n, "write `- stop` alone", "stop takes nothing")
			return false
		}
		return true
	case rule.ActionUseCookies:
		out.UseCookies = new(rule.UseCookies)
		return n == nil || object(d, n, tableUseCookies, useCookiesFields(), out.UseCookies)
	case rule.ActionRecoverInBrowser:
		out.RecoverInBrowser = new(rule.RecoverInBrowser)
		return n == nil || object(d, n, tableBrowser, browserFields(), out.RecoverInBrowser)
	}
	if n == nil {
		d.errorAt(name.n, "docs/configuration.md describes it", "%s says nothing", name.s)
		return false
	}
	switch name.s {
	case rule.ActionSetParam:
		out.SetParam = new(rule.SetParam)
		return object(d, n, tableSetParam, setParamFields(), a)
	case rule.ActionSetHeader:
		out.SetHeader = new(rule.SetHeader)
		return object(d, n, tableSetHeader, setHeaderFields(), a)
	case rule.ActionCheckSession:
		out.CheckSession = new(rule.CheckSession)
		return object(d, n, tableSession, sessionFields(), a)
	case rule.ActionRunMacro:
		out.RunMacro = new(rule.RunMacro)
		if n.Kind == yaml.ScalarNode {
			d.macroName(n, a, &out.RunMacro.Macro)
			return true
		}
		return object(d, n, tableRunMacro, runMacroFields(), a)
	case rule.ActionRunPostMacro:
		out.RunPostMacro = new(rule.RunPostMacro)
		if n.Kind == yaml.ScalarNode {
			d.macroName(n, a, &out.RunPostMacro.Macro)
			return true
		}
		return object(d, n, tablePostMacro, postMacroFields(), a)
	}
	return d.runScript(n, a)
}

// plainText makes the reader of a key that holds one text, which may be empty.
func plainText[T any](what string, into func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		if w, ok := d.word(n, what); ok {
			*into(t) = w.s
		}
	}
}

// oneText makes the reader of a key that holds one of a few words.
func oneText[T any](what string, known []string, into func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		if w, ok := d.word(n, what); ok && d.oneOf(w, what, known) {
			*into(t) = w.s
		}
	}
}

// textList makes the reader of a key that holds a list of textList, or one alone. known
// are the words that are allowed; nil allows any.
func textList[T any](what string, known []string, into func(*T) *[]string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		var list []word
		words(what, func(list *[]word) *[]word { return list })(d, n, &list)
		if n := resolve(n); n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			d.errorAt(n, "write what is meant, or take the key out", "the list of %s is empty", what)
		}
		for _, w := range list {
			if known == nil || d.oneOf(w, what, known) {
				*into(t) = append(*into(t), w.s)
			}
		}
	}
}

func pickFields() []field[rule.Pick] {
	return []field[rule.Pick]{
		{"only", "", textList("only", nil, func(p *rule.Pick) *[]string { return &p.Only })},
		{"except", "", textList("except", nil, func(p *rule.Pick) *[]string { return &p.Except })},
	}
}

func pickWords() []string { return []string{"all", "none"} }

// pick makes the reader of all, none, {only: […]} or {except: […]}.
func pick[T any](what string, into func(*T) *rule.Pick) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		p := into(t)
		if n = resolve(n); n.Kind == yaml.MappingNode {
			object(d, n, tablePick, pickFields(), p)
			return
		}
		if w, ok := d.word(n, what); ok && d.oneOf(w, what, pickWords()) {
			p.None = w.s == "none"
		}
	}
}

// valueOf makes the reader of a key that holds a template.
func valueOf(into func(*rule.Action) **rule.Template) func(*decoder, *yaml.Node, *actionDraft) {
	return func(d *decoder, n *yaml.Node, a *actionDraft) {
		w, ok := d.word(n, "a value")
		if !ok {
			return
		}
		t, err := rule.ParseTemplate(w.s)
		if err != nil {
			d.ruleError(err, w.n)
			return
		}
		*into(&a.action) = t
		a.templates = append(a.templates, w)
	}
}

// macroName reads the name of a macro.
func (d *decoder) macroName(n *yaml.Node, a *actionDraft, into *string) {
	var w word
	single("macro", func(w *word) *word { return w })(d, n, &w)
	if w.given() {
		*into = w.s
		a.macros = append(a.macros, w)
	}
}

// macroOf makes the reader of a key that names a macro.
func macroOf(into func(*rule.Action) *string) func(*decoder, *yaml.Node, *actionDraft) {
	return func(d *decoder, n *yaml.Node, a *actionDraft) { d.macroName(n, a, into(&a.action)) }
}

func cookieModes() []string  { return rule.CookieModes() }
func paramPlaces() []string  { return rule.ParamPlaces() }
func absentWords() []string  { return []string{rule.IfAbsentAdd, rule.IfAbsentSkip} }
func lookPlaces() []string   { return rule.LookPlaces() }
func meansWords() []string   { return []string{"invalid", "valid"} }
func ifValidWords() []string { return []string{"stop", "continue"} }
func passBackWords() []string {
	return []string{rule.PassCurrent, rule.PassFinal}
}

func useCookiesFields() []field[rule.UseCookies] {
	return []field[rule.UseCookies]{
		{"mode", "", oneText("mode", cookieModes(), func(a *rule.UseCookies) *string { return &a.Mode })},
		{"only", "", textList("only", nil, func(a *rule.UseCookies) *[]string { return &a.Pick.Only })},
		{"except", "", textList("except", nil, func(a *rule.UseCookies) *[]string { return &a.Pick.Except })},
	}
}

func setParamFields() []field[actionDraft] {
	at := func(a *actionDraft) *rule.SetParam { return a.action.SetParam }
	return []field[actionDraft]{
		{"name", "name the parameter", plainText("name", func(a *actionDraft) *string { return &at(a).Name })},
		{"value", "write the value; {{NAME}} is a variable", valueOf(func(a *rule.Action) **rule.Template { return &a.SetParam.Value })},
		{"in", "", textList("in", paramPlaces(), func(a *actionDraft) *[]string { return &at(a).In })},
		{"if_absent", "", oneText("if_absent", absentWords(), func(a *actionDraft) *string { return &at(a).IfAbsent })},
	}
}

func setHeaderFields() []field[actionDraft] {
	at := func(a *actionDraft) *rule.SetHeader { return a.action.SetHeader }
	return []field[actionDraft]{
		{"name", "name the header", plainText("name", func(a *actionDraft) *string { return &at(a).Name })},
		{"value", "write the value; {{NAME}} is a variable", valueOf(func(a *rule.Action) **rule.Template { return &a.SetHeader.Value })},
		{"if_absent", "", oneText("if_absent", absentWords(), func(a *actionDraft) *string { return &at(a).IfAbsent })},
	}
}

func sessionFields() []field[actionDraft] {
	at := func(a *actionDraft) *rule.CheckSession { return a.action.CheckSession }
	return []field[actionDraft]{
		{"probe", "write probe: request, or probe: {macro: NAME}", func(d *decoder, n *yaml.Node, a *actionDraft) {
			if n.Kind == yaml.MappingNode {
				at(a).Probe = rule.ProbeMacro
				object(d, n, tableAsker, askerFields(), a)
				return
			}
			oneText("probe", []string{rule.ProbeRequest}, func(a *actionDraft) *string { return &at(a).Probe })(d, n, a)
		}},
		{"every", "", number("every", 1, 1_000_000, func(a *actionDraft) *int { return &at(a).Every })},
		{"for", "", duration("for", time.Second, 30*24*time.Hour, func(a *actionDraft) *time.Duration { return &at(a).For })},
		{"look_in", "", textList("look_in", lookPlaces(), func(a *actionDraft) *[]string { return &at(a).LookIn })},
		{"match", "write what to look for: match: TEXT, or match: {regex: PATTERN}", func(d *decoder, n *yaml.Node, a *actionDraft) {
			if n.Kind == yaml.MappingNode {
				object(d, n, tableMatch, matchFields(), at(a))
				return
			}
			plainText("match", func(a *actionDraft) *string { return &at(a).Literal })(d, n, a)
		}},
		{"case_sensitive", "", flag("case_sensitive", func(a *actionDraft) *bool { return &at(a).CaseSensitive })},
		{"match_means", "", func(d *decoder, n *yaml.Node, a *actionDraft) {
			var means string
			oneText("match_means", meansWords(), func(s *string) *string { return s })(d, n, &means)
			at(a).MeansValid = means == "valid"
		}},
		{"if_valid", "", func(d *decoder, n *yaml.Node, a *actionDraft) {
			var then string
			oneText("if_valid", ifValidWords(), func(s *string) *string { return s })(d, n, &then)
			at(a).StopIfValid = then == "stop"
		}},
		{"if_invalid", "", func(d *decoder, n *yaml.Node, a *actionDraft) { object(d, n, tableInvalid, invalidFields(), a) }},
	}
}

func askerFields() []field[actionDraft] {
	return []field[actionDraft]{
		{"macro", "name the macro that asks: probe: {macro: whoami}", macroOf(func(a *rule.Action) *string { return &a.CheckSession.Macro })},
	}
}

func matchFields() []field[rule.CheckSession] {
	return []field[rule.CheckSession]{
		{"literal", "", plainText("literal", func(a *rule.CheckSession) *string { return &a.Literal })},
		{"regex", "", plainText("regex", func(a *rule.CheckSession) *string { return &a.Regex })},
	}
}

func invalidFields() []field[actionDraft] {
	at := func(a *actionDraft) *rule.CheckSession { return a.action.CheckSession }
	return []field[actionDraft]{
		{"macros", "", func(d *decoder, n *yaml.Node, a *actionDraft) {
			var list []word
			words("macros", func(list *[]word) *[]word { return list })(d, n, &list)
			for _, w := range list {
				at(a).Macros = append(at(a).Macros, w.s)
				a.macros = append(a.macros, w)
			}
		}},
		{"browser", "", flag("browser", func(a *actionDraft) *bool { return &at(a).Browser })},
		{"update_params", "", pick("update_params", func(a *actionDraft) *rule.Pick { return &at(a).Params })},
		{"tolerate_url_mismatch", "", flag("tolerate_url_mismatch", func(a *actionDraft) *bool { return &at(a).Tolerate })},
		{"update_cookies", "", pick("update_cookies", func(a *actionDraft) *rule.Pick { return &at(a).Cookies })},
	}
}

func runMacroFields() []field[actionDraft] {
	at := func(a *actionDraft) *rule.RunMacro { return a.action.RunMacro }
	return []field[actionDraft]{
		{"macro", "name the macro", macroOf(func(a *rule.Action) *string { return &a.RunMacro.Macro })},
		{"update_params", "", pick("update_params", func(a *actionDraft) *rule.Pick { return &at(a).Params })},
		{"tolerate_url_mismatch", "", flag("tolerate_url_mismatch", func(a *actionDraft) *bool { return &at(a).Tolerate })},
		{"update_cookies", "", pick("update_cookies", func(a *actionDraft) *rule.Pick { return &at(a).Cookies })},
		{"every", "", number("every", 1, 1_000_000, func(a *actionDraft) *int { return &at(a).Every })},
		{"interval", "", duration("interval", time.Second, 30*24*time.Hour, func(a *actionDraft) *time.Duration { return &at(a).Interval })},
		{"script", "", func(d *decoder, n *yaml.Node, a *actionDraft) { at(a).Script = d.program(n) }},
	}
}

func postMacroFields() []field[actionDraft] {
	at := func(a *actionDraft) *rule.RunPostMacro { return a.action.RunPostMacro }
	return []field[actionDraft]{
		{"macro", "name the macro", macroOf(func(a *rule.Action) *string { return &a.RunPostMacro.Macro })},
		{"feed_params", "", pick("feed_params", func(a *actionDraft) *rule.Pick { return &at(a).Feed })},
		{"pass_back", "", oneText("pass_back", passBackWords(), func(a *actionDraft) *string { return &at(a).PassBack })},
	}
}

func browserFields() []field[rule.RecoverInBrowser] {
	return []field[rule.RecoverInBrowser]{
		{"browser", "", plainText("browser", func(a *rule.RecoverInBrowser) *string { return &a.Browser })},
		{"update_cookies", "", pick("update_cookies", func(a *rule.RecoverInBrowser) *rule.Pick { return &a.Cookies })},
	}
}

// actionsOf are the actions of a rule, checked against the rest of the file.
// What package rule says of them is told by whole.
func (c *ruleCompiler) actionsOf(r *ruleDraft) (all []rule.Action) {
	for i := range r.actions {
		a := &r.actions[i]
		for _, w := range a.macros {
			if check := a.action.CheckSession; check != nil && slices.Contains(check.Macros, w.s) {
				c.macroExists(w)
			} else {
				c.asks(w)
			}
		}
		for _, w := range a.templates {
			c.names.useTemplate(w, "", 0)
		}
		if in := a.action.RecoverInBrowser; in != nil && in.Browser != "" {
			c.browserExists(in.Browser, a.n)
		}
		if run := a.action.RunScript; run != nil {
			c.names.useScript(run.Script, a.n, "", 0)
		}
		if run := a.action.RunMacro; run != nil {
			c.names.useScript(run.Script, a.n, "", 0)
			c.useOffered(run.Macro, a.n)
		}
		all = append(all, a.action)
	}
	return all
}

// useOffered counts what a macro extracts as used where its action puts it into
// parameters of the same name.
func (c *ruleCompiler) useOffered(name string, n *yaml.Node) {
	for _, m := range c.macros {
		if m.Name != name && m.ID != name {
			continue
		}
		for _, token := range m.Produces() {
			c.names.use(use{name: token, n: n})
		}
	}
}

// browserExists reports a browser that the file does not have.
func (c *ruleCompiler) browserExists(name string, n *yaml.Node) {
	var known []string
	for _, m := range c.macros {
		switch {
		case m.Browser != nil && (m.Name == name || m.ID == name):
			return
		case m.Browser != nil:
			known = append(known, m.Name)
		}
	}
	next := "add it under browsers:, or leave all to the person: - recover_in_browser"
	if s := suggest(name, known); s != "" {
		next = fmt.Sprintf("did you mean %q? or ", s) + next
	}
	c.errorAt(n, next, "there is no browser %q", shorten(name))
}
