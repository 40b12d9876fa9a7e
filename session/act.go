package session

import (
	"context"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// acting is what the actions of a request's rules have brought. It is nil of a
// request whose rules have none.
type acting struct {
	// values are the variables that macros brought for this sending. They are
	// this request's alone: a value that is good for one use is not used twice.
	values map[string]string
	runs   []performed
	// rule and action are the first action that is not done; rule is
	// len(rules) when all are.
	rule, action int
}

// performed is what a macro brought for the action at a place.
type performed struct {
	rule, action int
	run          *macroRun
}

// is reports whether the action is done.
func (a *acting) is(rule, action int) bool {
	return rule < a.rule || rule == a.rule && action < a.action
}

func (a *acting) runOf(rule, action int) *macroRun {
	for i := range a.runs {
		if p := &a.runs[i]; p.rule == rule && p.action == action {
			return p.run
		}
	}
	return nil
}

// withActions reports whether one of the rules has actions.
func withActions(rules []*rule.Rule) bool {
	for _, r := range rules {
		if len(r.Actions) > 0 {
			return true
		}
	}
	return false
}

// untilStop leaves out the rules behind one that ends the processing.
func untilStop(rules []*rule.Rule) []*rule.Rule {
	for i, r := range rules {
		if len(r.Actions) > 0 && r.Stops() {
			return rules[:i+1]
		}
	}
	return rules
}

// lookup is the value of a variable for this request.
func (x *exchange) lookup(name string) (string, bool) {
	if x.acting != nil {
		if v, ok := x.acting.values[name]; ok {
			return v, true
		}
	}
	return x.identity.lookup(name)
}

// apply does the actions of one rule to the request, as far as they change it.
// places are those that rules of higher priority have filled; it returns those
// that this one fills.
func (x *exchange) apply(ctx context.Context, at int, places []string) (filled []string) {
	r := x.rules[at]
	for i := range r.Actions {
		a := &r.Actions[i]
		if !x.acting.is(at, i) {
			x.note(r, flow.ActionKeep, "%s and what follows it: not done", a.Name())
			return filled
		}
		e := editor{x: x, ctx: ctx, rule: r, index: at, action: a.Name(), places: places, filled: filled}
		switch {
		case a.UseCookies != nil:
			e.cookies(a.UseCookies.Mode, &a.UseCookies.Pick)
			x.endsWithCookies(&a.UseCookies.Pick)
		case a.SetParam != nil:
			e.param(a.SetParam)
		case a.SetHeader != nil:
			e.put(a.SetHeader.Target(), "", a.SetHeader.IfAbsent)
		case a.RunMacro != nil:
			run := x.acting.runOf(at, i)
			if run == nil && x.next == nil {
				e.say(flow.ActionRun, "macro %s runs before the request is sent", a.RunMacro.Macro)
			}
			if run != nil {
				e.offered(run.offers, run.values, &a.RunMacro.Params, a.RunMacro.Tolerate, &a.RunMacro.Cookies)
				if a.RunMacro.Script != nil {
					e.script(a.RunMacro.Script)
				}
			}
		case a.CheckSession != nil:
			e.recovered(x.sessions[at], a.CheckSession)
		case a.RecoverInBrowser != nil:
			e.cookies("", &a.RecoverInBrowser.Cookies)
		case a.RunScript != nil:
			if !a.RunScript.Response {
				e.script(a.RunScript.Script)
			}
		case a.Stop:
			e.say(flow.ActionKeep, "rules of lower priority are not for this request")
		}
		filled = e.filled
	}
	return filled
}

// editor changes the request for one action.
type editor struct {
	x      *exchange
	ctx    context.Context // of the request; an editor lives for one action
	rule   *rule.Rule
	index  int // of the rule
	action string
	places []string // filled by rules of higher priority
	filled []string // by this rule
}

// say writes into the trace what the action did, or why it did not.
func (e *editor) say(action, format string, args ...any) {
	e.x.note(e.rule, action, e.action+": "+format, args...)
}

// put sets one place. value is for a target without a template.
func (e *editor) put(t *rule.Target, value, ifAbsent string) {
	x, place := e.x, t.Place()
	m := &x.message
	if x.flow.Keeps(place) {
		e.say(flow.ActionKeep, "%s is left as the client wrote it ("+DirectiveKeep+")", place)
		return
	}
	if contains(e.places, place) {
		e.say(flow.ActionKeep, "%s was filled by a rule of higher priority", place)
		return
	}
	if why := x.held.unedited(); why != "" && t.NeedsBody() {
		e.say(flow.ActionNote, "%s: nothing is put into the body: %s", place, why)
		return
	}
	_, present := t.Current(m)
	if !present && ifAbsent == rule.IfAbsentSkip {
		e.say(flow.ActionKeep, "%s is not in the request (if_absent: skip)", place)
		return
	}
	if t.Holds(m, value, x.lookup) {
		e.filled = append(e.filled, place)
		e.say(flow.ActionKeep, "%s has the value already", place)
		return
	}
	m.Request = x.flow.Edit()
	changed, err := t.Inject(m, value, x.lookup)
	switch {
	case err != nil:
		e.say(flow.ActionNote, "%s: %v", place, err)
		return
	case !changed:
		e.say(flow.ActionKeep, "the request cannot have %s", place)
		return
	case present:
		e.say(flow.ActionInject, "%s: *** is now ***", place)
	default:
		e.say(flow.ActionInject, "%s was added: ***", place)
	}
	e.filled = append(e.filled, place)
}

// param sets a parameter wherever it stands.
func (e *editor) param(a *rule.SetParam) {
	var buf [5]*rule.Target
	m := &e.x.message
	if targets := a.Places().Present(m, buf[:0]); len(targets) > 0 {
		for _, t := range targets {
			e.put(t, "", a.IfAbsent)
		}
		return
	}
	if a.IfAbsent == rule.IfAbsentSkip {
		e.say(flow.ActionKeep, "parameter %s is not in the request (if_absent: skip)", a.Name)
		return
	}
	if t := a.Places().Absent(m); t != nil {
		e.put(t, "", a.IfAbsent)
		return
	}
	e.say(flow.ActionKeep, "parameter %s is not in the request, and its body is none that it can be added to", a.Name)
}

// cookies puts the identity's cookies into the request.
func (e *editor) cookies(mode string, pick *rule.Pick) {
	if pick.None {
		return
	}
	x := e.x
	f := x.flow
	policy := jar.Policy{Mode: jar.Mode(mode), Only: pick.Only, Except: pick.Except}
	if f.Keeps("header:cookie") {
		e.say(flow.ActionKeep, "the cookies are left as the client wrote them ("+DirectiveKeep+")")
		return
	}
	for _, place := range append(e.places[:len(e.places):len(e.places)], f.Keep...) { // a token of a higher priority, or the client's own
		if name, ok := strings.CutPrefix(place, "cookie:"); ok {
			policy.Except = append(policy.Except[:len(policy.Except):len(policy.Except)], name)
		}
	}
	merged, edits := jar.Merge(string(cookieLine(x.message.Request)), x.identity.jar.Cookies(address(f), x.engine.now()), policy)
	if len(edits) == 0 {
		e.say(flow.ActionKeep, "the jar has nothing to change")
		return
	}
	req := f.Edit()
	x.message.Request = req
	if merged == "" {
		req.Del("Cookie")
	} else if err := putCookies(req, merged); err != nil {
		e.say(flow.ActionNote, "the cookies cannot be put in: %v", err)
		return
	}
	words := make([]string, len(edits))
	for i, edit := range edits {
		words[i] = edit.String()
	}
	e.say(flow.ActionInject, "%s", strings.Join(words, ", "))
}

// putCookies makes one line of the request's Cookie fields, at the place of the
// first.
func putCookies(req *wire.Request, line string) error {
	first := true
	for i := 0; i < req.NumFields(); i++ {
		if name, _ := req.Field(i); !isField(name, "Cookie") {
			continue
		}
		if !first {
			req.DelField(i)
			i--
			continue
		}
		first = false
		if err := req.SetFieldValue(i, []byte(line)); err != nil {
			return err
		}
	}
	if first {
		return req.Add("Cookie", line)
	}
	return nil
}
