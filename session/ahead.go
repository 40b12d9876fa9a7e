package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// ahead recovers a session before it ends, while requests go on with the old
// tokens. It does so only for a session in use: a request was begun with its
// present tokens, and in the last half of their life. Else the next request
// finds that the end is over, and waits for the recovery.
//
// There is one try for each end, and more only where the origin could not be
// reached. After it the session counts as alive until an answer is dead.
type ahead struct {
	manner atomic.Pointer[manner]

	used atomic.Int64 // when the last request began, in ns of Unix time
	due  atomic.Int64 // when to begin, likewise; 0: not to
	idle atomic.Int64 // how long the session lives without a request, in ns; 0: not known
	// What lifetimes are learned from: when the last request was sent that was
	// answered alive, and since is born, likewise; and the longest time without
	// a request that the session survived since, in ns.
	lived, since, rested atomic.Int64
	jarEnd               atomic.Int64 // the last end that endsWith saw, likewise

	mu      sync.Mutex // guards what follows
	ends    map[string]ending
	born    time.Time // when the login of the present tokens began
	end     ending    // of the session
	draw    float64   // of 0 to 1: the generation's part of jitter
	timer   *time.Timer
	owner   *session // whose configuration holds; nil: no rule has the session any more
	given   bool     // no more is tried for the present end
	retries int
	stopped bool
	lives   int    // since the engine was made
	idleWhy string // says where idle is from

	// doubtful are macros of which it is not known whether the origin saw
	// them, with a digest of what they had sent: a refresh token is not spent
	// twice. spending are those under way, which are as doubtful when this
	// process ends now.
	doubtful, spending map[*macro.Macro]string
}

// manner is what the configuration says of recovering ahead.
type manner struct {
	policy rule.Proactive
	tokens []string // whose ends count: those that the session's rules put in
}

func (a *ahead) policy() *rule.Proactive { return &a.manner.Load().policy }

// The bounds of recovering ahead.
const (
	defaultSkew = 30 * time.Second
	// minLife is what a session lives at least to be looked after: Date and
	// exp are exact to a second.
	minLife  = 2 * time.Second
	minRetry = time.Second
)

// policyOf is what the rules with this session say together.
func (e *Engine) policyOf(s *session) rule.Proactive {
	p, said := rule.DefaultProactive(), false
	for _, r := range e.Rules().Rules() {
		switch {
		case r.Proactive == nil || !s.shares(r):
		case said:
			p = p.With(*r.Proactive)
		default:
			p, said = *r.Proactive, true
		}
	}
	p.Off = p.Off || len(s.recovery) == 0 // a person is not asked ahead
	return p
}

// plan says when to begin, and sets the timer. mu is held.
func (s *session) plan() {
	a := &s.ahead
	age, rest := s.expects()
	a.end = ending{}
	for _, e := range a.ends {
		a.end = earlier(a.end, e)
	}
	if p := a.policy(); !a.born.IsZero() {
		if p.Lifetime > 0 {
			a.end = earlier(a.end, ending{at: a.born.Add(p.Lifetime), given: a.born, why: "proactive.lifetime"})
		}
		if age > 0 {
			a.end = earlier(a.end, ending{at: a.born.Add(age), given: a.born, why: "learned lifetime " + age.Round(time.Second).String(), learned: true})
		}
	}
	a.idle.Store(int64(a.policy().Idle))
	a.idleWhy = "proactive.idle"
	if limit := a.restLimit(rest); rest.deaths > 0 && (a.policy().Idle == 0 || limit < a.policy().Idle) {
		a.idle.Store(int64(limit))
		a.idleWhy = "learned idle lifetime " + rest.high.Round(time.Second).String()
	}
	if a.end.at.IsZero() || a.given || a.policy().Off {
		a.due.Store(0)
		return
	}
	due := a.end.at.Add(-a.margin())
	if soonest := a.born.Add(minLearned / 2); a.end.learned && due.Before(soonest) {
		due = soonest
	}
	s.wake(due)
}

// margin is how long before the end a recovery begins.
func (a *ahead) margin() time.Duration { return a.marginOf(a.end.life()) }

func (a *ahead) marginOf(life time.Duration) time.Duration {
	margin := a.policy().Skew
	if margin == 0 {
		margin = min(defaultSkew, life/4)
	}
	margin = min(margin, life/2)
	return min(margin+time.Duration(a.draw*float64(a.policy().Jitter)/100*float64(margin)), life*3/4)
}

// wake has the session looked at when due. mu is held.
func (s *session) wake(due time.Time) {
	a := &s.ahead
	a.due.Store(due.UnixNano())
	if a.stopped {
		return
	}
	wait := due.Sub(s.engine.now())
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, a.fire)
		return
	}
	a.timer.Reset(wait)
}

// fire is what the timer does.
func (a *ahead) fire() {
	a.mu.Lock()
	s := a.owner
	a.mu.Unlock()
	if s != nil {
		s.fire()
	}
}

// belong has the session's configuration hold for what it has in common with
// those before it.
func (s *session) belong() {
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	a.manner.Store(&manner{policy: s.engine.policyOf(s), tokens: s.engine.tokensOf(s)})
	a.owner = s
}

// giveUp ends the timer until the session belongs to a configuration again.
func (a *ahead) giveUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owner = nil
	a.due.Store(0)
	if a.timer != nil {
		a.timer.Stop()
	}
}

func (s *session) fire() {
	a, now := &s.ahead, s.engine.now()
	a.mu.Lock()
	due, end, used := a.due.Load(), a.end, time.Unix(0, a.used.Load())
	begin := due != 0 && now.UnixNano() >= due && now.Before(end.at) && used.After(a.born) && now.Sub(used) <= end.life()/2
	if due != 0 && now.UnixNano() < due && !a.stopped { // the clock is not the timer's
		a.timer.Reset(time.Duration(due - now.UnixNano()))
	}
	a.mu.Unlock()
	if !begin {
		return
	}
	exit, ok := s.identity.tryEnter()
	if !ok {
		return // the next request of an exclusive session begins it
	}
	r := s.startAhead()
	if r == nil || s.identity.slot == nil || !s.engine.spawn(func() { <-r.done; exit() }) {
		exit()
	}
}

// startAhead begins a recovery that nobody waits for, if one is due; nil where
// there is none.
func (s *session) startAhead() (r *recovery) {
	a := &s.ahead
	a.mu.Lock()
	due, generation := a.due.Load(), s.generation.Load()
	begin := due != 0 && s.engine.now().UnixNano() >= due // else somebody else has begun
	if begin {
		a.due.Store(0)
	}
	a.mu.Unlock()
	if begin {
		r, _, _ = s.join(generation, true)
	}
	return r
}

// stop ends the timer.
func (a *ahead) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.timer != nil {
		a.timer.Stop()
	}
}

// touch notes a request. over says that the session has ended by what is known
// of it, so that the request should wait for a recovery.
func (s *session) touch() (over bool) {
	a := &s.ahead
	if a.policy().Off {
		return false
	}
	now := s.engine.now()
	if a.idle.Load() > 0 {
		a.rest(now)
	} else {
		a.used.Store(now.UnixNano())
	}
	due := a.due.Load()
	if (due == 0 || now.UnixNano() < due) && !s.underWay() {
		return false
	}
	a.mu.Lock()
	over = !a.given && !a.end.at.IsZero() && !now.Before(a.end.at)
	a.mu.Unlock()
	switch {
	case over:
	case s.identity.slot != nil && due != 0 && now.UnixNano() >= due:
		return true // no two requests at a time: nor one and a recovery
	default:
		s.startAhead()
	}
	return over
}

// rest notes a request where a session dies of rest, and its end where it has.
// Whoever comes next sees both.
func (a *ahead) rest(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.used.Swap(now.UnixNano())
	end := time.Unix(0, max(last, a.since.Load())).Add(time.Duration(a.idle.Load()))
	if last == 0 || now.Before(end) {
		return
	}
	a.end = ending{at: end, given: a.born, why: a.idleWhy}
	a.given = false
	a.due.Store(end.UnixNano())
}

// underWay reports whether a recovery runs of which requests need not know.
func (s *session) underWay() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running != nil && s.running.ahead
}

// keepAhead notes the request, and has it wait where the session has ended. If
// no session is to be had, the origin decides what the old tokens are worth.
func (x *exchange) keepAhead(ctx context.Context, r *rule.Rule, s *session) error {
	generation, dead := s.knownDead()
	if !s.touch() || dead || generation == 0 && x.lacksToken(r) {
		return nil // or recovered anyway
	}
	x.flow.Recovered = true
	end, when := s.ahead.ending(), "has ended"
	if s.engine.now().Before(end.at) { // an exclusive one
		when = "is about to end"
	}
	x.note(r, flow.ActionWait, "the session %s (%s): recovered before the request is sent", when, end.why)
	run, started, failed := s.join(generation, true)
	if failed == nil && run != nil {
		failed = s.await(ctx, run)
	}
	x.recovered(r, s, started, failed)
	switch {
	case failed == nil:
	case failed.Reason == flow.ReasonClosing:
		return failed
	default:
		x.note(r, flow.ActionNote, "the request goes on with the old tokens: %s", failed.Detail)
	}
	return nil
}

func (a *ahead) ending() ending {
	a.mu.Lock()
	defer a.mu.Unlock()
	end := a.end
	if used, idle := a.used.Load(), time.Duration(a.idle.Load()); idle > 0 && used != 0 {
		end = earlier(end, ending{at: time.Unix(0, max(used, a.since.Load())).Add(idle), why: a.idleWhy})
	}
	return end
}

// learnEnds notes when tokens end that an answer brought.
func (s *session) learnEnds(values map[string]string, b bringer) {
	a := &s.ahead
	if a.policy().Off {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.noteEnds(values, b, false) {
		a.given, a.retries = false, 0
		s.plan()
		s.identity.touch()
	}
}

// noteEnds is learnEnds without a plan. Of the answers to one login the earliest
// end counts, of later ones the last; one that only says again what is known
// changes nothing. mu is held.
func (s *session) noteEnds(values map[string]string, b bringer, login bool) (changed bool) {
	a := &s.ahead
	for _, token := range a.manner.Load().tokens {
		value, ok := values[token]
		if now, _ := s.identity.lookup(token); !ok || now != value {
			continue
		}
		end, known := b.endOf(token, value), a.ends[token]
		switch {
		case end.at.IsZero() || end.life() < minLife:
		case known.at.IsZero(), login && end.at.Before(known.at), !login && end.at.Sub(known.at).Abs() > time.Second:
			a.ends[token], changed = end, true
		}
	}
	return changed
}

// bornAgain begins anew with what a login brought that began at that time.
func (s *session) bornAgain(r *recovery, result *macro.Result, began time.Time) {
	a := &s.ahead
	if a.policy().Off {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin(began)
	for _, answer := range result.Steps {
		s.noteEnds(result.Values, newBringer(answer.Flow, answer.Response, answer.Body, s.engine.now()), true)
	}
	s.plan()
	if r.ahead && !a.end.at.IsZero() && !a.end.at.After(r.end) { // the same tokens once more
		a.given = true
		a.due.Store(0)
	}
}

// begin forgets the life before. mu is held.
func (a *ahead) begin(at time.Time) {
	a.ends, a.born, a.draw = make(map[string]ending), at, rand.Float64()
	a.lives++
	a.since.Store(at.UnixNano())
	a.rested.Store(0)
	a.jarEnd.Store(0)
	maps.DeleteFunc(a.doubtful, func(m *macro.Macro, _ string) bool { return !m.Once }) // what those spent stays spent
	a.given, a.retries = false, 0
}

// aheadFailed says what is to be done after a recovery that began ahead.
func (s *session) aheadFailed(failed *flow.Error) {
	a, e := &s.ahead, s.engine
	a.mu.Lock()
	first := a.retries == 0
	a.retries++
	pause := max(minRetry, a.margin()/8) << min(a.retries-1, 20)
	next := e.now().Add(pause)
	if failed.Reason != flow.ReasonUnreachable || len(a.doubtful) > 0 || !next.Before(a.end.at) {
		a.given = true
		a.due.Store(0)
	} else {
		s.wake(next)
	}
	a.mu.Unlock()
	if first {
		e.warn("%s: the session could not be recovered before it ends; requests go on with it until an answer is dead: %s", s.title(), failed.Detail)
	}
}

// spends is a digest of what the macro would send of the identity's tokens; ""
// when there is none.
func (s *session) spends(m *macro.Macro) string {
	text, tokens := "", *s.identity.tokens.Load()
	for _, name := range m.Names() {
		if t, ok := tokens[name]; ok && !t.gone {
			text += name + "\x00" + t.value + "\x00"
		} else if v, ok := s.identity.vars()[name]; ok && m.Once && slices.Contains(m.Produces(), name) { // the first one
			text += name + "\x00" + v + "\x00"
		}
	}
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// aboutToSpend has it durable that a macro is about to send what can be sent
// once: if this process ends before the answer is kept, it is not sent again.
// done ends that, after what the answer brought is there; what brought nothing
// stays until the recovery ends, since a refused refresh token that is sent once
// more is a theft to some origins. The error is of a fleet, where nobody may spend
// it as long as others cannot know.
func (s *session) aboutToSpend(m *macro.Macro) (done func(), err error) {
	spent := ""
	if s.identity.kept.keeper != nil && (m.Once || m != s.recovery[len(s.recovery)-1]) { // else there is no other way
		spent = s.spends(m)
	}
	if spent == "" {
		return func() {}, nil
	}
	a := &s.ahead
	a.mu.Lock()
	if a.spending == nil {
		a.spending = make(map[*macro.Macro]string)
	}
	a.spending[m] = spent
	a.mu.Unlock()
	s.identity.touch()
	if s.engine.config.Fleet == nil {
		s.identity.settle()
	} else if err = s.identity.insist(); err != nil {
		err = storeAway(err)
	}
	return func() {
		a.mu.Lock()
		delete(a.spending, m)
		a.mu.Unlock()
		s.identity.touch()
	}, err
}

// spendsNothing says that no macro is under way any more.
func (a *ahead) spendsNothing() {
	a.mu.Lock()
	clear(a.spending)
	a.mu.Unlock()
}

// adopts says that the tokens of the next generation are about to be there.
func (s *session) adopts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adopted = true
	if l := s.identity.pool.turns.lease.Load(); l != nil {
		k := &s.identity.kept // its mu is held: see underLease
		s.loginFence, k.login, k.owed = l.fence, l.fence, l.fence
	}
}

// noteDoubt notes a macro that was sent and not answered.
func (s *session) noteDoubt(m *macro.Macro, spent string, err error) {
	if spent == "" || unreached(err) {
		return
	}
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	a.doubt(m, spent)
}

// doubt is noteDoubt with mu held.
func (a *ahead) doubt(m *macro.Macro, spent string) {
	if a.doubtful == nil {
		a.doubtful = make(map[*macro.Macro]string)
	}
	a.doubtful[m] = spent
}

// macroNames are texts by the names of macros.
func macroNames(of map[*macro.Macro]string) map[string]string {
	named := make(map[string]string, len(of))
	for m, text := range of {
		named[m.Name] = text
	}
	return named
}

// unreached reports whether a request never was on its way to the origin.
func unreached(err error) bool {
	var told *flow.Error
	return errors.As(err, &told) && (told.Reason == flow.ReasonUnreachable || told.Reason == flow.ReasonProxyDown)
}

// mayBeSpent reports whether the macro was sent with the same tokens before, and
// not answered.
func (s *session) mayBeSpent(m *macro.Macro) bool {
	a := &s.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	spent, ok := a.doubtful[m]
	return ok && spent == s.spends(m)
}
