package learn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/macro/derive"
	"github.com/holdfast-proxy/holdfast/rule"
)

// csrf is a token that writes carry beside the session.
type csrf struct {
	token  string
	places []rule.Target // where writes carry it; never empty
	cookie doubled       // that has it; or
	page   *question     // whose answer has it, at source
	source rule.Source
	write  *convert.Exchange
}

// name is what people call it: that of its first place.
func (c *csrf) name() string { return c.places[0].Name + c.places[0].Pointer }

// sent is a value that a recorded write carried at a place of its own.
type sent struct {
	places []rule.Target
	name   string // of the place
	value  string
}

// The bounds of what is looked at in the bodies of writes.
const (
	maxSent      = 200 // values of one write
	maxPart      = 4096
	maxSentDepth = 20
	minToken     = 6 // bytes
)

// sentBy lists what a write carries that could be a token.
func sentBy(x *convert.Exchange) []sent {
	var all []sent
	add := func(name, value string, places ...rule.Target) {
		if name != "" && len(value) >= minToken && len(value) <= maxPart && len(all) < maxSent {
			all = append(all, sent{places, name, value})
		}
	}
	for n := range x.Request.NumFields() {
		name, value := x.Request.Field(n)
		if !dropped(string(name)) {
			add(string(name), string(value), rule.Target{Type: rule.TargetRequestHeader, Name: string(name)})
		}
	}
	// A form that one page sends URL-encoded another one sends in parts.
	formed := func(name string) []rule.Target {
		return []rule.Target{{Type: rule.TargetFormParam, Name: name}, {Type: rule.TargetMultipart, Name: name}}
	}
	field, _ := x.Request.Get("Content-Type")
	media, params, err := mime.ParseMediaType(string(field))
	switch {
	case err != nil:
	case media == "application/x-www-form-urlencoded":
		for pair := range strings.SplitSeq(string(x.RequestBody), "&") {
			rawName, rawValue, _ := strings.Cut(pair, "=")
			name, err1 := url.QueryUnescape(rawName)
			value, err2 := url.QueryUnescape(rawValue)
			if err1 == nil && err2 == nil {
				add(name, value, formed(name)...)
			}
		}
	case media == "multipart/form-data":
		parts := multipart.NewReader(bytes.NewReader(x.RequestBody), params["boundary"])
		for len(all) < maxSent {
			p, err := parts.NextRawPart()
			if err != nil {
				break
			}
			if value, err := io.ReadAll(io.LimitReader(p, maxPart+1)); err == nil && p.FileName() == "" {
				add(p.FormName(), string(value), formed(p.FormName())...)
			}
		}
	case media == "application/json" || strings.HasSuffix(media, "+json"):
		var body any
		if json.Unmarshal(x.RequestBody, &body) == nil {
			members(body, "", 0, func(name, pointer, value string) {
				add(name, value, rule.Target{Type: rule.TargetJSON, Pointer: pointer})
			})
		}
	}
	return all
}

// members tells of each text in an object, with its JSON pointer (RFC 6901).
func members(v any, pointer string, depth int, tell func(name, pointer, value string)) {
	object, ok := v.(map[string]any)
	if !ok || depth > maxSentDepth {
		return
	}
	for name, value := range object {
		at := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		if text, ok := value.(string); ok {
			tell(name, at, text)
		}
		members(value, at, depth+1, tell)
	}
}

// learnCSRF finds where recorded writes have their CSRF tokens from.
func (l *learner) learnCSRF() error {
	for i := l.rec.last + 1; i < len(l.rec.exchanges); i++ {
		x := &l.rec.exchanges[i]
		if isSafe(string(x.Request.Method())) || originOf(x.URL) != l.rec.origin || l.rec.isRefresh(x) || l.rec.isLogout(x) ||
			x.Response == nil || x.Response.Status() >= 400 {
			continue
		}
		for _, s := range sentBy(x) {
			switch {
			case s.places[0].Type == rule.TargetRequestHeader && l.isTarget(s.name):
			case l.rec.words.csrf.MatchString(s.name):
				l.findCSRF(i, &s, true)
			case l.rec.words.token.MatchString(s.name):
				l.findCSRF(i, &s, false)
			}
		}
	}
	for _, c := range l.csrf {
		if c.page == nil {
			continue
		}
		m, err := l.macroOf("csrf", c.page.template, []macro.Extraction{c.extraction()}, "")
		if err != nil {
			continue
		}
		_, err = l.asker.run(m, l.session.copied())
		if stop := l.stopped(err); stop != nil {
			return stop
		}
		l.report.claim(err == nil, "the CSRF token "+c.name()+" comes from "+c.page.shown, "the page was asked for with a new session", "correct macro csrf: its page or its extraction")
	}
	return nil
}

func (c *csrf) extraction() macro.Extraction {
	s := c.source
	if s.Compile() != nil {
		s = rule.Source{}
	}
	return macro.Extraction{Token: c.token, Source: &s}
}

func (l *learner) isTarget(header string) bool {
	return slices.ContainsFunc(l.targets, func(t target) bool { return strings.EqualFold(t.header, header) })
}

// findCSRF looks for the origin of a value: a cookie that is sent beside it, or
// the newest answer before that has it. Where it must have one, it is told that
// none was found.
func (l *learner) findCSRF(at int, s *sent, must bool) {
	c := csrf{token: "CSRF", places: s.places, write: &l.rec.exchanges[at]}
	if slices.ContainsFunc(l.csrf, func(known csrf) bool { return known.name() == c.name() }) {
		return
	}
	if n := len(l.csrf); n > 0 {
		c.token = fmt.Sprint("CSRF", n+1)
	}
	if c.cookie = doubledBy(c.write, s.value); c.cookie.name != "" {
		l.csrf = append(l.csrf, c)
		return
	}
	for i := at - 1; i >= 0; i-- {
		x := &l.rec.exchanges[i]
		if x.Response == nil || string(x.Request.Method()) != "GET" || originOf(x.URL) != l.rec.origin {
			continue
		}
		source, ok := derive.Locate(x, s.value, s.name)
		if !ok || source.Type == rule.SourceCookie {
			continue
		}
		if c.page = l.rec.ask(x, l.tokens, l.draft); c.page != nil {
			c.source = source
			l.csrf = append(l.csrf, c)
		}
		return
	}
	// What the login brings is new whenever the session is.
	for _, t := range l.tokens {
		if slices.Contains(t.recorded, s.value) {
			l.carried = append(l.carried, carried{t.name, s.places})
			return
		}
	}
	if must {
		l.report.claim(false, "the CSRF token "+c.name()+" is put into writes", "no recorded page and no cookie has the value that was sent", "add a token_updates entry for it by hand")
	}
}

// carried is a token of the login that the bodies of writes carry.
type carried struct {
	token  string
	places []rule.Target
}

// doubled is a cookie whose value a request carries a second time.
type doubled struct {
	name    string // "" there is none
	decoded bool   // as it is when it is percent-decoded
}

// doubledBy is the cookie of a request that has a value.
func doubledBy(x *convert.Exchange, value string) doubled {
	for _, k := range cookiesOf(x) {
		if k.Value == value {
			return doubled{k.Name, false}
		}
		if plain, err := url.PathUnescape(k.Value); err == nil && plain == value {
			return doubled{k.Name, true}
		}
	}
	return doubled{}
}

// copied is the script of an action that sends the cookie again in a header.
// Where the jar has none yet, a page is asked for that sets it.
func (d doubled) copied(header, page string) string {
	quote := func(s string) string {
		b, _ := json.Marshal(s) // texts cannot fail
		return string(b)
	}
	get := "jar.get(" + quote(d.name) + ")"
	value := "v"
	if d.decoded {
		value = "decodeURIComponent(v)"
	}
	return "let v = " + get + ";\nif (!v) { fetch(" + quote(page) + "); v = " + get + "; }\n" +
		"if (v) request.headers.set(" + quote(header) + ", " + value + ");\n"
}

// repeated is the script of a target that sends the cookie again, as the request
// has it.
func (d doubled) repeated() string {
	name, _ := json.Marshal(d.name + "=") // a text cannot fail
	value := "v.slice(" + fmt.Sprint(len(d.name)+1) + ")"
	if d.decoded {
		value = "decodeURIComponent(" + value + ")"
	}
	return "const v = request.headers.getAll(\"Cookie\").join(\"; \").split(/; */).find(c => c.startsWith(" + string(name) + "));\nv && " + value + "\n"
}
