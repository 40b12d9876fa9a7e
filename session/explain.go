package session

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
)

// Explanation says what the rules do to a request, and what they make of an
// answer to it. The texts in it hold no token.
type Explanation struct {
	Identity string   `json:"identity"`          // "" is the default one of a configuration that names none
	Speaker  *Speaker `json:"speaker,omitempty"` // nil of an anonymous request
	Rules    []Reason `json:"rules"`             // every enabled rule, in order
	Refused  string   `json:"refused,omitempty"` // what the client is told instead of an answer: it would end the session
	Changes  []string `json:"changes"`           // of the request: flow.Flow.Changes
	Dead     string   `json:"dead,omitempty"`    // the rule that calls the answer dead; "" without an answer
	Judged   bool     `json:"judged,omitempty"`  // there was an answer, and a rule that was for it
}

// Reason is what one rule does, and why.
type Reason struct {
	Rule    string `json:"rule"`
	Applies bool   `json:"applies"`
	Why     string `json:"why"` // the condition of the scope that decided

	// What follows is of rules that apply.

	Session    string    `json:"session,omitempty"` // whose session it is, and its state
	Recovery   []string  `json:"recovery,omitempty"`
	Recovers   string    `json:"recovers_first,omitempty"` // why the session is recovered before the request is sent
	Ahead      string    `json:"recovers_ahead,omitempty"` // when it is recovered before it ends
	Protect    string    `json:"protect,omitempty"`        // what the rule's protect is about the request
	Cookies    []string  `json:"cookies,omitempty"`        // which of the jar go in, by action
	Tokens     []Token   `json:"tokens,omitempty"`
	Steps      []Step    `json:"steps,omitempty"` // what the trace of the request says of the rule
	Dead       string    `json:"dead_when,omitempty"`
	CloseCodes []int     `json:"close_codes,omitempty"`
	Confirm    string    `json:"confirm,omitempty"`
	Probe      string    `json:"probe,omitempty"` // the macro that is asked now and then
	Resend     string    `json:"resend,omitempty"`
	OnFailure  string    `json:"on_failure,omitempty"`
	Takes      []Source  `json:"takes,omitempty"`
	NotJudged  bool      `json:"not_judged,omitempty"` // the request carries nothing of our session
	Found      []Finding `json:"found,omitempty"`      // in the answer, where it is alive
}

// Token is one that goes into requests.
type Token struct {
	Name  string `json:"name"`
	Place string `json:"place"`
	Known bool   `json:"known"`
	First bool   `json:"obtained_first"` // not known, and a recovery runs that is to bring it
	// Value is all that the place holds afterwards, a secret; Present is
	// false when there is no such place.
	Value   string `json:"-"`
	Present bool   `json:"present"`
}

// Source is where a token is taken from.
type Source struct {
	Token string `json:"token"`
	From  string `json:"from"`
}

// Finding is a token that the answer brought. The value is a secret.
type Finding struct {
	Token string `json:"token"`
	Value string `json:"-"`
}

// Step is an event of the trace.
type Step struct {
	Action string `json:"action"`
	Detail string `json:"detail"`
}

// Explain says what the rules would do to the flow's request now, by doing it
// to this flow: its Request is edited as it would be sent. Nothing is sent, no
// session changes, and no token is learned. tokens are values that the identity
// has besides those it knows; for tokens that a recovery would bring first,
// their names stand in. Where the flow has a Response it is judged as one to
// this request, and read; ctx ends that. The error is an *flow.Error.
func (e *Engine) Explain(ctx context.Context, f *flow.Flow, tokens map[string]string) (*Explanation, error) {
	directed := false
	if isDirected(f.Request) {
		directed = f.Request.Has(DirectiveIdentity)
		if failed := e.obey(f); failed != nil {
			return nil, failed
		}
	}
	all := e.Rules().Rules()
	out := &Explanation{Identity: f.Identity, Rules: make([]Reason, len(all)), Changes: []string{}}
	at := make(map[*rule.Rule]*Reason, len(all))
	for i, r := range all {
		reason := &out.Rules[i]
		at[r] = reason
		reason.Rule = r.Name
		if reason.Applies, reason.Why = r.Scope.Explain(f); f.Identity == Anonymous && reason.Applies {
			reason.Applies, reason.Why = false, "identity: rules put nothing into anonymous requests; their credentials are taken out"
		}
	}
	rules := e.Rules().Match(f, nil)
	if f.Identity == Anonymous {
		if len(rules) > 0 {
			e.strip(f, rules)
		}
		out.Changes = append(out.Changes, f.Changes()...)
		return out, nil
	}
	match := rules
	rules = untilStop(match)
	for _, r := range match[len(rules):] {
		at[r].Applies, at[r].Why = false, "rule "+rules[len(rules)-1].Name+" ends the processing"
	}
	x := &exchange{flow: f}
	p, failed := e.poolOf(f.Identity)
	if failed != nil {
		return nil, failed
	}
	x.lookUp(p.members[0], f.Identity, rules)
	out.Identity = x.identity.name
	out.Speaker = x.speaker(directed)
	if len(rules) == 0 {
		return out, nil
	}
	x.identity = x.identity.with(tokens)
	for range rules {
		x.stamps, x.words = append(x.stamps, 0), append(x.words, unheard)
	}
	if f.RequestBody != nil && x.mayEditBody() {
		x.holdRequest()
	}
	standIns := make(map[string]string)
	x.behind = match[len(rules):]
	if failed := x.protect(); failed != nil {
		out.Refused = failed.Error()
	}
	for _, r := range match {
		at[r].Protect = x.protection(r)
	}
	for i, r := range rules {
		x.explainRule(at[r], i, standIns)
	}
	x.identity = x.identity.with(standIns)
	if x.acts {
		x.acting = &acting{rule: len(rules)}
		x.waitForInvalid()
	}
	x.stampAndInject(ctx)
	for i, r := range rules {
		reason := at[r]
		reason.NotJudged = x.words[i] == foreign
		reason.Tokens = x.placed(r, standIns)
		for _, event := range f.Trace.Events {
			if event.Actor == r.Actor() {
				reason.Steps = append(reason.Steps, Step{event.Action, event.Detail})
			}
		}
	}
	out.Changes = append(out.Changes, f.Changes()...)
	return out, x.explainAnswer(ctx, out, at)
}

// Applied names the rules that were for a flow that has passed through Stage,
// in order; nil is none. It may be asked until the flow's memory is used again.
func Applied(f *flow.Flow) []string {
	x, ok := f.RuleMemory.(*exchange)
	if !ok || x.flow != f || x.id != f.ID {
		return nil
	}
	names := make([]string, len(x.rules))
	for i, r := range x.rules {
		names[i] = r.Name
	}
	return names
}

// explainRule says what rule i does around the sending.
func (x *exchange) explainRule(reason *Reason, i int, standIns map[string]string) {
	r, s := x.rules[i], x.sessions[i]
	state := s.status()
	who := x.identity.name
	if who == "" {
		who = "the default identity"
	}
	if x.identity.label != "" {
		who += " (" + x.identity.label + ")"
	}
	reason.Session = fmt.Sprintf("of %s, %s, generation %d", who, state.State, state.Generation)
	reason.Recovery = state.Recovery
	reason.Ahead = s.foresight()
	reason.Cookies = x.policies(r)
	if s.recovers() && !x.keepsAll(r) {
		generation, dead := s.knownDead()
		var missing []string
		for _, name := range targeted(r) {
			if _, ok := x.identity.lookup(name); !ok {
				missing = append(missing, name)
				standIns[name] = name
			}
		}
		switch {
		case dead:
			reason.Recovers = "the session is " + state.State
		case len(s.recovery) == 0: // a person is asked when an answer is dead
		case generation == 0 && len(missing) > 0:
			reason.Recovers = strings.Join(missing, ", ") + ": no value yet"
		case generation == 0 && x.lacksToken(r):
			reason.Recovers = "there was no login yet"
		}
	}
	reason.Confirm, reason.CloseCodes = r.Confirm, r.DeadCloseCodes
	if r.Probe != nil {
		reason.Probe = r.Probe.Macro
	}
	if r.Dead != nil {
		reason.Dead = r.Dead.String()
	}
	if r.Dead != nil && s.recovers() {
		reason.Resend = "it is sent again, with the new tokens"
		switch {
		case !r.Resend.Allows(x.method()):
			reason.Resend = fmt.Sprintf("it is not sent again: the rule says resend: %s, and the method is %s", r.Resend, x.method())
		case x.flow.RequestBody != nil && x.flow.RequestBody.Framing().Length > x.engine.limits.ResendBody:
			reason.Resend = "it is not sent again: the body is larger than limits.resend_body"
		}
		reason.OnFailure = "the client gets the reason instead of an answer (on_failure: fail)"
		if r.OnFailure == rule.FailPass {
			reason.OnFailure = "the client gets the dead answer (on_failure: pass)"
		}
	}
	for j := range r.Updates {
		if u := &r.Updates[j]; u.Source != nil {
			reason.Takes = append(reason.Takes, Source{u.Token, u.Source.String()})
		}
	}
}

// placed lists the rule's places with what they hold now.
func (x *exchange) placed(r *rule.Rule, standIns map[string]string) (tokens []Token) {
	x.message.Request = x.flow.Request
	for i := range r.Updates {
		u := &r.Updates[i]
		if !u.Puts() {
			continue
		}
		t := Token{Name: u.Token, Place: u.Target.Place()}
		_, has := x.identity.lookup(u.Token)
		_, standIn := standIns[u.Token]
		t.Known, t.First = has && !standIn, standIn
		t.Value, t.Present = u.Target.Whole(&x.message)
		tokens = append(tokens, t)
	}
	return tokens
}

// explainAnswer judges the answer, and looks for tokens in one that is alive.
func (x *exchange) explainAnswer(ctx context.Context, out *Explanation, at map[*rule.Rule]*Reason) error {
	f := x.flow
	if f.Response == nil {
		return nil
	}
	out.Judged = true
	v, err := x.judge(ctx, nil)
	if err != nil {
		return err
	}
	if v.dead {
		out.Dead = x.rules[v.index].Name
		return nil
	}
	if !x.engine.Rules().AutoExtract {
		return nil
	}
	var body []byte
	if f.ResponseBody != nil && x.wantsBody() && neverHeld(f.Response) == "" {
		if v.held == nil {
			if v.held, err = x.hold(ctx, x.engine.limits.JudgedBody); err != nil {
				return err
			}
		}
		body = v.held.decoded(f.Response, x.engine.limits.JudgedBody)
	}
	for i, r := range x.rules {
		if x.words[i] == foreign {
			continue
		}
		values := x.found(r, false, nil)
		if values == nil {
			values = make(map[string]string)
		}
		if body != nil {
			maps.Copy(values, x.found(r, true, body))
		}
		for j := range r.Updates {
			name := r.Updates[j].Token
			if value, ok := values[name]; ok {
				at[r].Found = append(at[r].Found, Finding{name, value})
				delete(values, name)
			}
		}
	}
	return nil
}

// with is a copy for one request that knows more values.
func (n *identity) with(values map[string]string) *identity {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &identity{name: n.name, pool: n.pool, number: n.number, label: n.label,
		persona: &persona{jar: n.jar, seed: n.seed, seen: make(map[string]map[uint64]struct{}, len(n.seen))}}
	c.variables.Store(n.variables.Load())
	for name, seen := range n.seen {
		c.seen[name] = maps.Clone(seen)
	}
	tokens := maps.Clone(*n.tokens.Load())
	for name, value := range values {
		tokens[name] = token{value: value}
		c.remember(name, value)
	}
	c.tokens.Store(&tokens)
	return c
}

// Refuse is a Send for engines that explain: it sends nothing.
func Refuse(context.Context, *flow.Flow) error {
	return &flow.Error{Reason: flow.ReasonClosing, Detail: "nothing is sent while rules are explained"}
}
