package session

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Feed says what the identities' jars take from the traffic of clients. What
// macros bring is taken in any case.
type Feed struct {
	Tools   []string // whose traffic, in any case; none: nobody's
	Observe bool     // the cookies in their requests as well, see [jar.Jar.Observe]
	// Ruled adds, of every tool, the answers to requests under a rule that puts
	// the jar's cookies in: the session that they use may change with each.
	Ruled bool
}

// feeds reports whether the tool's traffic feeds the jars.
func (e *Engine) feeds(tool string) bool {
	for _, t := range e.config.Feed.Tools {
		if strings.EqualFold(t, tool) {
			return true
		}
	}
	return false
}

// unruled takes a flow through that no rule covers. The requests of macros
// never come here; the identity anonymous has no jar.
func (e *Engine) unruled(ctx context.Context, f *flow.Flow, next flow.Handler) error {
	p := e.identities[f.Identity]
	if p == nil || !e.feeds(f.Tool) {
		return next(ctx, f)
	}
	id := p.held(f)
	if id == nil { // of several sessions it is none's
		return next(ctx, f)
	}
	f.Stamp.Sequence = e.next()
	if err := next(ctx, f); err != nil {
		return err
	}
	if e.takeCookies(id, f, e.config.Feed.Observe, nil) {
		id.settle()
	}
	return nil
}

// takeCookies feeds the jar with the answer that the client is about to get.
// Answers of a dead session do not come here, also where the client is given
// one: what it sets is a stranger's session, and what it removes is ours. Nor
// do those to requests that carry values of the client's own (keep_foreign), or
// the tokens of a session that was recovered meanwhile.
func (x *exchange) takeCookies() {
	e := x.engine
	listed := e.feeds(x.flow.Tool)
	if !listed && !(e.config.Feed.Ruled && x.usesCookies()) {
		return
	}
	for i, w := range x.words {
		if w == foreign {
			return
		}
		if x.flow.Stamp.Sequence < x.sessions[i].born.Load() {
			var buf [1][]byte
			if x.flow.Response != nil && len(setCookies(x.flow.Response, buf[:0])) > 0 {
				x.note(x.rules[i], flow.ActionKeep, "its cookies are not taken: the session was recovered since the request was sent")
			}
			return
		}
	}
	e.takeCookies(x.identity, x.flow, listed && e.config.Feed.Observe, x.leftAt)
}

// usesCookies reports whether a rule puts the jar's cookies into the request.
func (x *exchange) usesCookies() bool {
	return slices.ContainsFunc(x.rules, usesCookies)
}

func usesCookies(r *rule.Rule) bool {
	for i := range r.Actions {
		if r.Actions[i].UseCookies != nil {
			return true
		}
	}
	return false
}

// takeCookies feeds a jar with a flow whose answer is there. The cookies in the
// request go first: what the answer says of them is newer. Nothing is taken of
// cookies that hold a value of the client's own, by Holdfast-Keep or for being
// among the places left, nor where a field does.
//
// It reports whether there was something to take.
func (e *Engine) takeCookies(id *identity, f *flow.Flow, observe bool, left []string) (any bool) {
	if f.Response == nil {
		return false
	}
	if len(f.Keep) > 0 {
		left = append(left[:len(left):len(left)], f.Keep...)
	}
	for _, place := range left {
		if strings.HasPrefix(place, "header:") {
			return false
		}
	}
	u := address(f)
	if observe {
		if seen := unchangedCookies(f, left); len(seen) > 0 {
			any = true
			e.tellCookies(f, "seen in the request: ", id.jar.Observe(u, seen, e.now(), f.Stamp.Sequence))
		}
	}
	var buf [8][]byte
	set := setCookies(f.Response, buf[:0])
	if len(left) > 0 {
		set = slices.DeleteFunc(set, func(line []byte) bool { return isLeft(left, line) })
	}
	if len(set) > 0 {
		any = true
		e.tellCookies(f, "", id.jar.SetFromResponse(u, set, e.now(), f.Stamp.Sequence))
	}
	return any
}

// Cookies lists what an identity's jar holds, the oldest first; of several
// sessions it is that of the first. ok says whether there is such an identity; ""
// is the one that speaks where nobody is named.
func (e *Engine) Cookies(identity string) (cookies []jar.Cookie, ok bool) {
	p, ok := e.identities[identity]
	if !ok {
		return nil, false
	}
	return p.members[0].jar.All(), true
}

// isLeft reports whether a text that begins with a cookie, name=value, is about
// one of the places.
func isLeft(left []string, text []byte) bool {
	name, _, _ := bytes.Cut(text, []byte("="))
	return contains(left, "cookie:"+string(bytes.TrimSpace(name)))
}

func address(f *flow.Flow) jar.URL {
	return jar.URL{Secure: f.Origin.TLS, Host: f.Origin.Host, Path: string(f.Request.Path())}
}

func setCookies(r *wire.Response, into [][]byte) [][]byte {
	for i := range r.NumFields() {
		if name, value := r.Field(i); isField(name, "Set-Cookie") {
			into = append(into, value)
		}
	}
	return into
}

// isField compares the name of a field without allocating.
func isField(name []byte, want string) bool {
	return len(name) == len(want) && strings.EqualFold(string(name), want)
}

// unchangedCookies is the Cookie line of the request as far as it left as the
// client wrote it: a value that a rule replaced proves nothing by its answer.
// HTTP/2 may spread the line over several fields (RFC 9113 §8.2.3).
func unchangedCookies(f *flow.Flow, left []string) []byte {
	wrote := cookieLine(f.Received)
	if f.Request == f.Received && len(left) == 0 || len(wrote) == 0 {
		return wrote
	}
	sent := make(map[string]bool)
	for pair := range bytes.SplitSeq(cookieLine(f.Request), []byte(";")) {
		sent[string(bytes.TrimSpace(pair))] = true
	}
	var line []byte
	for pair := range bytes.SplitSeq(wrote, []byte(";")) {
		if pair = bytes.TrimSpace(pair); sent[string(pair)] && !isLeft(left, pair) {
			line = appendPair(line, pair)
		}
	}
	return line
}

// cookieLine allocates only where there are several fields.
func cookieLine(r *wire.Request) (line []byte) {
	for i := range r.NumFields() {
		name, value := r.Field(i)
		switch {
		case !isField(name, "Cookie") || len(value) == 0:
		case line == nil:
			line = value[:len(value):len(value)]
		default:
			line = appendPair(line, value)
		}
	}
	return line
}

func appendPair(line, pair []byte) []byte {
	if len(line) > 0 {
		line = append(line, "; "...)
	}
	return append(line, pair...)
}

// keepCookies gives the jar once more what the answers of a recovery brought,
// as of the moment at which the session was born. Requests that began after the
// login did and before it was over may have carried the old session; what
// their answers said meanwhile of these cookies does not count.
func (s *session) keepCookies(answers []macro.StepResult) {
	for _, a := range answers {
		if set := setCookies(a.Response, nil); len(set) > 0 {
			s.identity.jar.SetFromResponse(address(a.Flow), set, s.engine.now(), s.born.Load())
		}
	}
}

// Bounds on what one event of a trace lists.
const (
	maxToldCookies = 16
	maxToldName    = 64 // bytes
)

// tellCookies writes into the flow's trace what became of cookies, by name.
func (e *Engine) tellCookies(f *flow.Flow, where string, changes []jar.Change) {
	var b strings.Builder
	told, left := 0, 0
	for _, c := range changes {
		if c.Kind == jar.Unchanged {
			continue
		}
		if told == maxToldCookies {
			left++
			continue
		}
		if told++; told > 1 {
			b.WriteString(", ")
		}
		name := c.Cookie.Name
		if len(name) > maxToldName {
			name = name[:maxToldName] + "…"
		}
		fmt.Fprintf(&b, "%q %s", name, c.Kind)
		if c.Reason != "" {
			b.WriteString(" (" + c.Reason + ")")
		}
	}
	if told == 0 {
		return
	}
	if left > 0 {
		fmt.Fprintf(&b, " and %d more", left)
	}
	f.Trace.Add(flow.Event{At: e.now().Sub(f.Start), Actor: "cookie jar", Action: flow.ActionExtract, Detail: "cookie " + where + b.String()})
}
