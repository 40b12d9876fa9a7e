package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// recover runs the macros and publishes the result. It runs in a goroutine of
// its own, since others than the request that began it wait for it too.
func (s *session) recover(r *recovery) {
	if s.engine.config.Fleet != nil && s.recovers() {
		s.finish(r, s.inFleet(r))
		return
	}
	s.finish(r, s.login(r))
}

// guarded waits until the lockout guard lets a login begin.
func (s *session) guarded() *flow.Error {
	e := s.engine
	ctx, cancel := context.WithTimeout(e.ctx, e.limits.Wait+s.slack())
	defer cancel()
	n, locked, err := e.guard.begin(ctx, s.key)
	switch {
	case locked:
		return s.lockedError(n)
	case err != nil && e.ctx.Err() != nil:
		return closing()
	case err != nil:
		return &flow.Error{Status: 504, Reason: flow.ReasonTimeout, Cause: err,
			Detail: fmt.Sprintf("logins of other sessions of this identity were not over within %s, and no more are tried at once than may fail", e.limits.Wait),
			Next:   "raise limits.wait, or see the trace of the macro's requests"}
	}
	return nil
}

// login tries the macros in order (a cheap refresh first, a full login after)
// until one brings a session.
func (s *session) login(r *recovery) *flow.Error {
	e := s.engine
	if failed := s.guarded(); failed != nil {
		return failed
	}
	defer e.guard.end(s.key)
	e.counts.recoveries.Add(1)
	end := time.Now().Add(e.limits.Wait + s.slack()) // for all macros between two browsers

	unanswered := false  // by a person
	var refused []string // why each macro brought nothing
	rejected := false    // an origin said no to credentials
	for i, m := range s.recovery {
		if (i+1 < len(s.recovery) || m.Once) && s.mayBeSpent(m) {
			refused = append(refused, fmt.Sprintf("macro %q was sent with the same tokens before and got no answer: they may be spent", m.Name))
			continue
		}
		if _, asks := m.Asks(); (asks || m.Browser != nil && m.Browser.Visible) && r.ahead { // nobody is disturbed for a session that still lives
			refused = append(refused, fmt.Sprintf("macro %q asks a person", m.Name))
			continue
		}
		if m.Browser != nil {
			end = time.Now().Add(m.Browser.Timeout + browserGrace)
		} else if i > 0 && s.recovery[i-1].Browser != nil {
			end = time.Now().Add(e.limits.Wait + s.slack())
		}
		ctx, cancel := context.WithDeadline(e.ctx, end)
		err := s.attempt(ctx, r, m)
		over := ctx.Err() != nil
		cancel()
		if err == nil {
			return nil
		}
		var step *macro.StepError
		switch {
		case errors.As(err, &step) && (step.Kind == macro.MissingVariable || step.Kind == macro.Malformed || step.Kind == macro.Unexpected):
			refused = append(refused, err.Error()) // nothing was sent, so nothing was refused
			continue
		case errors.As(err, &step) && (step.Kind == macro.Failed || step.Kind == macro.Unanswered):
			unanswered = unanswered || step.Kind == macro.Unanswered
			refused = append(refused, err.Error())
			continue
		case e.ctx.Err() != nil:
			return closing()
		case m.Browser != nil && over:
			refused = append(refused, err.Error())
			continue
		case over:
			return &flow.Error{Status: 504, Reason: flow.ReasonTimeout, Cause: err,
				Detail: fmt.Sprintf("macro %q was not done within %s", m.Name, e.limits.Wait),
				Next:   "raise limits.wait, or see the trace of the macro's requests"}
		case lasting(err) != nil:
			told := lasting(err)
			return &flow.Error{Status: told.Status, Reason: told.Reason, Cause: err, Next: told.Next,
				Detail: fmt.Sprintf("the session could not be recovered: macro %q: %s", m.Name, told.Detail)}
		case errors.As(err, &step) && (step.Kind == macro.Transport || step.Kind == macro.Transient):
			return &flow.Error{Reason: flow.ReasonUnreachable, Cause: err,
				Detail: fmt.Sprintf("the session could not be recovered: macro %q did not reach the origin within %s", m.Name, e.limits.Unreachable),
				Next:   "see whether the origin answers; no login was counted as failed"}
		}
		rejected = true
		refused = append(refused, err.Error())
	}
	if unanswered && !rejected && !s.byPerson {
		return &flow.Error{Status: 504, Reason: flow.ReasonPerson, Detail: "the session could not be recovered: " + strings.Join(refused, "; "),
			Next: s.askAgain()}
	}
	if s.byPerson && !r.ahead { // nobody is disturbed for a session that still lives
		return s.loginByPerson(r)
	}
	return s.refusedError(refused, rejected)
}

// attempt tries one macro. Sessions of one identity take turns with a macro that
// they share, so that they do not spend the same refresh token twice.
func (s *session) attempt(ctx context.Context, r *recovery, m *macro.Macro) error {
	turn := s.identity.turnOf(m)
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	began, spent := s.engine.now(), ""
	if r.ahead || m.Once {
		spent = s.spends(m)
	}
	done, err := s.aboutToSpend(m)
	if err != nil {
		done()
		return err
	}
	result, err := s.runPatiently(ctx, r, m, spent != "")
	if err != nil {
		var step *macro.StepError
		if errors.As(err, &step) && (step.Kind == macro.Transport || m.Once && step.Status != 0 && step.Status != 429) {
			s.noteDoubt(m, spent, err)
		}
		return err
	}
	if len(result.Steps) == 0 {
		s.final.Store(nil)
	} else if s.offers {
		last := &result.Steps[len(result.Steps)-1]
		s.final.Store(&macroRun{offers: rule.OffersOf(last.Flow.Origin.URL(last.Flow.Request.Target()), last.Response, last.Body)})
	}
	if err := s.adopt(result.Values, result.Steps); err != nil {
		s.keepSpent(m, result.Values)
		return err
	}
	if l := r.login.Load(); m.Browser != nil && l != nil {
		l.ignoreBefore(s.born.Load())
	}
	s.keepCookies(result.Steps)
	s.bornAgain(r, result, began)
	done()
	return nil
}

// lasting is the failure to reach the origin that trying again does not mend,
// such as a certificate that does not verify; nil when there is none.
func lasting(err error) *flow.Error {
	var told *flow.Error
	if !errors.As(err, &told) {
		return nil
	}
	switch told.Reason {
	case flow.ReasonStore, flow.ReasonTLS, flow.ReasonLoop, flow.ReasonBadResponse, flow.ReasonProxyLogin, flow.ReasonProxyRefused, flow.ReasonClientCert:
		return told
	}
	return nil
}

// keepSpent takes, of what a macro brought that made no session, the variables
// that its requests used: the origin may have burnt the old value of a refresh
// token, so the new one is never thrown away.
func (s *session) keepSpent(m *macro.Macro, values map[string]string) {
	spent := make(map[string]string)
	for _, name := range m.Names() {
		if v, ok := values[name]; ok {
			spent[name] = v
		}
	}
	_ = s.identity.underLease(func() { s.identity.learn(spent, s.engine.next(), s.engine.next) }) // else another's are newer
}

// refusedError counts a login that the origin refused.
func (s *session) refusedError(refused []string, rejected bool) *flow.Error {
	e := s.engine
	detail := "the session could not be recovered: " + strings.Join(refused, "; ")
	if !rejected {
		return &flow.Error{Reason: flow.ReasonRecovery, Detail: detail,
			Next: "give the variables that are missing a value, or add a macro that does not need them"}
	}
	n, locked, err := e.guard.failed(s.key)
	if err != nil {
		e.warn("the count of failed logins could not be saved: %v", err)
	}
	if locked {
		failed := s.lockedError(n)
		failed.Detail += "; the last one: " + strings.Join(refused, "; ")
		e.warn("%s: %s", s.title(), failed.Detail)
		return failed
	}
	return &flow.Error{Reason: flow.ReasonRecovery, Detail: detail,
		Next: fmt.Sprintf("see what the macro expects and what the origin answered (failed login %d of %d)", n, e.guard.most())}
}

func (s *session) lockedError(n int) *flow.Error {
	return &flow.Error{Reason: flow.ReasonLocked,
		Detail: fmt.Sprintf("logins of %s are stopped after %d that failed", s.identity.title(), n),
		Next:   "correct the credentials, then: holdfast session unlock " + s.identity.name}
}

// title names the session for a person.
func (s *session) title() string {
	if s.identity.label == "" {
		return s.identity.title()
	}
	return s.identity.title() + " (" + s.identity.label + ")"
}

// title names the identity for a person, all sessions of it.
func (n *identity) title() string {
	if n.name == "" {
		return "the default identity"
	}
	return fmt.Sprintf("identity %q", n.name)
}

// adopt makes the values of a macro the tokens of a new generation. Tokens
// that rules put into requests and that the recovery did not renew died with
// the old session and are dropped; a recovery that renewed none brought no
// session.
func (s *session) adopt(values map[string]string, steps []macro.StepResult) error {
	e := s.engine
	injected := e.tokensOf(s)
	var stale []string
	renewed := 0
	for _, name := range injected {
		if _, ok := values[name]; ok {
			renewed++
		} else {
			stale = append(stale, name)
		}
	}
	if len(injected) > 0 && renewed == 0 {
		return fmt.Errorf("the macro ran, but none of the tokens %s was found in its answers", strings.Join(injected, ", "))
	}
	// Tokens first, generation after: a request that reads the old
	// generation with the new tokens is only sent again, one that reads the
	// new generation with the old tokens would cause a login.
	var born uint64
	if err := s.identity.underLease(func() {
		s.adopts()
		born = s.identity.renew(values, stale, e.next)
	}); err != nil {
		return storeAway(err)
	}
	s.born.Store(born) // late answers of the dead session bring no cookies: see exchange.takeCookies
	for _, step := range steps {
		s.identity.jar.IgnoreBefore(step.Flow.Origin.Host, born) // nor do others of where the login was
	}
	e.counts.logins.Add(1)
	return nil
}

// runPatiently runs a macro, again and again with growing pauses while the
// origin cannot be reached: that is nobody's wrong password. With once, what may
// have reached the origin is not sent again.
func (s *session) runPatiently(ctx context.Context, r *recovery, m *macro.Macro, once bool) (*macro.Result, error) {
	e := s.engine
	pause, waited, begunAnew := 100*time.Millisecond, time.Duration(0), false
	env := s.env()
	env.Browse = func(ctx context.Context, m *macro.Macro) (map[string]string, error) { return s.inBrowser(ctx, r, m) }
	env.Send = s.identity.fenced(env.Send)
	if r.ahead { // no request waited for it that would say so
		send := env.Send
		env.Send = func(ctx context.Context, f *flow.Flow) error {
			e.tell(f, flow.ActionNote, "before the session ends: "+r.why)
			return send(ctx, f)
		}
	}
	for {
		result, err := m.Run(ctx, env)
		if err == nil {
			if begunAnew {
				s.takeJar(env.Jar)
			}
			return s.withRuleTokens(result), nil
		}
		err = redacted(err)
		var step *macro.StepError
		if errors.As(err, &step) {
			s.keepSpent(m, s.found(step.Steps, step.Partial))
		}
		if step != nil && !begunAnew && !once && !m.Once && s.mayBeginAnew(m, step) {
			begunAnew = true
			env.Jar = newJar()
			continue
		}
		if lasting(err) != nil || step == nil || (step.Kind != macro.Transport && step.Kind != macro.Transient) {
			return nil, err
		}
		if once && step.Kind == macro.Transport && !unreached(err) || m.Once && step.Kind == macro.Transient && step.Status != 429 {
			return nil, err
		}
		next := max(pause, step.RetryAfter)
		if waited+next > e.limits.Unreachable {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(next):
		}
		waited += next
		pause = min(2*pause, 5*time.Second)
	}
}

// withRuleTokens adds what the rules' own sources find in the macro's answers:
// in the seed's file a macro only sends, and the rule extracts.
func (s *session) withRuleTokens(result *macro.Result) *macro.Result {
	result.Values = s.found(result.Steps, result.Values)
	return result
}

// found are the values in a macro's answers by the rules' own sources, and over
// them those that the macro extracted.
func (s *session) found(answers []macro.StepResult, extracted map[string]string) map[string]string {
	values := make(map[string]string)
	for _, answer := range answers {
		for _, r := range s.engine.Rules().Rules() {
			if !s.shares(r) {
				continue
			}
			for i := range r.Updates {
				u := &r.Updates[i]
				if u.Source == nil || u.Source.FromRequest() { // what a macro sends is ours
					continue
				}
				if v, ok := s.takesStep(u.Source, &answer); ok {
					values[u.Token] = v
				}
			}
		}
	}
	maps.Copy(values, extracted) // the macro's own word wins
	return values
}

// shares reports whether a rule's recovery is this session's.
func (s *session) shares(r *rule.Rule) bool {
	return s.recovers() && s.engine.recoveryOf(r) == s.name
}

// tokensOf lists the tokens that rules with this session put into requests.
func (e *Engine) tokensOf(s *session) []string {
	var names []string
	for _, r := range e.Rules().Rules() {
		if s.shares(r) {
			names = append(names, targeted(r)...)
		}
	}
	return names
}

// env is what a macro of this session runs in.
func (s *session) env() macro.Env {
	e := s.engine
	env := macro.Env{
		Lookup:   s.identity.lookup,
		Jar:      s.identity.jar,
		Now:      e.config.Now,
		Next:     e.next,
		Identity: s.identity.name,
		Send:     s.identity.send,
		Scripts: macro.Scripting{Runner: e.scripts, Redact: s.identity.redactor(nil),
			Log: func(line string) { e.warn("%s: a script of a macro says: %s", s.title(), line) }},
		NewID: func() flow.ID {
			if e.config.IDs == nil {
				return flow.ID{}
			}
			return e.config.IDs.Next(e.now())
		},
		Wait: e.pause,
		Exec: e.config.Exec,
	}
	if s.identity.totp != nil {
		env.Code = s.code
	}
	if e.config.Ask != nil {
		env.Ask = s.ask
	}
	return env
}

// confirm asks the rule's confirming macro whether the session is alive. An
// origin that cannot be asked confirms nothing. asked is false when ctx or the
// engine ended before there was a word.
func (s *session) confirm(ctx context.Context, name string) (alive, asked bool) {
	b, _ := s.confirms.LoadOrStore(name, new(batch))
	e := s.engine
	return b.(*batch).do(ctx, e.spawn, func() bool {
		e.counts.confirms.Add(1)
		runCtx, cancel := context.WithTimeout(e.ctx, e.limits.Wait)
		defer cancel()
		_, err := e.macros[name].Run(runCtx, s.env())
		return err == nil
	})
}

// forgive forgets failed logins once a login has proved good.
func (e *Engine) forgive(key lockKey) {
	if err := e.guard.forgive(key); err != nil {
		e.warn("the count of failed logins could not be saved: %v", err)
	}
}
