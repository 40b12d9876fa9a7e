package rule

import (
	"fmt"
	"slices"
	"strings"
)

// Warning is something about a rule that is probably not meant.
type Warning struct {
	Rule string
	Text string
}

// maxWarnings bounds the list; whoever has a hundred reads no further.
const maxWarnings = 100

// warningBudget bounds how many entries are compared: a file of many long
// lists is not worth the wait.
const warningBudget = 5_000_000

// warnings looks at rules in their order.
func warnings(rules []*Rule) (list []Warning) {
	budget := warningBudget
	add := func(r *Rule, format string, args ...any) bool {
		list = append(list, Warning{Rule: r.Name, Text: fmt.Sprintf(format, args...)})
		return len(list) < maxWarnings
	}
	for _, r := range rules {
		if r.Dead != nil && r.Confirm != "" && !r.Recovers() {
			if !add(r, "asks %s whether the session is dead, and has no reauth_macro to get a new one", r.Confirm) {
				return list
			}
		}
	}
	for _, r := range rules {
		for _, text := range scopeWarnings(&r.Scope, &budget) {
			if !add(r, "%s", text) {
				return list
			}
		}
		if r.Proactive != nil {
			if why := r.Proactive.warning(r); why != "" && !add(r, "%s", why) {
				return list
			}
		}
		if r.Probe != nil {
			if why := r.Probe.warning(r); why != "" && !add(r, "%s", why) {
				return list
			}
		}
	}
	type user struct {
		rule  *Rule
		token string
	}
	places := make(map[string][]user)
	for _, r := range rules {
		for i := range r.Updates {
			u := &r.Updates[i]
			if u.Target == nil {
				continue
			}
			place := u.Target.Place()
			for _, earlier := range places[place] {
				if earlier.rule == r || !mayOverlap(&earlier.rule.Scope, &r.Scope, &budget) {
					continue
				}
				if !add(r, "puts %s into %s, where rule %s, which comes first, puts %s on some of the same requests",
					u.Token, place, earlier.rule.Name, earlier.token) {
					return list
				}
			}
			places[place] = append(places[place], user{r, u.Token})
		}
	}
	return list
}

// mayOverlap reports whether a request can be in both scopes, as far as tools,
// identities, methods, schemes, ports, hosts and beginnings of paths tell.
// Exclusions, regexes, parameters and conditions are not weighed: it may say
// yes where the answer is no. Without a budget it says no.
func mayOverlap(a, b *Scope, budget *int) bool {
	if len(a.Tools) > 0 && len(b.Tools) > 0 {
		common := false
		for _, tool := range a.Tools {
			common = common || b.matchTool(tool)
		}
		if !common {
			return false
		}
	}
	if len(a.Identities) > 0 && len(b.Identities) > 0 && !share(a.Identities, b.Identities) ||
		len(a.Methods) > 0 && len(b.Methods) > 0 && !share(a.Methods, b.Methods) {
		return false
	}
	for _, m := range a.entries() {
		for _, n := range b.entries() {
			if *budget--; *budget < 0 {
				return false
			}
			if entriesOverlap(m, n) {
				return true
			}
		}
	}
	return false
}

func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

func entriesOverlap(m, n *matcher) bool {
	if m.regex != nil || n.regex != nil {
		return true
	}
	if m.scheme != "" && n.scheme != "" && m.scheme != n.scheme {
		return false
	}
	if m.ports == portExact && n.ports == portExact && m.port != n.port {
		return false
	}
	return hostsOverlap(m.host, n.host) && pathsOverlap(m, n)
}

func hostsOverlap(a, b hostPattern) bool {
	switch {
	case a.kind == hostExact:
		return b.match(a.text)
	case b.kind == hostExact:
		return a.match(b.text)
	case a.kind == hostSuffix && b.kind == hostSuffix:
		return a.match(b.text) || b.match(a.text)
	}
	return true
}

func pathsOverlap(m, n *matcher) bool {
	a, b := m.path, n.path
	if m.fold || n.fold {
		a, b = lowerASCII(a), lowerASCII(b)
	}
	return strings.Contains(a+b, "*") || strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}
