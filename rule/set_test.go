package rule_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/rule"
)

// inject is a rule that does something.
func inject(name, pattern string, priority int) rule.Rule {
	return rule.Rule{Name: name, Enabled: true, Priority: priority, Scope: rule.Scope{Pattern: pattern},
		Updates: []rule.Update{{Token: "ACCESS", Target: &rule.Target{Type: rule.TargetRequestHeader, Name: "Authorization"}}}}
}

func compile(t testing.TB, rules ...rule.Rule) *rule.Set {
	t.Helper()
	s, err := rule.Compile(rules, rule.Globals{AutoExtract: true, AutoInject: true})
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return s
}

func names(rules []*rule.Rule) string {
	var list []string
	for _, r := range rules {
		list = append(list, r.Name)
	}
	return strings.Join(list, " ")
}

func TestMatchOrder(t *testing.T) {
	off := inject("off", "*", 1000)
	off.Enabled = false
	s := compile(t,
		inject("low", "*", 1),
		inject("exact", "www.shop.example", 50),
		inject("suffix", "*.shop.example", 50),
		inject("url", "https://www.shop.example/admin", 70),
		inject("regex", `^https://www\.`, 60),
		inject("deep", "*.example", 2),
		inject("other", "bank.example", 99),
		off,
	)
	first := inject("first", "*", 0)
	for _, c := range []struct{ url, want string }{
		{"https://www.shop.example/admin/x", "first url regex exact suffix deep low"},
		{"https://shop.example/", "first suffix deep low"},
		{"http://bank.example/", "first other deep low"},
		{"http://elsewhere.test/", "first low"},
	} {
		if got := names(s.Match(get(t, c.url), []*rule.Rule{&first})); got != c.want {
			t.Errorf("%s: rules %s, want %s", c.url, got, c.want)
		}
	}
	if got, want := names(s.Rules()), "other url regex exact suffix deep low"; got != want {
		t.Errorf("Rules: %s, want %s", got, want)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	rules := manyRules(100)
	rules = append(rules, inject("regex", `^https://never\.example/`, 0), inject("url", "https://*.nowhere.example/x", 0))
	s := compile(t, rules...)
	f := get(t, "https://www.shop.example/a/b?c=d")
	var room [4]*rule.Rule
	if n := testing.AllocsPerRun(100, func() { s.Match(f, room[:0]) }); n > 0 {
		t.Errorf("Match with nothing in scope allocates %v times, want 0", n)
	}
	f = get(t, "https://h42.shop.example/a")
	if n := testing.AllocsPerRun(100, func() { s.Match(f, room[:0]) }); n > 0 {
		t.Errorf("Match with room for the rule in scope allocates %v times, want 0", n)
	}
}

func TestCompileMistakes(t *testing.T) {
	good := inject("good", "*", 0)
	with := func(edit func(r *rule.Rule)) rule.Rule {
		r := inject("bad", "*", 0)
		edit(&r)
		return r
	}
	for _, c := range []struct {
		name      string
		rule      rule.Rule
		key, says string
	}{
		{"nothing to do", with(func(r *rule.Rule) { r.Updates = nil }), "", "does nothing"},
		{"a confirmation of nothing", with(func(r *rule.Rule) { r.Confirm = "whoami" }), "validation.confirm", "no check"},
		{"a probe without a macro", with(func(r *rule.Rule) { r.Probe = &rule.Probe{Every: 1} }), "validation.probe.macro", "no macro"},
		{"a probe every -1 requests", with(func(r *rule.Rule) { r.Probe = &rule.Probe{Macro: "m", Every: -1} }), "validation.probe.every", "no number"},
		{"a skew before nothing", with(func(r *rule.Rule) { r.Proactive = &rule.Proactive{Skew: -1} }), "proactive.skew", "no time"},
		{"a jitter of more than all", with(func(r *rule.Rule) { r.Proactive = &rule.Proactive{Jitter: 101} }), "proactive.jitter", "no part"},
		{"the name of another", with(func(r *rule.Rule) { r.Name = "good" }), "name", "another rule"},
		{"a scope that cannot be", with(func(r *rule.Rule) { r.Scope.Pattern = "a b" }), "scope.pattern", "no host"},
		{"an unknown resend", with(func(r *rule.Rule) { r.Resend = "maybe" }), "resend", "no resend"},
		{"an unknown on_failure", with(func(r *rule.Rule) { r.OnFailure = "open" }), "on_failure", "no on_failure"},
		{"a macro without a name", with(func(r *rule.Rule) { r.Recovery = []string{"refresh", ""} }), "reauth_macro[1]", "no name"},
		{"a token without a name", with(func(r *rule.Rule) { r.Updates[0].Token = "" }), "token_updates[0].token_name", "no name"},
		{"a token that no template can name", with(func(r *rule.Rule) { r.Updates[0].Token = "a b" }), "token_updates[0].token_name", "cannot stand"},
		{"a token without source and target", with(func(r *rule.Rule) { r.Updates[0].Target = nil }), "token_updates[0]", "goes nowhere"},
		{"a regex without its group", with(func(r *rule.Rule) {
			r.Updates[0].Source = &rule.Source{Type: "ResponseBody", Regex: "token"}
		}), "token_updates[0].source.regex", "0 capture groups"},
		{"a template that names another token", with(func(r *rule.Rule) {
			r.Updates[0].Target.Template, _ = rule.ParseTemplate("Bearer {{OTHER}}")
		}), "token_updates[0].target.template", "its own token"},
		{"two tokens in one place", with(func(r *rule.Rule) {
			r.Updates = append(r.Updates, rule.Update{Token: "B", Target: &rule.Target{Type: "RequestHeader", Name: "AUTHORIZATION"}})
		}), "token_updates[1].target", "same place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := rule.Compile([]rule.Rule{good, c.rule}, rule.Globals{})
			var all rule.Errors
			if !errors.As(err, &all) || len(all) != 1 {
				t.Fatalf("Compile gave %v, want one error", err)
			}
			e := all[0]
			if e.Index != 1 || e.Rule != c.rule.Name || e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
				t.Errorf("got %+v, want rule 1, key %q, %q and a next step", *e, c.key, c.says)
			}
		})
	}
}

func TestCompileTellsAllMistakes(t *testing.T) {
	bad := inject("", "a b", 0)
	bad.Enabled = false // a disabled rule is checked as well
	bad.Resend = "maybe"
	_, err := rule.Compile([]rule.Rule{bad, inject("x", "((", 0)}, rule.Globals{})
	var all rule.Errors
	if !errors.As(err, &all) || len(all) != 3 || all[0].Rule != "rule 1" {
		t.Fatalf("got %v, want three errors, the first of rule 1", err)
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 3 {
		t.Errorf("the text has %d lines, want 3: %q", len(lines), err)
	}
}

func TestCompileCopies(t *testing.T) {
	rules := []rule.Rule{inject("a", "shop.example", 0)}
	s := compile(t, rules...)
	rules[0].Name, rules[0].Updates[0].Token = "changed", "changed"
	if r := s.Rules()[0]; r.Name != "a" || r.Updates[0].Token != "ACCESS" {
		t.Errorf("a change of the list changed the set: %s, %s", r.Name, r.Updates[0].Token)
	}
}

func TestTheMoreCarefulOfTwoHolds(t *testing.T) {
	a := rule.Proactive{Skew: 5, Jitter: 10, Lifetime: 100, Learn: true}
	b := rule.Proactive{Off: true, Skew: 3, Jitter: 20, Lifetime: 50, Idle: 7}
	want := rule.Proactive{Off: true, Skew: 5, Jitter: 20, Lifetime: 50, Idle: 7}
	if got := a.With(b); got != want || b.With(a) != want { // who does not want to learn decides
		t.Errorf("got %+v and %+v, want %+v", got, b.With(a), want)
	}
}

func TestWarnings(t *testing.T) {
	sameButTools := inject("tools", "*.shop.example", 0)
	sameButTools.Scope.Tools = []string{"scanner"}
	proxyOnly := inject("proxy", "*.shop.example", 9)
	proxyOnly.Scope.Tools = []string{"proxy"}
	probing := func(name string, p rule.Probe) rule.Rule {
		r := inject(name, "p.example", 0)
		r.Probe, r.Recovery = &p, []string{"login"}
		return r
	}
	hopeless := probing("hopeless", rule.Probe{Macro: "m", Every: 1})
	hopeless.Recovery = nil
	for _, c := range []struct {
		name  string
		rules []rule.Rule
		want  []string // the rules warned about
	}{
		{"other hosts", []rule.Rule{inject("a", "a.example", 0), inject("b", "b.example", 0)}, nil},
		{"one host below another", []rule.Rule{inject("a", "*.example", 5), inject("b", "b.example", 0)}, []string{"b"}},
		{"the other way round", []rule.Rule{inject("a", "*.b.example", 0), inject("b", "*.example", 5)}, []string{"a"}},
		{"other paths", []rule.Rule{inject("a", "b.example/x", 0), inject("b", "b.example/y", 0)}, nil},
		{"other schemes", []rule.Rule{inject("a", "http://b.example/", 0), inject("b", "https://b.example/", 0)}, nil},
		{"other ports", []rule.Rule{inject("a", "b.example:1", 0), inject("b", "b.example:2", 0)}, nil},
		{"other tools", []rule.Rule{sameButTools, proxyOnly}, nil},
		{"a probe", []rule.Rule{probing("a", rule.Probe{Macro: "m", Every: 1})}, nil},
		{"a probe that is never asked", []rule.Rule{probing("a", rule.Probe{Macro: "m"})}, []string{"a"}},
		{"a probe that helps nothing", []rule.Rule{hopeless}, []string{"hopeless"}},
		{"regexes may overlap", []rule.Rule{inject("a", "^https:", 0), inject("b", "b.example", 0)}, []string{"b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, w := range compile(t, c.rules...).Warnings() {
				got = append(got, w.Rule)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("warnings about %v, want %v", got, c.want)
			}
		})
	}
}

func TestWarningsEnd(t *testing.T) {
	var rules []rule.Rule
	for i := range 50 {
		rules = append(rules, inject(fmt.Sprint("r", i), "*", 0))
	}
	if n := len(compile(t, rules...).Warnings()); n != 100 {
		t.Errorf("%d warnings, want 100", n)
	}
}

func manyRules(n int) []rule.Rule {
	var rules []rule.Rule
	for i := range n {
		pattern := fmt.Sprintf("h%d.shop.example", i)
		if i%2 == 1 {
			pattern = fmt.Sprintf("*.s%d.example", i)
		}
		rules = append(rules, inject(fmt.Sprint("rule ", i), pattern, i))
	}
	return rules
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		s := compile(b, manyRules(n)...)
		for _, c := range []struct{ name, url string }{{"none", "https://www.elsewhere.example/a/b?c=d"}, {"one", "https://h0.shop.example/a/b?c=d"}} {
			b.Run(fmt.Sprintf("rules=%d/in-scope=%s", n, c.name), func(b *testing.B) {
				f := get(b, c.url)
				var room [8]*rule.Rule
				b.ReportAllocs()
				for b.Loop() {
					s.Match(f, room[:0])
				}
			})
		}
	}
}
