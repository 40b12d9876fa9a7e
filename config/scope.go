package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
)

type scopeDraft struct {
	n                *yaml.Node
	pattern, target  word
	urls             word // all or project
	include, exclude *listDraft
	tools            []word
	identities       []word
	methods, params  []word
	condition        *httpql.Query
	broken           bool
}

// listDraft is a list of URLs. n is a list, or the one entry itself.
type listDraft struct {
	n       *yaml.Node
	entries []rule.URLs
}

type projectDraft struct {
	n                *yaml.Node
	include, exclude *listDraft
}

// The values of urls.
const (
	urlsAll     = "all"
	urlsProject = "project"
)

func urlsWords() []string { return []string{urlsAll, urlsProject} }

func patternWords() []string { return []string{rule.ScopeHost, rule.ScopeURL, rule.ScopeRegex} }

func scopeFields() []field[scopeDraft] {
	return []field[scopeDraft]{
		{"pattern", "", single("a scope's pattern", func(s *scopeDraft) *word { return &s.pattern })},
		{"target", "", choice("target", patternWords(), func(s *scopeDraft) *word { return &s.target })},
		{"urls", "", choice("urls", urlsWords(), func(s *scopeDraft) *word { return &s.urls })},
		{"include", "", func(d *decoder, n *yaml.Node, s *scopeDraft) { s.include = d.urlList(n, "include") }},
		{"exclude", "", func(d *decoder, n *yaml.Node, s *scopeDraft) { s.exclude = d.urlList(n, "exclude") }},
		{"tools", "", words("tools", func(s *scopeDraft) *[]word { return &s.tools })},
		{"identities", "", words("identities", func(s *scopeDraft) *[]word { return &s.identities })},
		{"methods", "", words("methods", func(s *scopeDraft) *[]word { return &s.methods })},
		{"params", "", words("params", func(s *scopeDraft) *[]word { return &s.params })},
		{"httpql", "", func(d *decoder, n *yaml.Node, s *scopeDraft) {
			var w word
			single("httpql", func(w *word) *word { return w })(d, n, &w)
			if w.given() {
				s.condition = d.requestCondition(w)
			}
		}},
	}
}

func projectFields() []field[projectDraft] {
	return []field[projectDraft]{
		{"include", "", func(d *decoder, n *yaml.Node, p *projectDraft) { p.include = d.urlList(n, "include") }},
		{"exclude", "", func(d *decoder, n *yaml.Node, p *projectDraft) { p.exclude = d.urlList(n, "exclude") }},
	}
}

func urlsFields() []field[rule.URLs] {
	text := func(name string, into func(*rule.URLs) *string) field[rule.URLs] {
		return field[rule.URLs]{name, "", func(d *decoder, n *yaml.Node, u *rule.URLs) {
			// An empty part is any, as in the files of other tools.
			if w, ok := d.word(n, name); ok {
				*into(u) = w.s
			}
		}}
	}
	return []field[rule.URLs]{
		text("pattern", func(u *rule.URLs) *string { return &u.Pattern }),
		text("target", func(u *rule.URLs) *string { return &u.Target }),
		text("prefix", func(u *rule.URLs) *string { return &u.Prefix }),
		{"include_subdomains", "", flag("include_subdomains", func(u *rule.URLs) *bool { return &u.Subdomains })},
		text("protocol", func(u *rule.URLs) *string { return &u.Protocol }),
		text("host", func(u *rule.URLs) *string { return &u.Host }),
		text("port", func(u *rule.URLs) *string { return &u.Port }),
		text("file", func(u *rule.URLs) *string { return &u.File }),
	}
}

// scope reads a rule's scope: `scope: project`, or a mapping.
func (d *decoder) scope(n *yaml.Node) *scopeDraft {
	s := scopeDraft{n: n}
	before := len(d.problems)
	if n.Kind == yaml.ScalarNode {
		if n.Value != urlsProject {
			d.errorAt(n, "write scope: project, or a mapping such as scope: {pattern: \"*.example.com\"}", "a scope is a mapping, or the word project; this is %s", kindOf(n))
			return nil
		}
		s.urls = word{n: n, s: urlsProject}
		return &s
	}
	if !object(d, n, tableScope, scopeFields(), &s) {
		return nil
	}
	s.broken = len(d.problems) > before
	says := s.pattern.given() || s.urls.given() || s.include != nil || s.exclude != nil || s.condition != nil ||
		len(s.tools)+len(s.identities)+len(s.methods)+len(s.params) > 0
	if !says && !s.broken {
		d.errorAt(n, "say which URLs with pattern: a host (*.example.com), the beginning of a URL, or a regex; for every request write urls: all", "a scope needs at least one condition")
	}
	return &s
}

// urlList reads a list of entries, or one alone.
func (d *decoder) urlList(n *yaml.Node, what string) *listDraft {
	l := &listDraft{n: n}
	one := func(n *yaml.Node) {
		var u rule.URLs
		if n.Kind == yaml.MappingNode {
			before := len(d.problems)
			if object(d, n, tableURLs, urlsFields(), &u) && u == (rule.URLs{}) && len(d.problems) == before {
				d.errorAt(n, "write a pattern, prefix: …, or one of protocol, host, port and file", "this entry of %s says nothing", what)
			}
		} else {
			var w word
			single(what, func(w *word) *word { return w })(d, n, &w)
			u.Pattern = w.s
		}
		l.entries = append(l.entries, u) // mistakes too: messages count entries
	}
	switch {
	case n.Kind != yaml.SequenceNode:
		one(n)
	case len(n.Content) == 0 && what == "include":
		d.errorAt(n, "write the URLs, or take the key out for every URL", "the list of URLs is empty")
	default:
		d.list(n, what, one)
	}
	return l
}

func (l *listDraft) all() []rule.URLs {
	if l == nil {
		return nil
	}
	return l.entries
}

// requestCondition compiles a condition that is asked before a request is
// sent.
func (d *decoder) requestCondition(w word) *httpql.Query {
	q := d.parseHTTPQL(w, "httpql", `req.method.eq:"POST"`)
	if q != nil {
		if err := (&rule.Scope{Condition: q}).Compile(); err != nil {
			d.ruleError(err, w.n)
			return nil
		}
	}
	return q
}

// scopes readies what the scopes of all rules share.
func (c *ruleCompiler) scopes(f *fileDraft) {
	for _, i := range f.identities {
		c.identities = append(c.identities, i.name)
	}
	if f.project == nil {
		return
	}
	c.project = &rule.Project{Include: f.project.include.all(), Exclude: f.project.exclude.all()}
	if err := c.project.Compile(); err != nil {
		c.ruleError(err, f.project.n)
	}
	used := slices.ContainsFunc(f.rules, func(r ruleDraft) bool { return r.scope != nil && r.scope.urls.s == urlsProject })
	if !used && len(f.rules) > 0 {
		c.warnAt(f.project.n, "write scope: project, or urls: project, in the rules that it is for", "no rule uses the project's scope")
	}
}

func (d *decoder) project(n *yaml.Node) *projectDraft {
	p := projectDraft{n: n}
	before := len(d.problems)
	if !object(d, n, tableProject, projectFields(), &p) {
		return nil
	}
	if p.include == nil && p.exclude == nil && len(d.problems) == before {
		d.errorAt(n, "add include: or exclude:", "the project's scope is empty")
	}
	return &p
}

func (c *ruleCompiler) scope(s *scopeDraft) rule.Scope {
	out := rule.Scope{Pattern: s.pattern.s, Target: s.target.s, Include: s.include.all(), Exclude: s.exclude.all(),
		Methods: texts(s.methods), Params: texts(s.params), Condition: s.condition}
	if s.broken {
		return out
	}
	switch {
	case s.urls.given() && (s.pattern.given() || s.include != nil):
		c.errorAt(s.urls.n, "keep one of urls, pattern and include", "the scope says twice which URLs it is for")
		return out
	case s.pattern.given() && s.include != nil:
		c.errorAt(s.include.n, "put the pattern into the list", "the scope has a pattern and a list of URLs")
		return out
	case s.target.given() && !s.pattern.given():
		c.errorAt(s.target.n, "add pattern:, or take target out", "target says what a pattern is, and there is none")
		return out
	case s.urls.s == urlsProject && c.project == nil:
		c.errorAt(s.urls.n, "add it at the top of the file: scope: {include: [\"*.example.com\"]}", "the file has no scope of the project")
		return out
	case s.urls.s == urlsProject:
		out.Project = c.project
	}
	c.tools(s, &out)
	c.scopeIdentities(s, &out)
	if err := out.Compile(); err != nil {
		c.ruleError(err, s.n)
	}
	return out
}

func texts(words []word) (all []string) {
	for _, w := range words {
		all = append(all, w.s)
	}
	return all
}

func (c *ruleCompiler) tools(s *scopeDraft, out *rule.Scope) {
	builtIn := []string{flow.ToolProxy, "replay", "fuzz", "authz", "browser", "script"}
	for _, w := range s.tools {
		out.Tools = append(out.Tools, w.s)
		switch near := suggest(w.s, builtIn); {
		case w.s == flow.ToolMacro:
			c.errorAt(w.n, "take it out", "requests of the tool macro are Holdfast's own and never in scope")
		case !toolName.MatchString(w.s):
			c.errorAt(w.n, "use letters, digits, _ . and -", "%q cannot be the name of a tool", shorten(w.s))
		case near != "" && near != w.s:
			c.warnAt(w.n, fmt.Sprintf("if you meant %q, write that; else give the label to a listener or to the proxy credentials", near), "no tool is called %q", w.s)
		}
	}
}

func (c *ruleCompiler) scopeIdentities(s *scopeDraft, out *rule.Scope) {
	for _, w := range s.identities {
		out.Identities = append(out.Identities, w.s)
		if slices.Contains(c.identities, w.s) {
			continue
		}
		next := "add it under identities:"
		if len(c.identities) > 0 {
			next += "; there is " + strings.Join(c.identities, ", ")
		}
		if near := suggest(w.s, c.identities); near != "" {
			next = fmt.Sprintf("did you mean %q? or ", near) + next
		}
		if w.s == anonymous {
			c.errorAt(w.n, "take it out", "rules leave the requests of the identity anonymous alone")
			continue
		}
		c.errorAt(w.n, next, "there is no identity %q", shorten(w.s))
	}
}
