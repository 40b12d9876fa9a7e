package rule

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// scopeWarnings says what in a scope cannot have an effect, as far as that can
// be proven: silence proves nothing.
func scopeWarnings(s *Scope, budget *int) (texts []string) {
	const regex = 50 // what looking into a regex costs, in comparisons
	cost := (len(s.entries()) + len(s.exclude)) * regex
	cost += len(s.entries()) * len(s.exclude)
	if s.Project != nil {
		cost += len(s.entries()) * len(s.Project.exclude)
	}
	if *budget -= cost; *budget < 0 {
		return nil
	}
	list := func(name string, i int, u URLs) string { return fmt.Sprintf("%s[%d] (%s)", name, i, u) }
	excluded, never := 0, 0
	for i, m := range s.entries() {
		name := "its pattern " + s.Pattern
		switch {
		case s.Project != nil && len(s.Project.Include) > 0:
			name = list("the project's include", i, s.Project.Include[i])
		case len(s.Include) > 0:
			name = list("include", i, s.Include[i])
		}
		why := m.neverMatches()
		by := coveredBy(m, s.exclude)
		switch {
		case why != "":
			never++
			texts = append(texts, "has an entry that can never match: "+name+": "+why)
		case by >= 0:
			excluded++
			texts = append(texts, "has an entry that is left out again: "+name+" is wholly in "+list("exclude", by, s.Exclude[by]))
		case s.Project != nil && coveredBy(m, s.Project.exclude) >= 0:
			excluded++
		}
	}
	if n := len(s.entries()); never+excluded == n && n > 0 {
		texts = append(texts[:0], "can never fire: "+joinReasons(s, never, excluded, texts))
	}
	for i, m := range s.exclude {
		if why := m.neverMatches(); why != "" {
			texts = append(texts, "leaves nothing out by "+list("exclude", i, s.Exclude[i])+": "+why)
		}
	}
	if why := contradiction(s); why != "" {
		texts = append(texts, "can never fire: "+why)
	}
	for _, m := range s.Methods {
		if up := strings.ToUpper(m); up != m {
			texts = append(texts, fmt.Sprintf("is for the method %s, and methods are told apart by case: %s is another one", m, up))
		}
	}
	return texts
}

func joinReasons(s *Scope, never, excluded int, texts []string) string {
	switch {
	case len(texts) == 1:
		_, reason, _ := strings.Cut(texts[0], ": ")
		return reason
	case never == 0 && s.Project != nil && len(texts) == 0:
		return "the project's exclude leaves out all of its include"
	case never == 0:
		return "everything that it includes is excluded"
	case excluded == 0:
		return "no entry of its URLs can match"
	}
	return "each entry of its URLs matches nothing or is excluded"
}

// contradiction finds a method, host, path or query that would have to be two
// things at once.
func contradiction(s *Scope) string {
	if s.Condition == nil {
		return ""
	}
	equal := make(map[httpql.Field]string)
	for nodes := []*httpql.Node{s.Condition.Root()}; len(nodes) > 0; {
		n := nodes[len(nodes)-1]
		nodes = nodes[:len(nodes)-1]
		if n.Kind == httpql.KindAnd {
			nodes = append(nodes, n.Nodes...)
		}
		if n.Kind != httpql.KindCompare || n.Op != httpql.Eq {
			continue
		}
		switch n.Field {
		case httpql.ReqMethod, httpql.ReqHost, httpql.ReqPath, httpql.ReqQuery:
		default:
			continue
		}
		if other, ok := equal[n.Field]; ok && other != n.Text {
			return fmt.Sprintf("its httpql condition wants %s to be %q and %q", n.Field, n.Text, other)
		}
		equal[n.Field] = n.Text
	}
	if m, ok := equal[httpql.ReqMethod]; ok && len(s.Methods) > 0 && !slices.Contains(s.Methods, m) {
		return fmt.Sprintf("its httpql condition wants the method %s, which its methods do not have", m)
	}
	return ""
}

// coveredBy is the index of an entry that has every URL of m, or -1.
func coveredBy(m *matcher, list []*matcher) int {
	for i, n := range list {
		if n.covers(m) {
			return i
		}
	}
	return -1
}

// covers reports whether every URL of n is one of m, where it can be told.
func (m *matcher) covers(n *matcher) bool {
	switch {
	case m.regex != nil || n.regex != nil:
		return m.regex != nil && n.regex != nil && m.source == n.source
	case m.scheme != "" && m.scheme != n.scheme,
		m.portRegex != nil && m.portText != n.portText,
		m.file != nil && m.fileText != n.fileText,
		!m.host.covers(n.host):
		return false
	case m.ports == portExact && (n.ports != portExact || n.port != m.port):
		return false
	case m.ports == portDefault && n.ports != portDefault:
		return false
	case m.path == "" || m.path == "/":
		return true
	case strings.Contains(m.path+n.path, "*"):
		return m.path == n.path && m.fold == n.fold
	case m.fold:
		return strings.HasPrefix(lowerASCII(n.path), m.path)
	}
	return !n.fold && strings.HasPrefix(n.path, m.path)
}

func (h hostPattern) covers(other hostPattern) bool {
	switch {
	case h.kind == hostAny:
		return true
	case other.kind == hostExact:
		return h.match(other.text)
	case h.kind == hostSuffix && other.kind == hostSuffix:
		return h.match(other.text)
	}
	return h.kind == other.kind && h.text == other.text
}

// neverMatches says why no URL can match the entry; "" when that cannot be
// told.
func (m *matcher) neverMatches() string {
	switch {
	case m.regex != nil && !canBegin(m.source, "http://", "https://"):
		return "a URL begins with http:// or https://"
	case m.host.kind == hostRegex && needsByte(m.host.text, "/@?#"):
		return "a host has no slash, question mark, @ or #"
	case m.portRegex != nil && needsByte(m.portText, ":/"):
		return "a port is digits"
	case m.file != nil && needsByte(m.fileText, "?"):
		return "the file is the path without the query"
	case m.file != nil && !canBegin(anyCase+m.fileText, "/", "*"):
		return "a path begins with a slash"
	}
	return ""
}

// canBegin reports whether a regex that is tied to the beginning of its text
// can be found in one that begins in one of these ways. True where it cannot be
// told.
func canBegin(source string, ways ...string) bool {
	re, err := syntax.Parse(source, syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat || len(re.Sub) < 2 || re.Sub[0].Op != syntax.OpBeginText || re.Sub[1].Op != syntax.OpLiteral {
		return true
	}
	text := string(re.Sub[1].Rune)
	if re.Sub[1].Flags&syntax.FoldCase != 0 {
		text = strings.ToLower(text)
	}
	for _, way := range ways {
		if strings.HasPrefix(text, way) || strings.HasPrefix(way, text) {
			return true
		}
	}
	return false
}

// needsByte reports whether the regex is found only in texts that have one of
// these bytes, which the place never has.
func needsByte(source, bytes string) bool {
	for _, n := range needsOfRegex(source) {
		all := len(n.texts) > 0
		for _, text := range n.texts {
			all = all && strings.ContainsAny(text, bytes)
		}
		if all {
			return true
		}
	}
	return false
}
