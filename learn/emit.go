package learn

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/macro/derive"
	"github.com/holdfast-proxy/holdfast/rule"
)

// The helpers below build YAML nodes.

func mapping(pairs ...any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(pairs); i += 2 {
		set(m, pairs[i].(string), pairs[i+1])
	}
	return m
}

func node(value any) *yaml.Node {
	switch v := value.(type) {
	case *yaml.Node:
		return v
	case string:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}
		if strings.Contains(v, "\n") {
			n.Style = yaml.LiteralStyle
		}
		return n
	case []string:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, s := range v {
			n.Content = append(n.Content, node(s))
		}
		return n
	case []*yaml.Node:
		return &yaml.Node{Kind: yaml.SequenceNode, Content: v}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(value)}
}

func set(m *yaml.Node, key string, value any) {
	m.Content = append(m.Content, node(key), node(value))
}

func inline(n *yaml.Node) *yaml.Node {
	n.Style = yaml.FlowStyle
	return n
}

// member is the value of a key of a mapping; nil: it has none.
func member(m *yaml.Node, key string) *yaml.Node {
	for i := 0; m != nil && i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// emit writes the configuration. env are the secrets that it reads from the
// environment.
func (l *learner) emit() (text []byte, env map[string]string, err error) {
	text, err = l.draft.YAML()
	if err != nil {
		return nil, nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil || len(document.Content) == 0 {
		return nil, nil, fmt.Errorf("internal error: the macro does not read: %w", err)
	}
	root := document.Content[0]
	env = make(map[string]string)
	l.hideSecrets(root, env)
	macros := member(root, "macros")
	if macros == nil {
		macros = node([]*yaml.Node{})
		set(root, "macros", macros)
	}
	recovery := []string{l.login.Name}
	if l.refresh != nil {
		recovery = []string{"refresh", l.login.Name}
		macros.Content = append(macros.Content, macroNode("refresh", l.refresh.template, l.refresh.extract, ""))
	}
	if l.whoami != nil {
		macros.Content = append(macros.Content, macroNode("whoami", l.whoami.template, nil, l.whoami.expect))
	}
	rules := []*yaml.Node{l.rule(recovery)}
	for i := range l.csrf {
		c := &l.csrf[i]
		name := "csrf"
		if i > 0 {
			name += fmt.Sprint(i + 1)
		}
		if c.page != nil {
			macros.Content = append(macros.Content, macroNode(name, c.page.template, []macro.Extraction{c.extraction()}, ""))
		}
		rules = append(rules, l.csrfRule(c, name))
	}
	set(root, "rules", rules)
	prune(root)
	var b bytes.Buffer
	b.WriteString(l.heading(env))
	err = dump(&b, root)
	return b.Bytes(), env, err
}

func dump(into io.Writer, root *yaml.Node) error {
	w, err := yaml.NewDumper(into, yaml.WithLineWidth(-1))
	if err == nil {
		err = w.Dump(root)
	}
	if err == nil {
		err = w.Close()
	}
	return err
}

// prune takes extractions out whose tokens nobody uses.
func prune(root *yaml.Node) {
	used := make(map[string]bool)
	var look func(n *yaml.Node, key string)
	look = func(n *yaml.Node, key string) {
		if n.Kind == yaml.ScalarNode && (key == "request" || key == "template") {
			if t, err := rule.ParseTemplate(n.Value); err == nil {
				for _, name := range t.Names() {
					used[name] = true
				}
			}
		}
		for i, c := range n.Content {
			under := ""
			if n.Kind == yaml.MappingNode && i%2 == 1 {
				under = n.Content[i-1].Value
			}
			look(c, under)
		}
		if key == "token_updates" {
			for _, u := range n.Content {
				used[member(u, "token_name").Value] = true
			}
		}
	}
	look(root, "")
	for _, m := range member(root, "macros").Content {
		for _, step := range member(m, "steps").Content {
			for i := 0; i+1 < len(step.Content); i += 2 {
				if step.Content[i].Value != "extract" {
					continue
				}
				list := step.Content[i+1]
				list.Content = slices.DeleteFunc(list.Content, func(x *yaml.Node) bool { return !used[member(x, "token_name").Value] })
				if len(list.Content) == 0 {
					step.Content = slices.Delete(step.Content, i, i+2)
				}
				break
			}
		}
	}
}

// heading says what the file needs.
func (l *learner) heading(env map[string]string) string {
	s := "# Learnt by holdfast learn; docs/configuration.md describes every key.\n"
	for name := range env {
		s += "# Set the secret before use:  export " + name + "=…\n"
	}
	return s
}

// hideSecrets moves the secrets of the identity into the environment.
func (l *learner) hideSecrets(root *yaml.Node, env map[string]string) {
	identities := member(root, "identities")
	if identities == nil || len(identities.Content) < 2 {
		return
	}
	l.report.Identity = identities.Content[0].Value
	if l.options.InlineSecrets {
		return
	}
	_, secrets := derive.HideSecrets(root)
	maps.Copy(env, secrets)
}

func macroNode(name, template string, extract []macro.Extraction, expect string) *yaml.Node {
	step := mapping("request", template)
	var list []*yaml.Node
	for _, x := range extract {
		list = append(list, inline(mapping("token_name", x.Token, "source", derive.SourceNode(x.Source))))
	}
	if len(list) > 0 {
		set(step, "extract", list)
	}
	if expect != "" {
		set(step, "expect", expect)
	}
	return mapping("name", name, "steps", []*yaml.Node{step})
}

// ruleName is the host, which is what a person would call it.
func (l *learner) ruleName() string {
	_, host, _ := strings.Cut(l.rec.origin, "://")
	return host
}

// rule is the one that holds the session.
func (l *learner) rule(recovery []string) *yaml.Node {
	l.report.Rule = l.ruleName()
	r := mapping("name", l.ruleName(), "scope", inline(mapping("pattern", l.rec.origin+"/", "target", "url")))
	if v := l.validation(); len(v.Content) > 0 {
		set(r, "validation", v)
	}
	if len(l.login.Produces()) > 0 || len(l.session.jar.All()) > 0 {
		if len(recovery) == 1 {
			set(r, "reauth_macro", recovery[0])
		} else {
			set(r, "reauth_macro", recovery)
		}
	}
	var actions []*yaml.Node
	if len(l.session.jar.All()) > 0 {
		actions = append(actions, node("use_cookies"))
	}
	var updates []*yaml.Node
	for _, t := range l.targets {
		if t.double.name != "" {
			actions = append(actions, mapping("run_script", t.double.copied(t.header, l.rec.origin+"/")))
			continue
		}
		u := mapping("token_name", t.token)
		if t.source != nil {
			set(u, "source", derive.SourceNode(t.source))
		}
		if t.header != "" {
			place := inline(mapping("type", "RequestHeader", "name", t.header))
			set(place, "template", t.template)
			set(u, "target", place)
		} else {
			set(u, "target", inline(mapping("type", "QueryParam", "name", t.query)))
		}
		updates = append(updates, u)
	}
	if len(actions) > 0 {
		set(r, "actions", actions)
	}
	for _, c := range l.carried {
		for i := range c.places {
			updates = append(updates, mapping("token_name", c.token, "target", placeNode(&c.places[i])))
		}
	}
	if len(updates) > 0 {
		set(r, "token_updates", updates)
	}
	set(r, "protect", l.protected())
	return r
}

// protected are the words, paths and conditions of what ends the session.
func (l *learner) protected() *yaml.Node {
	list := inline(node([]*yaml.Node{node("logout"), node("signout")}))
	for _, p := range l.protects {
		word := func(s string) bool { return s == "logout" || s == "signout" }
		switch pair, query := strings.CutPrefix(p, "?"); {
		case query:
			list.Content = append(list.Content, inline(mapping("httpql", "req.query.cont:"+quote(pair))))
		case !slices.ContainsFunc(strings.Split(strings.ToLower(p), "/"), word):
			list.Content = append(list.Content, node(p))
		}
	}
	return list
}

// validation is how death shows.
func (l *learner) validation() *yaml.Node {
	v := mapping()
	var statuses []*yaml.Node
	var checks []*yaml.Node
	anyWeak := false
	for _, c := range l.checks {
		if c.weak && l.whoami == nil {
			l.report.note("%s after %s is no sure sign, and nothing confirms it: it is left out", c.shown, c.from)
			continue
		}
		anyWeak = anyWeak || c.weak
		if c.Type == "StatusCode" {
			statuses = append(statuses, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: c.Text})
			continue
		}
		checks = append(checks, inline(mapping("type", c.Type, "value", c.Text)))
	}
	if len(statuses) > 0 {
		list := inline(node(statuses))
		checks = append([]*yaml.Node{inline(mapping("type", "StatusCode", "value", list))}, checks...)
	}
	switch len(checks) {
	case 0:
	case 1:
		set(v, "check_type", checks[0])
	default:
		set(v, "check_type", mapping("type", "any", "value", checks))
	}
	if anyWeak && l.whoami != nil && len(checks) > 0 {
		set(v, "confirm", inline(mapping("macro", "whoami")))
	}
	if len(l.silent) > 0 && l.whoami != nil {
		set(v, "probe", inline(mapping("macro", "whoami", "every", 50, "for", node("60s"), "on_suspicion", true)))
	}
	return v
}

// csrfRule puts a fresh token into writes.
func (l *learner) csrfRule(c *csrf, name string) *yaml.Node {
	r := mapping("name", name, "priority", 10, "scope", inline(mapping("pattern", l.rec.origin+"/", "target", "url", "methods", []string{"POST", "PUT", "PATCH", "DELETE"})))
	if c.page == nil && c.places[0].Type == rule.TargetRequestHeader {
		set(r, "actions", []*yaml.Node{mapping("run_script", c.cookie.copied(c.places[0].Name, l.rec.origin+"/"))})
		return r
	}
	if c.page != nil {
		set(r, "actions", []*yaml.Node{mapping("run_macro", inline(mapping("macro", name, "update_params", "none")))})
	}
	var updates []*yaml.Node
	for i := range c.places {
		place := placeNode(&c.places[i])
		if c.page == nil {
			place.Style = 0
			set(place, "script", c.cookie.repeated())
		}
		updates = append(updates, mapping("token_name", c.token, "target", place))
	}
	set(r, "token_updates", updates)
	return r
}

// placeNode writes a place of a request.
func placeNode(t *rule.Target) *yaml.Node {
	if t.Pointer != "" {
		return inline(mapping("type", t.Type, "pointer", t.Pointer))
	}
	return inline(mapping("type", t.Type, "name", t.Name))
}
