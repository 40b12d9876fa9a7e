package config

import (
	"regexp"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

// protectDraft is one entry of protect: a text, or the keys of a scope.
type protectDraft struct {
	n     *yaml.Node
	text  word
	scope *scopeDraft
}

// bareWord is what is looked for among the segments of a path.
var bareWord = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func anonymousFields() []field[fileDraft] {
	return []field[fileDraft]{
		{"strip", "name the headers that hold credentials: strip: [Authorization, Cookie]", words("strip", func(f *fileDraft) *[]word { return &f.credentials })},
	}
}

// protect reads a list of requests that would end a session, or one alone.
func (d *decoder) protect(n *yaml.Node) []protectDraft {
	var all []protectDraft
	one := func(n *yaml.Node) {
		p := protectDraft{n: n}
		if n.Kind == yaml.MappingNode {
			before := len(d.problems)
			if p.scope = d.scope(n); p.scope == nil || len(d.problems) > before {
				return
			}
		} else if single("protect", func(w *word) *word { return w })(d, n, &p.text); !p.text.given() {
			return
		}
		all = append(all, p)
	}
	switch {
	case n.Kind != yaml.SequenceNode:
		one(n)
	case len(n.Content) == 0:
		d.errorAt(n, "write what ends the session, such as /logout, or take the key out", "the list of protected requests is empty")
	default:
		d.list(n, "protect", one)
	}
	return all
}

// protections compiles what stands under protect.
func (c *ruleCompiler) protections(drafts []protectDraft) []rule.Scope {
	var all []rule.Scope
	for _, p := range drafts {
		if p.scope != nil {
			all = append(all, c.scope(p.scope))
			continue
		}
		s := rule.Scope{Pattern: p.text.s}
		if bareWord.MatchString(p.text.s) {
			// A segment of the path, in any case, with or without an extension.
			s = rule.Scope{Target: rule.ScopeRegex, Pattern: `(?i)^[a-z]+://[^/]*/(?:[^?#]*/)?` + p.text.s + `(?:\.[a-z]+)?/*(?:[?#;]|$)`}
		}
		if p.text.s == "*" {
			c.errorAt(p.n, "write the URLs that end the session", "this protects the session from every request")
			continue
		}
		if err := s.Compile(); err != nil {
			c.ruleError(err, p.n)
			continue
		}
		all = append(all, s)
	}
	return all
}

// credentials are the names of headers under anonymous.
func (d *decoder) credentials(f *fileDraft) []string {
	for _, w := range f.credentials {
		if !headerName.MatchString(w.s) {
			d.errorAt(w.n, "write the name alone, without a colon", "%q is no name of a header", shorten(w.s))
		}
	}
	return texts(f.credentials)
}

// headerName is a token of RFC 9110 §5.6.2.
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
