package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
)

// Rule is a rule, as far as it can be shown in short.
type Rule struct {
	Name     string   `json:"name"`
	ID       string   `json:"id,omitempty"`
	Enabled  bool     `json:"enabled"`
	Origin   string   `json:"origin" doc:"file; or project, where it was made or changed by hand."`
	Priority int      `json:"priority" doc:"Higher first."`
	Order    int      `json:"order" doc:"Its place in the configuration, from 1."`
	Dead     string   `json:"dead_when,omitempty" doc:"A condition on answers, in HTTPQL."`
	Recovery []string `json:"recovery" nullable:"false" doc:"The macros that make a session, in order."`
	Confirm  string   `json:"confirm,omitempty" doc:"The macro that may contradict."`
	Probe    string   `json:"probe,omitempty" doc:"The macro that is asked now and then."`
	Tokens   []string `json:"tokens" nullable:"false" doc:"That it takes or puts in."`
	Actions  []string `json:"actions" nullable:"false"`
}

func shownRule(i int, f *config.File) Rule {
	r := &f.Rules[i]
	out := Rule{Name: r.Name, ID: r.ID, Origin: f.By(config.EntryRule, r.Name), Enabled: r.Enabled, Priority: r.Priority, Order: i + 1, Recovery: append([]string{}, r.Recovery...),
		Confirm: r.Confirm, Tokens: []string{}, Actions: []string{}}
	if r.Dead != nil {
		out.Dead = r.Dead.String()
	}
	if r.Probe != nil {
		out.Probe = r.Probe.Macro
	}
	for _, u := range r.Updates {
		if !slices.Contains(out.Tokens, u.Token) {
			out.Tokens = append(out.Tokens, u.Token)
		}
	}
	for j := range r.Actions {
		out.Actions = append(out.Actions, r.Actions[j].Name())
	}
	return out
}

type named struct {
	Name string `json:"name" minLength:"1" maxLength:"256" doc:"Its name or ID."`
}

func ruleOperations() []Operation {
	switched := func(on bool) func(context.Context, *Desk, *named) (*Done, error) {
		return func(_ context.Context, d *Desk, p *named) (*Done, error) {
			changed, err := d.proxy.SetRuleEnabled(p.Name, on)
			word := map[bool]string{true: "on", false: "off"}[on]
			switch {
			case err != nil:
				return nil, asError(err)
			case !changed:
				return &Done{1, 0, "rule " + p.Name + " was " + word}, nil
			}
			d.events.publish("rule", RuleEvent{p.Name, on})
			return &Done{1, 1, "rule " + p.Name + " is " + word}, nil
		}
	}
	return []Operation{
		of(Operation{Name: "rule.list", Doc: "List the rules in the order of the configuration, those that are switched off too.", Danger: Read,
			Method: "GET", Path: "/rules", Tool: "rules.list macros.list_rules", Command: "rule list"},
			func(_ context.Context, d *Desk, p *Paging) (*Page[Rule], error) {
				var all []Rule
				f := d.proxy.File()
				for i := range f.Rules {
					all = append(all, shownRule(i, f))
				}
				return paged(all, *p, func(r *Rule) string { return fmt.Sprintf("%09d", r.Order) })
			}),
		of(Operation{Name: "rule.get", Doc: "Show a rule.", Danger: Read,
			Method: "GET", Path: "/rules/{name}", Tool: "rules.get", Command: "rule show"},
			func(_ context.Context, d *Desk, p *named) (*Rule, error) {
				f := d.proxy.File()
				for i, r := range f.Rules {
					if r.Name == p.Name || r.ID != "" && r.ID == p.Name {
						shown := shownRule(i, f)
						return &shown, nil
					}
				}
				return nil, &flow.Error{Status: 404, Reason: flow.ReasonRule, Detail: fmt.Sprintf("There is no rule %q.", p.Name), Next: "List the rules to see their names."}
			}),
		of(Operation{Name: "rule.enable", Doc: "Switch a rule on. The configuration file stays as it is; the project keeps the change, until the file says something else of the rule.", Danger: Change,
			Method: "POST", Path: "/rules/{name}/enable", Tool: "rules.enable macros.enable_rule", Command: "rule enable"}, switched(true)),
		of(Operation{Name: "rule.disable", Doc: "Switch a rule off. The configuration file stays as it is; the project keeps the change, until the file says something else of the rule.", Danger: Change,
			Method: "POST", Path: "/rules/{name}/disable", Tool: "rules.disable macros.disable_rule", Command: "rule disable"}, switched(false)),
	}
}
