package session

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/wire"
)

// ending is when something ends, by our clock, and why we think so.
type ending struct {
	at    time.Time // zero: not known
	given time.Time // since when it counts
	why   string    // holds no secret
	// learned says that nobody told it: see lifetimes.
	learned bool
}

func (e ending) life() time.Duration { return e.at.Sub(e.given) }

func earlier(a, b ending) ending {
	if a.at.IsZero() || !b.at.IsZero() && b.at.Before(a.at) {
		return b
	}
	return a
}

// bringer is an answer that may have brought tokens.
type bringer struct {
	flow           *flow.Flow
	response       *wire.Response
	body           []byte    // decoded; nil where it was not read
	sent, answered time.Time // by our clock
}

func newBringer(f *flow.Flow, resp *wire.Response, body []byte, now time.Time) bringer {
	b := bringer{flow: f, response: resp, body: body, sent: f.Sent, answered: f.Answered}
	if b.sent.IsZero() {
		b.sent = f.Start
	}
	if b.answered.IsZero() {
		b.answered = now
	}
	return b
}

// ahead is how far the origin's clock is ahead of ours, as far as Date
// (RFC 9110 §6.6.1) contradicts that they agree: it was written between sent
// and answered, and it names the second that had begun. An answer that was
// stored on its way (Age) says nothing of now.
func (b bringer) ahead() time.Duration {
	text, ok := b.response.Get("Date")
	date, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", string(text))
	if !ok || err != nil || b.response.Has("Age") {
		return 0
	}
	return clampToZero(date.Sub(b.answered), date.Add(time.Second).Sub(b.sent))
}

// clampToZero is the value from low to high that is nearest to zero.
func clampToZero(low, high time.Duration) time.Duration {
	switch {
	case low > 0:
		return low
	case high < 0:
		return high
	}
	return 0
}

// endOf is when a value ends, by what it says itself and by what stands beside
// it in the answer.
func (b bringer) endOf(token, value string) ending {
	ahead := b.ahead()
	told := func(at time.Time, why string) ending { // at is by the origin's clock
		if ahead != 0 {
			why += fmt.Sprintf(" (the origin's clock is %s off ours)", ahead.Round(time.Second))
		}
		return ending{at: at.Add(-ahead), given: b.sent, why: "token " + token + ": " + why}
	}
	var end ending
	if t, ok := readJWT(value); ok {
		if t.issued != 0 && !b.response.Has("Date") {
			issued := unix(t.issued)
			ahead = clampToZero(issued.Sub(b.answered), issued.Add(time.Second).Sub(b.sent))
		}
		end = told(unix(t.expires), "exp of its JWT")
		ahead = b.ahead()
	}
	if seconds, ok := expiresIn(b.body, value); ok {
		end = earlier(end, ending{at: b.sent.Add(seconds), given: b.sent, why: "token " + token + ": expires_in beside it"})
	}
	if at, ok := b.cookieEnd(value, b.sent.Add(ahead)); ok {
		end = earlier(end, told(at, "the lifetime of its cookie"))
	}
	return end
}

// cookieEnd is when the cookie ends that the answer sets to the value. now and
// the result are by the origin's clock, since Expires is.
func (b bringer) cookieEnd(value string, now time.Time) (time.Time, bool) {
	if value == "" || !b.response.Has("Set-Cookie") {
		return time.Time{}, false
	}
	set := newJar()
	at := jar.URL{Secure: b.flow.Origin.TLS, Host: b.flow.Origin.Host, Path: string(b.flow.Request.Path())}
	for i := range b.response.NumFields() {
		if name, line := b.response.Field(i); strings.EqualFold(string(name), "Set-Cookie") {
			set.Set(at, line, now, 0)
		}
	}
	for _, c := range set.All() {
		if c.Value == value && !c.Expires.IsZero() {
			return c.Expires, true
		}
	}
	return time.Time{}, false
}

// jwtTimes are the times in a JSON Web Token, in seconds of Unix time.
type jwtTimes struct{ expires, issued float64 }

// maxJWT bounds what is read of a token, in bytes.
const maxJWT = 64 << 10

// readJWT reads exp and iat (RFC 7519 §4.1) of a token in compact form, with or
// without a scheme before it. The signature is the origin's business.
func readJWT(value string) (t jwtTimes, ok bool) {
	if i := strings.LastIndexByte(value, ' '); i >= 0 {
		value = value[i+1:]
	}
	head, rest, _ := strings.Cut(value, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || len(value) > maxJWT || strings.Contains(signature, ".") {
		return t, false
	}
	var header struct {
		Alg *string `json:"alg"`
	}
	var claims struct {
		Exp *float64 `json:"exp"`
		Iat float64  `json:"iat"`
	}
	if !decodePart(head, &header) || header.Alg == nil || !decodePart(payload, &claims) || claims.Exp == nil || !isTime(*claims.Exp) {
		return t, false
	}
	t.expires = *claims.Exp
	if isTime(claims.Iat) {
		t.issued = claims.Iat
	}
	return t, true
}

func decodePart(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	return err == nil && json.Unmarshal(raw, into) == nil
}

// isTime reports whether a number can be a time of these centuries in seconds.
func isTime(seconds float64) bool { return seconds > 1e6 && seconds < 1e11 }

func unix(seconds float64) time.Time { return time.UnixMilli(int64(seconds * 1000)) }

// maxDepth bounds how deep a token is looked for in JSON.
const maxDepth = 32

// expiresIn is the expires_in (RFC 6749 §5.1) beside a value: a member of the
// same JSON object, in seconds, as a number or as a text.
func expiresIn(body []byte, value string) (time.Duration, bool) {
	if value == "" || !bytes.Contains(body, []byte(`"expires_in"`)) && !bytes.Contains(body, []byte(`"expiresIn"`)) {
		return 0, false
	}
	var doc any
	if json.Unmarshal(body, &doc) != nil {
		return 0, false
	}
	return besideValue(doc, value, 0)
}

func besideValue(doc any, value string, depth int) (time.Duration, bool) {
	if depth > maxDepth {
		return 0, false
	}
	switch doc := doc.(type) {
	case []any:
		for _, v := range doc {
			if d, ok := besideValue(v, value, depth+1); ok {
				return d, true
			}
		}
	case map[string]any:
		for _, v := range doc {
			if text, ok := v.(string); ok && text == value {
				return seconds(doc["expires_in"], doc["expiresIn"])
			}
		}
		for _, v := range doc {
			if d, ok := besideValue(v, value, depth+1); ok {
				return d, true
			}
		}
	}
	return 0, false
}

// seconds reads the first of the values that is there.
func seconds(values ...any) (time.Duration, bool) {
	for _, v := range values {
		n, ok := v.(float64)
		if text, isText := v.(string); isText {
			parsed, err := strconv.ParseFloat(text, 64)
			n, ok = parsed, err == nil
		}
		if ok && n > 0 && n < 1e9 {
			return time.Duration(n * float64(time.Second)), true
		}
	}
	return 0, false
}
