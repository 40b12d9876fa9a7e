package upstream

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// nonceKey says whose nonce of Digest it is: a nonce and its count are of one
// identity at one origin.
type nonceKey struct {
	origin   flow.Origin
	identity string
	username string
}

// nonce is a challenge that the origin has accepted an answer to, or may yet.
type nonce struct {
	challenge
	count uint32 // answers so far; guarded by logins.mu
}

// take counts one more answer.
func (l *logins) take(k nonceKey) (c challenge, count uint32, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nonces[k]
	if n == nil {
		return challenge{}, 0, false
	}
	n.count++
	return n.challenge, n.count, true
}

// learn replaces the nonce, unless it is the same.
func (l *logins) learn(k nonceKey, c challenge) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nonces[k]; n != nil && n.nonce == c.nonce {
		return
	}
	if l.nonces == nil || len(l.nonces) >= maxWays {
		l.nonces = make(map[nonceKey]*nonce)
	}
	l.nonces[k] = &nonce{challenge: c}
}

// sendDigest sends a flow with the answer to the origin's last challenge, and
// once more when that brings a new one (RFC 7616 §3.3).
func (p *Pool) sendDigest(ctx context.Context, f *flow.Flow, a *flow.Auth, kept *keptRequest) error {
	request, k := f.Request, nonceKey{f.Origin, f.Identity, a.Username}
	answered := ""  // the nonce that was answered
	public := false // the origin wants to know nothing
	for sent := 0; ; sent++ {
		f.Request = request
		c, count, known := p.logins.take(k)
		// A body that can be sent once waits for the challenge.
		waits := kept.has && kept.again == nil && !known && !public
		if known {
			credentials, err := c.answer(a, request, count, kept)
			if err != nil {
				kept.drop()
				return authError(f, a, err)
			}
			f.Request, answered = with(request, credentials), c.nonce
		}
		if waits {
			f.Request, f.RequestBody = forChallenge(request), nil
		} else {
			body, ok := kept.next()
			if !ok {
				return authError(f, a, errTwice)
			}
			f.RequestBody = body
		}
		if err := p.sendPlain(ctx, f); err != nil {
			if waits {
				kept.drop()
			}
			return err
		}
		p.nextNonce(k, f.Response)
		fresh, asked := digestChallenge(f.Response)
		if asked {
			p.logins.learn(k, fresh)
		}
		refused := asked && (sent == maxChallenges || fresh.nonce == answered || answered != "" && !fresh.stale && sent > 0)
		switch {
		case waits && !asked && f.Response.Status() != 401:
			public = true // the body can go as it is
			drain(f)
			continue
		case !asked, refused:
			if waits {
				kept.drop()
			}
			return nil
		case kept.has && kept.again == nil && !waits:
			return nil // the answer stands: its body is gone
		}
		drain(f)
		p.tell(f, "the origin asked for Digest authentication: sent again with it")
	}
}

// nextNonce takes the nonce for the next request (RFC 7616 §3.5).
func (p *Pool) nextNonce(k nonceKey, r *wire.Response) {
	value, ok := r.Get("Authentication-Info")
	if !ok {
		return
	}
	next := parameters(string(value))["nextnonce"]
	p.logins.mu.Lock()
	defer p.logins.mu.Unlock()
	if n := p.logins.nonces[k]; n != nil && next != "" && next != n.nonce {
		c := n.challenge
		c.nonce = next
		p.logins.nonces[k] = &nonce{challenge: c}
	}
}

// The qualities of protection (RFC 7616 §3.4).
const (
	qopAuth = "auth"
	qopInt  = "auth-int"
)

// challenge is a WWW-Authenticate: Digest (RFC 7616 §3.3).
type challenge struct {
	realm, nonce, opaque string
	opaqueGiven          bool
	algorithm            string // as the origin writes it; "" is MD5
	qop                  string // the one that is chosen; "" of RFC 2069
	stale, userhash      bool
}

// digestChallenge is the first challenge of an answer that can be answered:
// origins list them in the order in which they like them (RFC 7616 §3.7).
func digestChallenge(r *wire.Response) (challenge, bool) {
	if r.Status() != 401 {
		return challenge{}, false
	}
	for i := range r.NumFields() {
		name, value := r.Field(i)
		if !strings.EqualFold(string(name), "WWW-Authenticate") {
			continue
		}
		for _, text := range digests(string(value)) {
			if c, ok := parseChallenge(text); ok {
				return c, true
			}
		}
	}
	return challenge{}, false
}

// digests are the parameters of each Digest challenge in a field, which may
// list several, of other schemes too (RFC 9110 §11.6.1).
func digests(value string) (all []string) {
	rest := value
	current, inside := "", false
	for rest != "" {
		item, after := cutItem(rest)
		rest = after
		item = strings.TrimSpace(item)
		scheme, first, _ := strings.Cut(item, " ")
		switch {
		case !strings.Contains(scheme, "="): // a new challenge
			if inside {
				all = append(all, current)
			}
			inside, current = strings.EqualFold(scheme, "Digest"), first
		case inside:
			current += ", " + item
		}
	}
	if inside {
		all = append(all, current)
	}
	return all
}

// cutItem cuts at the first comma that is not in quotes.
func cutItem(s string) (item, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// parameters reads name=value pairs, names in lower case.
func parameters(list string) map[string]string {
	all := make(map[string]string)
	for list != "" {
		var item string
		item, list = cutItem(list)
		name, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if len(value) >= 2 && value[0] == '"' {
			value = unquote(value[1:])
		}
		all[strings.ToLower(strings.TrimSpace(name))] = value
	}
	return all
}

// unquote reads a quoted-string (RFC 9110 §5.6.4) behind its first quote.
func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			break
		}
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func parseChallenge(text string) (challenge, bool) {
	given := parameters(text)
	c := challenge{realm: given["realm"], nonce: given["nonce"], opaque: given["opaque"], algorithm: given["algorithm"],
		stale: strings.EqualFold(given["stale"], "true"), userhash: strings.EqualFold(given["userhash"], "true")}
	_, c.opaqueGiven = given["opaque"]
	if _, _, ok := c.hash(); !ok || c.nonce == "" {
		return c, false
	}
	offered, some := given["qop"]
	if !some {
		return c, true
	}
	for _, want := range []string{qopAuth, qopInt} {
		for qop := range strings.SplitSeq(offered, ",") {
			if c.qop == "" && strings.EqualFold(strings.TrimSpace(qop), want) {
				c.qop = want
			}
		}
	}
	return c, c.qop != ""
}

// hash is the hash function, and whether the password's part is bound to the
// nonce (-sess).
func (c *challenge) hash() (h func() hash.Hash, session, known bool) {
	name, session := strings.CutSuffix(strings.ToUpper(c.algorithm), "-SESS")
	switch name {
	case "", "MD5":
		return md5.New, session, true
	case "SHA-256":
		return sha256.New, session, true
	case "SHA-512-256":
		return sha512.New512_256, session, true
	}
	return nil, false, false
}

// answer is the Authorization field for a request (RFC 7616 §3.4).
func (c *challenge) answer(a *flow.Auth, r *wire.Request, count uint32, kept *keptRequest) (string, error) {
	var random [16]byte
	rand.Read(random[:]) // never fails, says its doc
	return c.credentials(a, r, count, hex.EncodeToString(random[:]), kept)
}

func (c *challenge) credentials(a *flow.Auth, r *wire.Request, count uint32, cnonce string, kept *keptRequest) (string, error) {
	algorithm, session, _ := c.hash()
	digest := func(parts ...string) string {
		h := algorithm()
		io.WriteString(h, strings.Join(parts, ":"))
		return hex.EncodeToString(h.Sum(nil))
	}
	a1 := digest(a.Username, c.realm, a.Password)
	if session {
		a1 = digest(a1, c.nonce, cnonce)
	}
	uri := string(r.Target())
	a2 := digest(string(r.Method()), uri)
	if c.qop == qopInt {
		h := algorithm()
		if kept.has {
			if kept.again == nil {
				return "", errors.New("qop=auth-int wants the hash of a body that is larger than 1 MiB")
			}
			if err := writeTo(h, wire.Payload(kept.again())); err != nil {
				return "", err
			}
		}
		a2 = digest(string(r.Method()), uri, hex.EncodeToString(h.Sum(nil)))
	}
	nc := fmt.Sprintf("%08x", count)
	response := digest(a1, c.nonce, a2)
	if c.qop != "" {
		response = digest(a1, c.nonce, nc, cnonce, c.qop, a2)
	}
	username := a.Username
	if c.userhash {
		username = digest(a.Username, c.realm)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Digest username=%s, realm=%s, nonce=%s, uri=%s, response=\"%s\"", quote(username), quote(c.realm), quote(c.nonce), quote(uri), response)
	if c.algorithm != "" {
		b.WriteString(", algorithm=" + c.algorithm)
	}
	if c.opaqueGiven {
		b.WriteString(", opaque=" + quote(c.opaque))
	}
	if c.qop != "" {
		fmt.Fprintf(&b, ", qop=%s, nc=%s, cnonce=\"%s\"", c.qop, nc, cnonce)
	} else if session {
		fmt.Fprintf(&b, ", cnonce=\"%s\"", cnonce)
	}
	if c.userhash {
		b.WriteString(", userhash=true")
	}
	return b.String(), nil
}

func writeTo(w io.Writer, body wire.Body) error {
	for {
		piece, err := body.Next()
		w.Write(piece) // of a hash: never fails
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// quote writes a quoted-string (RFC 9110 §5.6.4).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
