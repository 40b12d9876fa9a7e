package session

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
)

// State says what is known of a session.
type State uint8

// The states of design: unknown → alive ⇄ dead → recovering → alive | locked.
const (
	Unknown    State = iota // nothing was sent yet
	Alive                   // the last recovery worked, or an answer was judged alive
	Dead                    // an answer was judged dead, or the last recovery failed
	Recovering              // macros are running
	Locked                  // too many failed logins; a person must unlock
)

var stateNames = [...]string{"unknown", "alive", "dead", "recovering", "locked"}

func (s State) String() string { return stateNames[s] }

// session is the live login of one identity under one recovery. The zero
// recovery (no macros) is a session that is never recovered: its rules only
// take and put tokens.
type session struct {
	engine   *Engine
	identity *identity
	key      lockKey
	name     string // of the recovery, as Engine.recoveryOf has it
	recovery []*macro.Macro
	byPerson bool // a person with a browser is the last resort
	offers   bool // a rule takes parameters from the last answer; never changes
	*life
}

// life is what a session has in common with those that mean the same under the
// configurations before and after.
type life struct {
	kin    *kin
	asking atomic.Int32 // a macro of the recovery waits for a person
	// at is where the newest request went: there a browser begins.
	at atomic.Pointer[string]

	generation atomic.Uint64
	// born is the sequence number at which the generation's tokens were
	// complete: an answer to a request stamped before it is of an old session.
	born atomic.Uint64
	// lived is the newest generation that had an answer judged alive, plus
	// one; 0 is none.
	lived atomic.Uint64
	// final is what the last answer of the last recovery offers; nil where no
	// rule takes parameters from it.
	final atomic.Pointer[macroRun]

	mu      sync.Mutex // guards what follows
	state   State
	running *recovery
	adopted bool // the tokens of the next generation are there
	// loginFence is that of the lease under which the generation's login was,
	// and made the generation that a login of this node brought last.
	loginFence, made uint64
	lastError        *flow.Error
	lastLogin        time.Time
	logins           uint64
	barren           uint64 // the newest generation that was counted as one that brought nothing
	barrenRun        int    // how many of these there were in a row

	// distrust is until when dead answers are passed on without a login: new
	// sessions do not change them.
	distrust time.Time
	// unhelpedRun counts requests in a row whose answers no login changed.
	unhelpedRun int

	confirms sync.Map // macro name → *batch
	probers  sync.Map // inquiry.key → *prober

	ahead ahead

	proofs lived

	unhelpedMu sync.Mutex
	unhelped   map[string]time.Time // method, path and status → until when its dead answer is passed on
	// blamed are the paths for whose dead answer a session was made without
	// sending the request again; suspects is how many there are.
	blamed   map[string]struct{}
	suspects atomic.Int64
}

// inBrowsers reports whether a way to a new session is a login in a browser.
func (s *session) inBrowsers() bool {
	return s.byPerson || slices.ContainsFunc(s.recovery, func(m *macro.Macro) bool { return m.Browser != nil })
}

// wait is how long a request waits for a recovery.
func (s *session) wait() time.Duration {
	var wait time.Duration
	for _, m := range s.recovery {
		if m.Browser != nil {
			wait += m.Browser.Wait
		}
	}
	if s.byPerson {
		wait += macro.PersonTimeout
	}
	if slices.ContainsFunc(s.recovery, func(m *macro.Macro) bool { return m.Browser == nil }) || wait == 0 {
		wait += s.engine.limits.Wait
	}
	return wait
}

// recovers reports whether there is a way to a new session.
func (s *session) recovers() bool { return len(s.recovery) > 0 || s.byPerson }

// recovery is one run of the macros, for everybody who waits for it.
type recovery struct {
	done  chan struct{}
	began time.Time
	err   *flow.Error // set before done is closed
	stale uint64      // the generation that is to be replaced
	taken bool        // another node has done it
	ahead bool        // it began while the session was alive, as far as was known
	end   time.Time   // ahead: of the session before
	why   string      // ahead: why we think that it ends
	// login is the browser's newest; nil as long as there was none.
	login atomic.Pointer[Login]
}

// renew returns when the session is newer than the generation stale, or with
// the reason why it cannot be. Whoever comes first starts the recovery;
// everybody else waits for the same one.
func (s *session) renew(ctx context.Context, stale uint64) *flow.Error {
	for {
		r, _, failed := s.join(stale, false)
		if r != nil {
			failed = s.await(ctx, r)
		}
		if r == nil || failed != nil || s.generation.Load() > stale { // else it was the end of one for a generation before
			return failed
		}
	}
}

// join finds or starts the recovery of a session that is no newer than the
// generation stale; nil when it is newer, or when Holdfast is being stopped.
// As long as all of them join ahead, the session stays as alive as it was.
func (s *session) join(stale uint64, ahead bool) (r *recovery, started bool, failed *flow.Error) {
	end := s.ahead.ending()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation.Load() > stale {
		return nil, false, nil
	}
	r = s.running
	if r == nil {
		r = &recovery{done: make(chan struct{}), began: s.engine.now(), ahead: ahead, end: end.at, why: end.why, stale: s.generation.Load()}
		s.running, started = r, true
		if !s.engine.spawn(func() { s.recover(r) }) {
			s.running = nil
			if !ahead {
				s.state = Dead
			}
			return nil, false, closing()
		}
		if ahead {
			s.engine.counts.ahead.Add(1)
		}
	}
	if !ahead && r.stale == s.generation.Load() { // else another node has made a newer one meanwhile
		s.state = Recovering
	}
	if started {
		s.told(Began, nil, 0)
	}
	return r, started, nil
}

// await waits for a recovery's end.
func (s *session) await(ctx context.Context, r *recovery) *flow.Error {
	wait := s.wait()
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return &flow.Error{Reason: flow.ReasonClosing, Detail: "the client went away while the session was being recovered", Cause: ctx.Err()}
	case <-limit.C:
		if l := r.login.Load(); l != nil && l.How.Visible {
			return stillOpen(wait)
		}
		if s.asking.Load() > 0 {
			return &flow.Error{Status: 504, Reason: flow.ReasonPerson, NoSession: true,
				Detail: "a person is asked for something to log in with, and did not answer within " + wait.String(),
				Next:   "answer in the terminal of holdfast, then send the request again; limits.wait says how long requests wait"}
		}
		return &flow.Error{Status: 504, Reason: flow.ReasonTimeout, NoSession: true,
			Detail: "the session was not recovered within " + wait.String(),
			Next:   "see the trace of the macro's requests, or raise limits.wait"}
	}
}

func closing() *flow.Error {
	return &flow.Error{Status: 503, Reason: flow.ReasonClosing, Detail: "Holdfast is being stopped"}
}

// finish publishes the end of a recovery to everybody who waits.
func (s *session) finish(r *recovery, err *flow.Error) {
	if err != nil && err.Reason != flow.ReasonClosing {
		err.NoSession = true
	}
	s.mu.Lock()
	if err != nil && s.generation.Load() > r.stale { // another node has made it, whatever happened here
		r.taken, err = true, nil
	}
	unseen := r.ahead && s.state != Recovering // nobody has met it dead
	r.err = err
	s.running, s.lastError, s.adopted = nil, err, false
	switch {
	case err == nil && r.taken: // which was when the other's tokens were read: see takeOver
	case err == nil:
		// The generation rises together with the state, after the tokens:
		// see adopt.
		s.made = s.generation.Add(1)
		s.state = Alive
		s.logins++
		s.lastLogin = s.engine.now()
	case unseen:
	case err.Reason == flow.ReasonLocked:
		s.state = Locked
	default:
		s.state = Dead
	}
	s.told(Ended, err, s.engine.now().Sub(r.began))
	s.mu.Unlock()
	if unseen && err != nil && err.Reason != flow.ReasonClosing {
		s.aheadFailed(err)
	}
	s.ahead.spendsNothing()
	s.identity.touch()
	s.identity.settle() // before anybody goes on with it
	close(r.done)
}

// noteDead marks the session dead when the judged request carried its present
// generation, so that the next request recovers before it is sent.
func (s *session) noteDead(generation uint64) {
	s.mu.Lock()
	died := s.generation.Load() == generation && s.state != Locked && s.state != Dead && s.state != Recovering
	switch {
	case !died:
	case s.running == nil || s.running.stale < generation: // which ends without a new one
		s.state = Dead
	case s.running.ahead:
		s.state = Recovering // from now on requests wait for it
	}
	if died {
		s.told(Died, nil, 0)
	}
	s.mu.Unlock()
	s.proofs.watch(s.engine.now().Add(unhelpedFor))
	if died {
		s.ended()
	}
}

// noteAlive counts a live answer. The first one of a generation proves the
// login good, which ends the count of failures.
func (s *session) noteAlive(generation uint64) {
	for {
		lived := s.lived.Load()
		if lived > generation || s.generation.Load() != generation {
			return
		}
		if s.lived.CompareAndSwap(lived, generation+1) {
			break
		}
	}
	if s.engine.config.Changed != nil {
		s.mu.Lock()
		s.told(Lived, nil, 0)
		s.mu.Unlock()
	}
	if !s.recovers() || generation == 0 {
		return
	}
	s.kin.proven.Store(true)
	s.identity.touch()
	s.mu.Lock()
	s.barrenRun, s.distrust = 0, time.Time{}
	made := s.made == generation
	s.mu.Unlock()
	switch e := s.engine; {
	case e.config.Fleet == nil:
		e.forgive(s.key)
	case made: // and no answer waits for the database
		e.spawn(func() { e.forgive(s.key) })
	}
}

// isAlive reports whether the generation has had a live answer.
func (s *session) isAlive(generation uint64) bool { return s.lived.Load() == generation+1 }

// maxBarren is how many logins in a row may bring nothing until dead answers
// are passed on for distrustFor.
const (
	maxBarren   = 10
	distrustFor = time.Minute
)

// noteBarren counts, once, a generation that was dead on its first use. If no
// login of ours ever brought a live answer it is a failed login, and the
// lockout is returned when that was one too many. Otherwise it is likelier
// that the answers are not about the session.
func (s *session) noteBarren(generation uint64) *flow.Error {
	s.mu.Lock()
	if s.barren >= generation {
		s.mu.Unlock()
		return nil
	}
	s.barren = generation
	s.barrenRun++
	proven, stop := s.kin.proven.Load(), s.barrenRun == maxBarren
	if proven && stop {
		s.distrust = s.engine.now().Add(distrustFor)
	}
	s.mu.Unlock()
	if proven {
		if stop {
			s.engine.warn("%s: %d logins in a row did not change answers that look dead; they are passed on for %s. If they are not about the session, give the rule a confirm macro",
				s.title(), maxBarren, distrustFor)
		}
		return nil
	}
	n, locked, err := s.engine.guard.failed(s.key)
	if err != nil {
		s.engine.warn("the count of failed logins could not be saved: %v", err)
	}
	if !locked {
		return nil
	}
	failed := s.lockedError(n)
	failed.Detail += "; the last one brought a session whose answers are dead too"
	failed.Next = "see whether the login really logs in (give it an expect) or the answers are about something else (give the rule a confirm macro), then: holdfast session unlock " + s.identity.name
	s.engine.warn("%s", failed.Detail)
	return failed
}

// patience is how many recoveries a request may begin: fewer, the more
// requests there were before it whose answers no login changed. proven says
// whether a login of ours ever brought a live answer.
func (s *session) patience() (recoveries int, proven, distrusted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(1, maxOwnRecoveries-s.unhelpedRun), s.kin.proven.Load(), s.engine.now().Before(s.distrust)
}

// helped says that a recovery changed a request's answer.
func (s *session) helped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhelpedRun = 0
}

// knownDead reports whether a request need not be sent to learn that the
// session is dead, and the generation for which that holds.
func (s *session) knownDead() (generation uint64, dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation.Load(), s.state == Dead || s.state == Locked || s.state == Recovering
}

// maxUnhelped bounds the memory of paths whose answer a login does not change.
const (
	maxUnhelped = 4096
	unhelpedFor = time.Minute
)

// setUnhelped remembers that a new session did not change the answer of a path.
func (s *session) setUnhelped(path string, now time.Time) {
	s.unhelpedMu.Lock()
	defer s.unhelpedMu.Unlock()
	if s.unhelped == nil || len(s.unhelped) >= maxUnhelped {
		s.unhelped = make(map[string]time.Time)
	}
	s.unhelped[path] = now.Add(unhelpedFor)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhelpedRun++
}

func (s *session) isUnhelped(path string, now time.Time) bool {
	s.unhelpedMu.Lock()
	defer s.unhelpedMu.Unlock()
	until, ok := s.unhelped[path]
	return ok && now.Before(until)
}

// blame notes that a session is made because of a path's dead answer, whose
// request is not sent again. It reports whether that was so before, with no
// live answer of the path since.
func (s *session) blame(path string) (again bool) {
	s.unhelpedMu.Lock()
	defer s.unhelpedMu.Unlock()
	if _, again = s.blamed[path]; again {
		return true
	}
	if s.blamed == nil || len(s.blamed) >= maxUnhelped {
		s.blamed = make(map[string]struct{})
	}
	s.blamed[path] = struct{}{}
	s.suspects.Store(int64(len(s.blamed)))
	return false
}

// clear forgets the blame: the path had a live answer.
func (s *session) clear(path func() string) {
	if s.suspects.Load() == 0 {
		return
	}
	s.unhelpedMu.Lock()
	defer s.unhelpedMu.Unlock()
	delete(s.blamed, path())
	s.suspects.Store(int64(len(s.blamed)))
}
