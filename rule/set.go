package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-proxy/holdfast/flow"
)

// Globals are the switches of a rule file beside its rules. The configuration
// has both on unless it says otherwise.
type Globals struct {
	AutoExtract bool // take tokens from responses that pass
	AutoInject  bool // put tokens into requests
	// Identity is who requests speak for that name nobody, as scopes with
	// identities know it.
	Identity string
}

// Set is a compiled list of rules. It never changes; any goroutine may use it.
type Set struct {
	Globals
	rules    []*Rule
	warnings []Warning

	index *index    // nil without rules
	rooms sync.Pool // *room
}

// Compile checks the rules, leaves out the disabled ones, and orders the others
// by priority, higher first, equal ones as given. Errors are [Errors], all at
// once; disabled rules are checked too. The rules are copied; what they point
// to is shared and must not be changed any more.
func Compile(rules []Rule, g Globals) (*Set, error) {
	s := &Set{Globals: g}
	var errs Errors
	seen := make(map[string]bool)
	for i := range rules {
		r := rules[i]
		r.Updates, r.Protect = slices.Clone(r.Updates), slices.Clone(r.Protect)
		if r.Name == "" {
			r.Name = fmt.Sprintf("rule %d", i+1)
		}
		problems := r.compile()
		if seen[r.Name] {
			problems = append(problems, &Error{Key: "name", Problem: "there is another rule of this name", Next: "rename one of them"})
		}
		seen[r.Name] = true
		for _, e := range problems {
			e.Index, e.Rule = i, r.Name
		}
		errs = append(errs, problems...)
		if r.Enabled {
			s.rules = append(s.rules, &r)
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	slices.SortStableFunc(s.rules, func(a, b *Rule) int { return cmp.Compare(b.Priority, a.Priority) })
	for i, r := range s.rules {
		r.order, r.actor = i, "rule "+r.Name
		r.Scope.fallback = g.Identity
		for i := range r.Protect {
			r.Protect[i].fallback = g.Identity
		}
	}
	s.index = newIndex(s.rules)
	s.warnings = warnings(s.rules)
	return s, nil
}

// compile readies everything in the rule and says what is wrong with it.
func (r *Rule) compile() (errs Errors) {
	add := func(key string, err error) {
		if err != nil {
			errs = append(errs, within(key, err))
		}
	}
	add("scope", r.Scope.Compile())
	for i := range r.Protect {
		add(fmt.Sprintf("protect[%d]", i), r.Protect[i].Compile())
		r.Protect[i].normalize()
	}
	tokens := make(map[string]bool)
	for i := range r.Updates {
		u := &r.Updates[i]
		key := fmt.Sprintf("token_updates[%d]", i)
		add(key, u.compile())
		if u.Target != nil {
			place := u.Target.Place()
			if place != "" && tokens[place] {
				add(key+".target", &Error{Problem: "another token of this rule goes to the same place", Next: "keep one of them, or join them in a template"})
			}
			tokens[place] = true
		}
	}
	errs = append(errs, r.compileActions()...)
	switch r.Resend {
	case "", ResendAlways, ResendSafe, ResendNever:
	default:
		add("resend", &Error{Problem: fmt.Sprintf("there is no resend %q", r.Resend), Next: "write always, safe or never"})
	}
	switch r.OnFailure {
	case "", FailClosed, FailPass:
	default:
		add("on_failure", &Error{Problem: fmt.Sprintf("there is no on_failure %q", r.OnFailure), Next: "write fail or pass"})
	}
	for i, name := range r.Recovery {
		if strings.TrimSpace(name) == "" {
			add(fmt.Sprintf("reauth_macro[%d]", i), &Error{Problem: "a macro has no name", Next: "write the macro's name or ID"})
		}
	}
	for i, code := range r.DeadCloseCodes {
		if !IsCloseCode(code) {
			add(fmt.Sprintf("validation.close_codes[%d]", i), &Error{Problem: fmt.Sprintf("%d never stands in a close frame", code), Next: "write codes from 1000 to 4999, such as 1008 or 4401"})
		}
	}
	if r.Probe != nil {
		add("validation.probe", r.Probe.compile())
	}
	if r.Proactive != nil {
		add("proactive", r.Proactive.compile())
	}
	switch {
	case r.Dead == nil && len(r.DeadCloseCodes) == 0 && r.Probe == nil && len(r.Updates) == 0 && len(r.Protect) == 0 && len(r.Actions) == 0 && r.Auth == nil:
		add("", &Error{Problem: "the rule does nothing: it has no validation, no token_updates and no actions", Next: "add one of them, or remove the rule"})
	case r.Dead == nil && r.Confirm != "":
		add("validation.confirm", &Error{Problem: "nothing asks for the confirmation: the rule has no check", Next: "add validation.check_type"})
	}
	return errs
}

func (u *Update) compile() error {
	if u.Token == "" {
		return &Error{Key: "token_name", Problem: "the token has no name", Next: "name it"}
	}
	for i := range len(u.Token) {
		if !isNameByte(u.Token[i]) {
			return &Error{Key: "token_name", Problem: fmt.Sprintf("the name %q cannot stand in a template", u.Token), Next: "use letters, digits, '_', '-' and '.'"}
		}
	}
	if u.Source == nil && u.Target == nil {
		return &Error{Problem: "the token comes from nowhere and goes nowhere", Next: "add a source, a target or both"}
	}
	if u.Source != nil {
		if err := u.Source.Compile(); err != nil {
			return within("source", err)
		}
	}
	if u.Target != nil {
		if err := u.Target.Compile(u.Token); err != nil {
			return within("target", err)
		}
	}
	return nil
}

// Rules are the enabled rules in their order. The slice must not be changed.
func (s *Set) Rules() []*Rule { return s.rules }

// Warnings lists what is probably not meant, at most 100 of them.
func (s *Set) Warnings() []Warning { return s.warnings }

// Match appends the rules whose scope covers the flow's request, in order, to
// dst. It allocates nothing when there are none, and nothing else when dst has
// room; but a scope with params, or a condition about the body, may read the
// request's body as [flow.Flow.Peek] does, once everything else matches.
func (s *Set) Match(f *flow.Flow, dst []*Rule) []*Rule {
	if len(s.rules) == 0 || f.Tool == flow.ToolMacro {
		return dst
	}
	v := &view{flow: f, pool: &s.rooms}
	first := len(dst)
	dst = s.index.match(v, dst)
	if found := dst[first:]; len(found) > 1 {
		slices.SortFunc(found, func(a, b *Rule) int { return cmp.Compare(a.order, b.order) })
		dst = dst[:first+len(slices.Compact(found))]
	}
	v.done()
	return dst
}
