package testenv

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strings"
	"sync"
	"time"
)

const (
	// maxTokens is how many tokens and cookie values are remembered. The
	// oldest is forgotten first, and is foreign from then on.
	maxTokens = 1 << 17
	// maxIDs is how many idempotency ids are remembered; writes with
	// further ones are refused with 507.
	maxIDs = 1 << 20
	// maxCSRF is how many CSRF tokens a session, and how many sessions
	// before a login, are remembered.
	maxCSRF = 512
	// maxSeenCSRF is how many that were posted are.
	maxSeenCSRF = 1 << 16
)

// A shape is a kind of login; an identity has one current session in each.
type shape string

const (
	shapeDummy shape = "dummyjson"
	shapeAPI   shape = "api"
	shapeOAuth shape = "oauth"
	shapeForm  shape = "form"
)

type use int

const (
	useAccess use = iota
	useRefresh
	useCookie
)

// A session is what one login or refresh gave out.
type session struct {
	identity *Identity
	shape    shape
	grant    *grant
	expires  time.Time
	served   int
	killed   bool
	// over is set when the session is not the current one any more: it died
	// and that was noticed, or another replaced it. It has been counted then.
	over     bool
	replaced bool

	underWay bool // a request of it, where Origin.OneAtATime
	rolled   int  // number of the newest cookie value given out
	rolls    int  // number of the newest cookie value that came back: older ones are dead
	csrf     csrfSet
}

// A grant is all that goes back to one login.
type grant struct{ revoked bool }

// A token is a string that a client holds.
type token struct {
	session *session
	use     use
	expires time.Time // of a refresh token
	burnt   bool
	roll    int // of a cookie
}

// book knows every session and counts. One lock guards everything in it, so
// that the counts agree with each other at every moment.
type book struct {
	origin *Origin
	key    []byte // signs JSON Web Tokens
	byName map[string]*Identity

	mu      sync.Mutex
	all     Stats
	tokens  map[string]*token
	oldest  []string // keys of tokens in order of age
	current map[place]*session
	applied map[string]int
	before  csrfSet             // tokens of login forms, by pre-session cookie
	posted  map[string]struct{} // CSRF tokens that /account/email has seen
	failing int
	trouble map[string]*trouble
}

// place is where a session is the current one.
type place struct {
	identity *Identity
	shape    shape
}

// trouble is what FailNext ordered for a path.
type trouble struct{ status, left int }

func newBook(o *Origin) *book {
	b := &book{
		origin:  o,
		key:     []byte(rand.Text()),
		byName:  map[string]*Identity{},
		all:     Stats{Identities: map[string]Counts{}},
		tokens:  map[string]*token{},
		current: map[place]*session{},
		applied: map[string]int{},
		trouble: map[string]*trouble{},
	}
	for _, one := range o.known() {
		b.byName[strings.ToLower(one.Name)] = one
	}
	return b
}

// secret is a new random string of 40 hexadecimal digits.
func secret() string {
	var raw [20]byte
	rand.Read(raw[:]) // never fails, crypto/rand says
	return hex.EncodeToString(raw[:])
}

func (b *book) total(add func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	add(&b.all)
}

// count adds to the total and to one identity; nil is Anonymous. mu is held.
func (b *book) count(who *Identity, add func(*Counts)) {
	name := Anonymous
	if who != nil {
		name = who.Name
	}
	c := b.all.Identities[name]
	add(&c)
	b.all.Identities[name] = c
	add(&b.all.Counts)
}

func (b *book) stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	copied := b.all
	copied.Identities = maps.Clone(b.all.Identities)
	return copied
}

// request counts a request under the identity of its credential, dead or not.
func (b *book) request(credential string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var who *Identity
	if t, ok := b.tokens[credential]; ok {
		who = t.session.identity
	}
	b.count(who, func(c *Counts) { c.Requests++ })
}

// login checks a password. nil is a failed login, which is counted here; open
// counts the others.
func (b *book) login(name, password string) *Identity {
	b.mu.Lock()
	defer b.mu.Unlock()
	who := b.byName[strings.ToLower(name)]
	if b.failing > 0 {
		b.failing--
	} else if who != nil && who.Password == password {
		return who
	}
	b.count(who, func(c *Counts) { c.FailedLogins++ })
	return nil
}

func (b *book) failLogins(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing = n
}

// failure returns the status that FailNext ordered for this request.
func (b *book) failure(path string) (status int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.trouble[path]
	if t == nil || t.left <= 0 {
		return 0, false
	}
	t.left--
	return t.status, true
}

func (b *book) failNext(path string, status, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trouble[path] = &trouble{status, n}
}

// open counts a login and makes its session.
func (b *book) open(who *Identity, in shape, expires time.Time) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(who, func(c *Counts) { c.Logins++ })
	return b.make(who, in, &grant{}, expires)
}

// make makes a session the current one. mu is held, and the login or refresh
// has been counted.
func (b *book) make(who *Identity, in shape, of *grant, expires time.Time) *session {
	at := place{who, in}
	if last := b.current[at]; last != nil && !last.over && !b.origin.ManySessions {
		if b.dead(last) {
			b.die(last)
		} else {
			last.over, last.replaced = true, true
			last.killed = b.origin.SingleSession && last.grant != of
			b.count(who, func(c *Counts) { c.Replaced++; c.Current-- })
		}
	}
	s := &session{identity: who, shape: in, grant: of, expires: expires}
	b.current[at] = s
	b.count(who, func(c *Counts) { c.Current++ })
	return s
}

// hand remembers a token that a client gets.
func (b *book) hand(text string, t *token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handLocked(text, t)
}

func (b *book) handLocked(text string, t *token) {
	if len(b.oldest) >= maxTokens {
		delete(b.tokens, b.oldest[0])
		b.oldest = b.oldest[1:]
	}
	b.tokens[text] = t
	b.oldest = append(b.oldest, text)
}

// dead says whether a session does not live any more. mu is held.
func (b *book) dead(s *session) bool {
	return b.ended(s) || !s.expires.IsZero() && !b.origin.Clock().Before(s.expires)
}

// ended is dead for another reason than time. mu is held.
func (b *book) ended(s *session) bool {
	return s.killed || s.grant.revoked || b.origin.DieAfter > 0 && s.served >= b.origin.DieAfter
}

// die counts a death once. mu is held.
func (b *book) die(s *session) {
	if s.over {
		return
	}
	s.over = true
	b.count(s.identity, func(c *Counts) { c.Died++; c.Current-- })
}

type verdict int

const (
	alive   verdict = iota
	dead            // of a session that was live once
	missing         // no credential in the request
	foreign         // never given out
)

// judge decides a protected request and counts it. uses are the tokens that
// the place accepts. The session is nil unless alive.
func (b *book) judge(credential string, uses ...use) (*session, verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if credential == "" {
		b.count(nil, func(c *Counts) { c.DeadAnswers++; c.NoCredential++ })
		return nil, missing
	}
	t := b.tokens[credential]
	if t == nil || !accepted(t.use, uses) {
		b.count(nil, func(c *Counts) { c.DeadAnswers++; c.Foreign++ })
		return nil, foreign
	}
	s := t.session
	gone, stale := b.dead(s), s.replaced
	if gone {
		b.die(s)
	}
	if t.use == useRefresh {
		gone = b.ended(s) || b.spent(t) // it outlives the access token
	}
	if t.roll < s.rolls {
		gone, stale = true, true
	}
	if gone {
		b.count(s.identity, func(c *Counts) {
			c.DeadAnswers++
			if stale {
				c.Stale++
			}
		})
		return nil, dead
	}
	s.rolls = max(s.rolls, t.roll)
	s.served++
	b.count(s.identity, func(c *Counts) { c.Served++ })
	return s, alive
}

// spent says whether a refresh token is good for nothing any more. mu is held.
func (b *book) spent(t *token) bool {
	return t.burnt || t.session.grant.revoked || !t.expires.IsZero() && !b.origin.Clock().Before(t.expires)
}

func accepted(u use, uses []use) bool {
	for _, one := range uses {
		if one == u {
			return true
		}
	}
	return false
}

// refresh uses a refresh token up, where its shape rotates them, and opens a
// session in place of the old one. alsoAccess lets a live access token do the
// same, as DummyJSON has it. Only alive brings a session.
func (b *book) refresh(text string, in shape, expires time.Time, alsoAccess bool) (*session, verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tokens[text]
	fits := t != nil && t.session.shape == in &&
		(t.use == useRefresh || alsoAccess && t.use == useAccess)
	if !fits {
		b.count(nil, func(c *Counts) { c.FailedRefreshes++ })
		return nil, foreign
	}
	who, of := t.session.identity, t.session.grant
	if t.burnt {
		b.count(who, func(c *Counts) { c.FailedRefreshes++; c.BurntRefreshes++ })
		if b.origin.ReuseRevokes && !of.revoked {
			of.revoked = true
			b.count(who, func(c *Counts) { c.RevokedGrants++ })
			if last := b.current[place{who, in}]; last.grant == of {
				b.die(last)
			}
		}
		return nil, dead
	}
	if b.spent(t) || t.use == useAccess && b.dead(t.session) {
		b.count(who, func(c *Counts) { c.FailedRefreshes++ })
		return nil, dead
	}
	t.burnt = t.use == useRefresh && b.rotates(in)
	b.count(who, func(c *Counts) { c.Refreshes++ })
	return b.make(who, in, of, expires), alive
}

func (b *book) rotates(in shape) bool {
	return b.origin.Rotation == RotateAll || b.origin.Rotation == RotateLikeOriginals && in != shapeDummy
}

// kill ends sessions; name "" is everybody's. refresh tokens go too when
// asked for.
func (b *book) kill(name string, refreshTokens bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	hit := func(s *session) {
		if name != "" && s.identity.Name != name {
			return
		}
		s.killed = true
		s.grant.revoked = s.grant.revoked || refreshTokens
		b.die(s)
	}
	for _, t := range b.tokens {
		hit(t.session)
	}
	// Tokens may have been forgotten; a current session never is.
	for _, s := range b.current {
		hit(s)
	}
}

// killSession ends the session of a credential.
func (b *book) killSession(credential string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.tokens[credential]; t != nil {
		t.session.killed = true
		b.die(t.session)
	}
}

// enter notes that a request of the credential's session is under way; false
// where one is already. exit ends that.
func (b *book) enter(credential string) (exit func(), ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tokens[credential]
	if t == nil || !b.origin.OneAtATime {
		return func() {}, true
	}
	s := t.session
	if s.underWay {
		b.count(s.identity, func(c *Counts) { c.Conflicts++ })
		return nil, false
	}
	s.underWay = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		s.underWay = false
	}, true
}

// logout ends the session of a credential. It reports whether there was one
// that lived.
func (b *book) logout(credential string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tokens[credential]
	if t == nil || b.dead(t.session) {
		return false
	}
	t.session.killed = true
	b.die(t.session)
	b.count(t.session.identity, func(c *Counts) { c.Logouts++ })
	return true
}

// roll gives out the next value of a session's cookie.
func (b *book) roll(s *session) string {
	value := secret()
	b.mu.Lock()
	defer b.mu.Unlock()
	s.rolled++
	b.handLocked(value, &token{session: s, use: useCookie, roll: s.rolled})
	return value
}

func (b *book) owner(text string) (name string, live bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.tokens[text]
	if t == nil {
		return "", false
	}
	if t.use == useRefresh {
		return t.session.identity.Name, !b.spent(t)
	}
	return t.session.identity.Name, !b.dead(t.session) && t.roll >= t.session.rolls
}

// write counts a write that takes effect, and returns how often this id has
// done so, this one included.
func (b *book) write(who *Identity, id string) (times int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id != "" {
		if len(b.applied) >= maxIDs && b.applied[id] == 0 {
			return 0, false
		}
		b.applied[id]++
		times = b.applied[id]
	}
	b.count(who, func(c *Counts) {
		c.Writes++
		if times > 1 {
			c.Duplicates++
		}
	})
	return times, true
}

func (b *book) appliedCount(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.applied[id]
}

// csrfSet remembers tokens against forged requests and whether they have
// been used. The zero value is ready.
type csrfSet struct {
	used   map[string]bool
	oldest []string
}

func (c *csrfSet) add(text string) {
	if c.used == nil {
		c.used = map[string]bool{}
	}
	if len(c.oldest) >= maxCSRF {
		delete(c.used, c.oldest[0])
		c.oldest = c.oldest[1:]
	}
	c.used[text] = false
	c.oldest = append(c.oldest, text)
}

// newCSRF gives out a token for a session, or, when there is none, for the
// login form of a visitor.
func (b *book) newCSRF(s *session, visitor string) string {
	// Base64 on purpose: + / and = are what breaks careless injections.
	var raw [24]byte
	rand.Read(raw[:])
	text := base64.StdEncoding.EncodeToString(raw[:]) + "+/="
	b.mu.Lock()
	defer b.mu.Unlock()
	if s != nil {
		s.csrf.add(text)
	} else {
		b.before.add(visitor + " " + text)
	}
	return text
}

// useCSRF says whether a token is good, uses it up, and counts a refusal.
func (b *book) useCSRF(s *session, visitor, text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	set, key, who := &b.before, visitor+" "+text, (*Identity)(nil)
	if s != nil {
		set, key, who = &s.csrf, text, s.identity
	}
	used, known := set.used[key]
	if known && (!used || b.origin.LastingCSRF) {
		set.used[key] = true
		return true
	}
	b.count(who, func(c *Counts) {
		c.CSRFRefused++
		if used {
			c.CSRFReused++
		}
	})
	return false
}

// sawCSRF counts a token that was posted before. What has never been posted is
// remembered, up to maxSeenCSRF.
func (b *book) sawCSRF(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, seen := b.posted[text]; seen && text != "" {
		b.count(nil, func(c *Counts) { c.CSRFRepeated++ })
		return
	}
	if b.posted == nil {
		b.posted = make(map[string]struct{})
	}
	if len(b.posted) < maxSeenCSRF {
		b.posted[text] = struct{}{}
	}
}

// forbid counts an answer of /forbidden.
func (b *book) forbid(credential string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var who *Identity
	if t := b.tokens[credential]; t != nil {
		who = t.session.identity
	}
	b.count(who, func(c *Counts) { c.Forbidden++ })
}
