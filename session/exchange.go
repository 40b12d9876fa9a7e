package session

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// Bounds on what one request may cause. They are reached only where answers
// look dead that are not about the session, or where sessions die faster than
// requests pass.
const (
	maxOwnRecoveries = 4  // recoveries that one request starts
	maxResends       = 10 // times that one request is sent again
	// maxChanged is how often a request is sent again only because a token
	// changed meanwhile: some change with every answer.
	maxChanged = 2
)

// party is whom a request speaks for, and the rules that cover it. The next
// request of the same client mostly has the same.
type party struct {
	engine   *Engine
	name     string // the flow's word for the identity
	identity *identity
	rules    []*rule.Rule
	sessions []*session // of the rule with the same index
	acts     bool       // a rule has actions
}

// exchange is one flow on its way through the rules that cover it. Its memory
// serves the client's next flow, where flow.Flow.Reusable allows that.
type exchange struct {
	party
	injected injection
	flow     *flow.Flow
	id       flow.ID // its memory serves another one later
	next     flow.Handler
	start    *wire.Request // what each sending begins with: see begun
	mark     wire.Request  // memory for it
	leftAt   []string      // those places
	left     []string      // tokens whose places the client's own values are in
	record   flow.Record   // the answer, as conditions see it
	stamps   []uint64      // the generation that the present request carries, by the rule's index
	words    []word        // what becomes of each rule's judgement of the present answer, likewise
	kept     *keptBody     // the request's body, where it may be needed again
	held     *wholeBody    // it, where tokens may go into it
	message  rule.Message
	behind   []*rule.Rule // rules that cover the request and that one before them keeps away (stop)
	failed   []failure    // actions, while the request was edited
	replaced []byte       // what a script made the answer's body; nil: none did
	acting   *acting      // what actions brought; nil where no rule has any
	rewound  wire.Body    // it, from its start once more; nil until that is needed

	earlier     *share // of the engine's memory, for bodies in flow.Flow.Earlier; nil until there is one
	earlierSize int64  // of these, in bytes

	own     int // recoveries that this request started
	resends int
	// firstDead is the generation of which the first dead answer was, and one;
	// 0: there was none.
	firstDead uint64
	reruns    int // runs of macros that met a dead session
	changed   int // resends only because a token had changed
	// fresh is the session that was last recovered for this request, with
	// the generation it had then; barren says that one before it brought no
	// live answer to anybody.
	fresh           *session
	freshGeneration uint64
	barren          bool

	inline struct {
		rules    [4]*rule.Rule
		sessions [4]*session
		stamps   [4]uint64
		words    [4]word
	}
}

// word is what becomes of one rule's judgement of an answer.
type word uint8

const (
	unheard      word = iota
	foreign           // not asked: the request carries only values of the client's own
	contradicted      // it said dead, and its confirm macro that the session is alive
	helpless          // it said dead, and has no recovery
)

// begin looks up who the flow speaks for and prepares its body for being sent
// again.
func (e *Engine) begin(ctx context.Context, f *flow.Flow, rules []*rule.Rule, next flow.Handler) (*exchange, error) {
	x, _ := f.RuleMemory.(*exchange)
	f.RuleMemory = nil
	if x == nil {
		x = new(exchange)
	}
	*x = exchange{party: x.party, message: x.message, injected: x.injected, inline: x.inline, flow: f, id: f.ID, next: next, mark: x.mark, left: x.left[:0], leftAt: x.leftAt[:0]}
	x.message.Renew(nil, nil)
	x.begun()
	if x.engine != e || x.name != f.Identity || x.identity.pool.leased || !slices.Equal(x.rules, rules) {
		p, failed := e.poolOf(f.Identity)
		if failed != nil {
			return nil, failed
		}
		id, failed := p.lease(ctx, f)
		if failed != nil {
			return nil, failed
		}
		x.lookUp(id, f.Identity, rules)
	}
	x.stamps, x.words = x.inline.stamps[:0], x.inline.words[:0]
	for range rules {
		x.stamps, x.words = append(x.stamps, 0), append(x.words, unheard)
	}
	if x.acts {
		x.acting = new(acting)
	}
	if f.RequestBody != nil && x.mayEditBody() {
		x.holdRequest()
	}
	if f.RequestBody != nil && x.mayResend() && !x.held.isWhole() {
		x.kept = e.keep(f.RequestBody)
		if !x.kept.over { // else it passes as it is
			f.RequestBody = x.kept.reader()
			f.OnEnd(func(*flow.Flow) { x.kept.release() })
		}
	}
	e.counts.requests.Add(1)
	return x, nil
}

// begun notes how the request stands before any token is put in. That is what
// was received, unless somebody in front had to change it: taken out what was
// for Holdfast alone, or made the target that of an origin.
func (x *exchange) begun() {
	f := x.flow
	if x.start = f.Received; f.Request != f.Received {
		f.Request.CopyTo(&x.mark)
		x.start = &x.mark
	}
}

// lookUp finds the party of a flow. Sessions once made are never dropped, so
// what was found stays true.
func (x *exchange) lookUp(id *identity, name string, rules []*rule.Rule) {
	e := id.pool.engine
	x.party = party{engine: e, name: name, identity: id,
		rules: append(x.inline.rules[:0], rules...), sessions: x.inline.sessions[:0], acts: withActions(rules)}
	for _, r := range rules {
		x.sessions = append(x.sessions, e.sessionOf(id, r))
	}
}

// method is the request's. The handshake of a WebSocket is a GET, also where
// HTTP/2 says it by CONNECT (RFC 8441 §5).
func (x *exchange) method() []byte {
	if r := x.flow.Request; r.Proto() != wire.HTTP2 || !ws.Asks(r) {
		return r.Method()
	}
	return []byte("GET")
}

// mayResend reports whether any rule could want this request sent again.
func (x *exchange) mayResend() bool {
	for i, r := range x.rules {
		if r.Dead != nil && x.sessions[i].recovers() && r.Resend.Allows(x.method()) {
			return true
		}
	}
	return false
}

// run takes the flow through: prepare, send, judge, and again as often as the
// verdict wants it.
func (x *exchange) run(ctx context.Context) error {
	if failed := x.protect(); failed != nil {
		return failed
	}
	if err := x.prepare(ctx); err != nil {
		return err
	}
	for {
		if err := x.equip(ctx); err != nil {
			return err
		}
		if err := x.next(ctx, x.flow); err != nil {
			return err
		}
		if again, err := x.consider(ctx); err != nil || !again {
			if err == nil && x.acting != nil {
				if err = x.afterwards(ctx); err == nil {
					err = x.answerScripts(ctx)
				}
			}
			return err
		}
	}
}

// consider judges the answer and does what the first rule wants that calls it
// dead. Where that rule's session turns out to be alive, or cannot be
// recovered, the next rule is heard.
func (x *exchange) consider(ctx context.Context) (again bool, err error) {
	var v verdict
	for {
		if v, err = x.judge(ctx, v.held); err != nil {
			return false, err
		}
		if !v.dead {
			if v, err = x.doubts(ctx, v); err != nil {
				return false, err
			}
		}
		if !v.dead {
			break
		}
		if again, err = x.revive(ctx, v); err != nil || again || x.words[v.index] == unheard {
			return again, err
		}
	}
	for i, w := range x.words {
		if w == helpless {
			return x.passDead(x.rules[i], "the rule has no recovery")
		}
	}
	if v.held, err = x.holdAnswer(ctx, v.held); err != nil {
		return false, err
	}
	x.passAlive(v)
	return false, nil
}

// settle gives a word on all rules of the session.
func (x *exchange) settle(s *session, w word) {
	for i := range x.words {
		if x.sessions[i] == s && x.words[i] == unheard {
			x.words[i] = w
		}
	}
}

// path names what the request asks for.
func (x *exchange) path() string {
	path := x.flow.ShownPath
	if path == "" {
		path = string(x.flow.Request.Path())
	}
	return string(x.flow.Request.Method()) + " " + path
}

// prepare recovers sessions that are known to be dead and those whose tokens
// are still missing, before anything is sent.
func (x *exchange) prepare(ctx context.Context) error {
	for i, r := range x.rules {
		s := x.sessions[i]
		if s.inBrowsers() {
			url := x.flow.Origin.URL(x.flow.Received.Path())
			s.at.Store(&url)
		}
		if !s.recovers() || x.keepsAll(r) {
			continue
		}
		if err := x.keepAhead(ctx, r, s); err != nil {
			return err
		}
		if err := x.ready(ctx, r, s); err != nil {
			return err
		}
		if r.Probe != nil {
			q := x.engine.probeOf(r)
			if _, err := x.askFirst(ctx, &q, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// ready recovers one rule's session where that is needed.
func (x *exchange) ready(ctx context.Context, r *rule.Rule, s *session) error {
	for {
		generation, dead := s.knownDead()
		if !dead && (generation > 0 || !x.lacksToken(r) || len(s.recovery) == 0) { // a person is not asked before an answer is dead
			return nil
		}
		x.flow.Recovered = true
		x.note(r, flow.ActionWait, "the session is %s: recovered before the request is sent", s.snapshotState())
		failed := x.renew(ctx, r, s, generation)
		if failed == nil {
			if x.own >= maxOwnRecoveries {
				return nil
			}
			continue
		}
		if r.OnFailure == rule.FailPass {
			x.note(r, flow.ActionNote, "the request goes on without a session (on_failure: pass): %s", failed.Detail)
			return nil
		}
		x.note(r, flow.ActionRefuse, "%s", failed.Detail)
		return failed
	}
}

// renew waits for a newer session than the stale one, and writes into the trace
// what a browser did for it.
func (x *exchange) renew(ctx context.Context, r *rule.Rule, s *session, stale uint64) *flow.Error {
	for {
		run, started, failed := s.join(stale, false)
		if run != nil {
			failed = s.await(ctx, run)
		}
		x.recovered(r, s, started, failed)
		if run != nil && started {
			if l := run.login.Load(); l != nil {
				x.noteLogin(r, l)
			}
		}
		if run == nil || failed != nil || s.generation.Load() > stale { // as in session.renew
			return failed
		}
	}
}

// recovered notes whether the request began a recovery, and which session it
// made.
func (x *exchange) recovered(r *rule.Rule, s *session, started bool, failed *flow.Error) {
	if started {
		x.own++
		x.note(r, flow.ActionRecover, "this request began the recovery")
	}
	if failed == nil {
		x.fresh, x.freshGeneration = s, s.generation.Load()
	}
}

// lacksToken reports whether a token that the rule puts into requests has no
// value yet.
func (x *exchange) lacksToken(r *rule.Rule) bool {
	targets := targeted(r)
	for _, name := range targets {
		if _, ok := x.identity.lookup(name); !ok {
			return true
		}
	}
	return len(targets) == 0
}

// targeted lists the tokens that a rule puts into requests.
func targeted(r *rule.Rule) []string {
	var names []string
	for i := range r.Updates {
		if r.Updates[i].Puts() {
			names = append(names, r.Updates[i].Token)
		}
	}
	return names
}

// stampAndInject puts the tokens into the request, highest priority first.
// The stamps are read before the tokens: see session.adopt.
func (x *exchange) stampAndInject(ctx context.Context) {
	e, f := x.engine, x.flow
	x.failed = x.failed[:0]
	for i, s := range x.sessions {
		x.stamps[i] = s.generation.Load()
	}
	clear(x.words)
	x.left, x.leftAt = x.left[:0], x.leftAt[:0]
	f.Stamp = flow.Stamp{Generation: x.stamps[0], Sequence: e.next()}
	x.authenticate()
	if !e.Rules().AutoInject && x.acting == nil {
		return
	}
	x.message.Renew(f.Request, x.held.content())
	x.message.Editor = f
	defer x.sendBody()
	var filled [8]string
	places := filled[:0]
	for at, r := range x.rules {
		var own []string
		if len(r.Actions) > 0 {
			own = x.apply(ctx, at, slices.Clone(places)) // it stays off the heap without
		}
		if !e.Rules().AutoInject {
			places = append(places, own...)
			continue
		}
		targets, kept := 0, 0
		for i := range r.Updates {
			u := &r.Updates[i]
			if !u.Puts() {
				continue
			}
			targets++
			place := u.Target.Place()
			if f.Keeps(place) {
				kept++
				x.left, x.leftAt = append(x.left, u.Token), append(x.leftAt, place)
				x.note(r, flow.ActionKeep, "%s is left as the client wrote it ("+DirectiveKeep+")", place)
				continue
			}
			if contains(places, place) {
				x.note(r, flow.ActionKeep, "%s was filled by a rule of higher priority", place)
				continue
			}
			if why := x.held.unedited(); why != "" && u.Target.NeedsBody() {
				x.note(r, flow.ActionNote, "%s: nothing is put into the body: %s", place, why)
			}
			filled, strange := x.inject(r, u, place)
			if filled {
				places = append(places, place)
			}
			if strange {
				kept++
				x.left, x.leftAt = append(x.left, u.Token), append(x.leftAt, place)
			}
		}
		places = append(places, own...)
		if kept > 0 && kept == targets && !usesCookies(r) {
			x.words[at] = foreign
			x.note(r, flow.ActionKeep, "the answer is not judged: the request carries nothing of our session")
		}
	}
	if e.Rules().AutoInject && x.computes() {
		x.sendBody() // Content-Length is part of what is computed from
		x.compute(ctx, slices.Clone(places))
	}
	x.restamp()
}

// restamp has a request whose session was recovered between its stamp and its
// tokens, and which carries the new ones, count as one of the new session. Else
// what its answer brings would be taken for the dead one's, and lost.
func (x *exchange) restamp() {
	n := x.identity
	if !x.anyToken(func(u *rule.Update) bool { return n.isSince(u.Token, x.flow.Stamp.Sequence) }) {
		return
	}
	n.mu.Lock() // whoever changes tokens has drawn their number then, and nobody else does
	defer n.mu.Unlock()
	sequence := x.engine.next()
	carries := false
	old := x.anyToken(func(u *rule.Update) bool {
		value, ok := x.lookup(u.Token)
		if !ok || x.flow.Keeps(u.Target.Place()) {
			return false
		}
		holds := u.Target.Holds(&x.message, value, x.lookup)
		carries = carries || holds
		return !holds
	})
	if carries && !old {
		x.flow.Stamp.Sequence = sequence
	}
}

// anyToken reports whether something is so of a token that a rule puts in.
func (x *exchange) anyToken(is func(*rule.Update) bool) bool {
	for _, r := range x.rules {
		for i := range r.Updates {
			if u := &r.Updates[i]; u.Puts() && is(u) {
				return true
			}
		}
	}
	return false
}

// computes reports whether a script computes a value from the request.
func (x *exchange) computes() bool {
	for _, r := range x.rules {
		for i := range r.Updates {
			if r.Updates[i].Computes() {
				return true
			}
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// inject puts one token into its place and reports whether the place is taken,
// and whether it is by a value of the client's own.
func (x *exchange) inject(r *rule.Rule, u *rule.Update, place string) (filled, strange bool) {
	value, ok := x.lookup(u.Token)
	if !ok {
		x.note(r, flow.ActionNote, "%s: token %s has no value yet", place, u.Token)
		return false, false
	}
	if r.KeepForeign && x.isForeign(u) {
		x.note(r, flow.ActionKeep, "%s holds a value that Holdfast never handed out (keep_foreign)", place)
		return true, true
	}
	if u.Target.InPath() { // so that the value is in no trace
		if x.flow.ShownPath == "" {
			x.flow.ShownPath = string(x.flow.Received.Path())
		}
		x.flow.ShownPath = u.Target.HidePath(x.flow.ShownPath)
	}
	changed, err := u.Target.Inject(&x.message, value, x.lookup)
	switch {
	case err != nil:
		x.note(r, flow.ActionNote, "%s: token %s cannot be put in: %v", place, u.Token, err)
		return false, false
	case changed:
		x.tell(r, flow.ActionInject, x.injected.text(u, x.flow.Stamp.Generation))
	}
	return true, false
}

// injection is what the trace says of a token that was put in. It says the
// same of all requests of a generation, so the last words are kept.
type injection struct {
	update     *rule.Update
	generation uint64
	words      string
}

func (i *injection) text(u *rule.Update, generation uint64) string {
	if i.update != u || i.generation != generation {
		*i = injection{u, generation, u.Target.Place() + ": token " + u.Token + ", generation " + strconv.FormatUint(generation, 10)}
	}
	return i.words
}

// isForeign reports whether the place holds a value that is not the token's
// present one and was never seen as one.
func (x *exchange) isForeign(u *rule.Update) bool {
	current, ok := u.Target.Current(&x.message)
	return ok && current != "" && !x.identity.knows(u.Token, current)
}

// note writes into the flow's trace.
func (x *exchange) note(r *rule.Rule, action, format string, args ...any) {
	x.tell(r, action, fmt.Sprintf(format, args...))
}

// tell is note for a text that is ready.
func (x *exchange) tell(r *rule.Rule, action, detail string) {
	x.flow.Trace.Add(flow.Event{At: x.engine.since(x.flow.Start), Actor: r.Actor(), Action: action, Detail: detail})
}
