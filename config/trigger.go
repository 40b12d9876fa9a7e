package config

import (
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

// A trigger is Hugin's short way to say when a macro runs. It is no engine of
// its own: it becomes an action, or a check and a recovery.

const tableTrigger = "on"

// triggerDraft says when the macro of run: runs.
type triggerDraft struct {
	n        *yaml.Node
	always   bool
	interval time.Duration
	checks   []*checkDraft
}

func triggerFields() []field[triggerDraft] {
	return []field[triggerDraft]{
		{"status", "", asCheck(rule.CheckStatusCode)},
		{"body_contains", "", asCheck(rule.CheckResponseContains)},
		{"header_contains", "", func(d *decoder, n *yaml.Node, t *triggerDraft) {
			if n.Kind == yaml.MappingNode { // {name, value}, as Hugin has it
				var h headerDraft
				object(d, n, tableTriggerHeader, triggerHeaderFields(), &h)
				if !h.name.given() || !h.pattern.given() {
					return // reported
				}
				if q := d.ruleCheck(rawCheck{typ: word{n, rule.CheckHeaderContains}, value: n}, []any{h.name.s, h.pattern.s}); q != nil {
					t.checks = append(t.checks, &checkDraft{n: n, query: q})
				}
				return
			}
			asCheck(rule.CheckHeaderContains)(d, n, t)
		}},
		{"interval", "", duration("interval", time.Second, 30*24*time.Hour, func(t *triggerDraft) *time.Duration { return &t.interval })},
	}
}

const tableTriggerHeader = "header_contains"

func triggerHeaderFields() []field[headerDraft] {
	return []field[headerDraft]{
		{"name", "name the header", single("name", func(h *headerDraft) *word { return &h.name })},
		{"value", "write what its value contains", single("value", func(h *headerDraft) *word { return &h.pattern })},
	}
}

func triggerWords() []string { return []string{"always"} }

// asCheck makes the reader of a trigger that is a check.
func asCheck(kind string) func(*decoder, *yaml.Node, *triggerDraft) {
	return func(d *decoder, n *yaml.Node, t *triggerDraft) {
		if c := d.checked(n, d.conditionOf(rawCheck{typ: word{n, kind}, value: n})); c != nil {
			t.checks = append(t.checks, c)
		}
	}
}

// trigger reads `always`, or a mapping with one key.
func (d *decoder) trigger(n *yaml.Node) *triggerDraft {
	t := triggerDraft{n: n}
	if n.Kind == yaml.ScalarNode {
		w, ok := d.word(n, tableTrigger)
		t.always = ok && d.oneOf(w, tableTrigger, triggerWords())
		return &t
	}
	before := len(d.problems)
	if !object(d, n, tableTrigger, triggerFields(), &t) || len(d.problems) > before {
		return &t
	}
	said := len(t.checks)
	if t.interval > 0 {
		said++
	}
	if said != 1 {
		d.errorAt(n, "write always, or one of {status: [401]}, {body_contains: TEXT}, {header_contains: {name: NAME, value: TEXT}}, {interval: 5m}",
			"on says one thing; this says %d", said)
	}
	return &t
}

// intervalSkew is how long before the end of a session that lives for an
// interval the macro runs.
const intervalSkew = time.Second

// triggered makes the trigger of a rule what it stands for.
func (c *ruleCompiler) triggered(r *ruleDraft, out *rule.Rule) {
	t := r.trigger
	switch {
	case t == nil && !r.run.given():
		return
	case t == nil:
		c.errorAt(r.run.n, "add on: always, or another trigger", "run names a macro, and nothing says when it runs")
		return
	case !r.run.given():
		c.errorAt(t.n, "add run: with the name of the macro", "on says when, and nothing says which macro runs")
		return
	}
	c.asks(r.run)
	if t.always {
		run := &rule.RunMacro{Macro: r.run.s}
		c.useOffered(run.Macro, r.run.n)
		out.Actions = append([]rule.Action{{RunMacro: run}}, out.Actions...)
		return
	}
	if t.interval > 0 && len(out.Recovery) == 0 && out.Proactive == nil {
		// A session that always ends a moment later is renewed each time.
		out.Recovery = []string{r.run.s}
		out.Proactive = &rule.Proactive{Lifetime: t.interval + intervalSkew, Skew: intervalSkew}
		return
	}
	if out.Dead != nil || len(out.Recovery) > 0 || out.Proactive != nil {
		c.errorAt(t.n, "keep one of them", "on and run say what validation and reauth_macro say too")
		return
	}
	if len(t.checks) == 1 {
		out.Dead, out.Recovery = t.checks[0].query, []string{r.run.s}
	}
	if !r.resend.given() {
		out.Resend = rule.ResendNever
	}
}
