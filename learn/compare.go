package learn

import (
	"bytes"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/wire"
)

// The bounds of what is compared.
const (
	maxCompared = 256 << 10 // bytes of a body
	maxFeatures = 400       // of one body
	minFeature  = 8         // bytes
	maxFeature  = 120       // bytes
)

// answer is what is compared of an answer.
type answer struct {
	status   int
	location string // the path that a redirect leads to; without its query, unless that alone says where it leads
	body     []byte
	html     bool
}

func newAnswer(resp *wire.Response, body []byte) *answer {
	a := &answer{status: resp.Status(), body: body[:min(len(body), maxCompared)]}
	if location, ok := resp.Get("Location"); ok && a.status/100 == 3 {
		a.location = "/"
		if u, err := url.Parse(string(location)); err == nil && u.EscapedPath() != "" {
			a.location = u.EscapedPath()
			if pair, _, _ := strings.Cut(u.RawQuery, "&"); len(pair) <= maxFeature && leadsToLogin(pair) && !leadsToLogin(a.location) {
				a.location += "?" + pair // an application behind one path
			}
		}
	}
	media := strings.ToLower(string(resp.Combined("Content-Type")))
	a.html = strings.Contains(media, "html") || media == "" && bytes.Contains(a.body, []byte("<html"))
	return a
}

// leadsToLogin reports whether a path or parameter looks like that of a login.
func leadsToLogin(s string) bool {
	s = strings.ToLower(s)
	return slices.ContainsFunc([]string{"login", "log-in", "log_in", "signin", "sign-in", "sign_in", "logon"}, func(word string) bool { return strings.Contains(s, word) })
}

// feature is a text by which a body is known.
type feature struct {
	text string
	rank int // the lower, the surer a sign of the session
}

// The ranks of features. From rankWeak on an answer that has it is asked about
// before it is believed.
const (
	rankPassword = iota // a field for a password
	rankAction          // a form that leads to a login
	rankError           // a member of JSON that says what is wrong
	rankTitle
	rankWeak = rankTitle + iota // any other text
)

// expressions are what features are found with.
type expressions struct {
	input, name, form, title, text, member, loginWord, errorWord *regexp.Regexp
}

func newExpressions() *expressions {
	return &expressions{
		input:     regexp.MustCompile(`(?is)<input\b[^>]{0,900}>`),
		name:      regexp.MustCompile(`(?i)\bname\s*=\s*("[^"]{1,80}"|'[^']{1,80}')`),
		form:      regexp.MustCompile(`(?is)<form\b[^>]{0,900}?\baction\s*=\s*["']?([^"'\s>?;]{1,100})`),
		title:     regexp.MustCompile(`(?is)<title[^>]{0,200}>[^<]{1,120}</title>`),
		text:      regexp.MustCompile(`>[^<>]{8,120}<`),
		member:    regexp.MustCompile(`"[A-Za-z_][\w.-]{0,40}"\s*:\s*("(?:[^"\\]|\\.){0,80}"|-?[0-9.]{1,20}|true|false|null|\[\]|\{\})`),
		loginWord: regexp.MustCompile(`(?i)log[-_]?[io]n|sign[-_]?in|j_security_check|auth|sso`),
		errorWord: regexp.MustCompile(`(?i)^"(error|errors|error_description|message|msg|detail|code|reason|title|status)"`),
	}
}

// features lists the texts of a body, the surest first.
func (e *expressions) features(a *answer) []feature {
	var all []feature
	add := func(text string, rank int) {
		text = strings.TrimSpace(text)
		if len(text) >= minFeature && len(text) <= maxFeature && len(all) < maxFeatures && !strings.ContainsAny(text, "\r\n") {
			all = append(all, feature{text, rank})
		}
	}
	if a.html || bytes.Contains(a.body, []byte("<form")) {
		for _, input := range e.input.FindAll(a.body, 100) {
			if bytes.Contains(bytes.ToLower(input), []byte("password")) {
				if name := e.name.Find(input); name != nil {
					add(string(name), rankPassword)
				}
			}
		}
		for _, m := range e.form.FindAllSubmatch(a.body, 50) {
			if e.loginWord.Match(m[1]) {
				add(string(m[1]), rankAction)
			}
		}
		if title := e.title.Find(a.body); title != nil {
			add(string(title), rankTitle)
		}
		for _, text := range e.text.FindAll(a.body, 200) {
			add(string(text[1:len(text)-1]), rankWeak)
		}
	} else {
		for _, m := range e.member.FindAll(a.body, 200) {
			rank := rankWeak
			if e.errorWord.Match(m) {
				rank = rankError
			}
			add(string(m), rank)
		}
		if len(all) == 0 {
			for line := range strings.Lines(string(a.body)) {
				add(line, rankWeak)
			}
		}
	}
	slices.SortStableFunc(all, func(x, y feature) int { return x.rank - y.rank })
	return all
}

// only lists the features that every answer of these has and none of those.
func (e *expressions) only(of, and []*answer) []feature {
	if len(of) == 0 {
		return nil
	}
	var kept []feature
	for _, f := range e.features(of[0]) {
		has := func(a *answer) bool { return bytes.Contains(a.body, []byte(f.text)) }
		if !slices.ContainsFunc(of, func(a *answer) bool { return !has(a) }) && !slices.ContainsFunc(and, has) &&
			!slices.ContainsFunc(kept, func(k feature) bool { return k.text == f.text }) {
			kept = append(kept, f)
		}
	}
	return kept
}

// like reports whether an answer is one with a session, of which the others are
// known. A page may show what differs from session to session, so one of the
// texts that only live answers have is enough.
func (e *expressions) like(a *answer, with, dead []*answer) bool {
	if a.status != with[0].status || a.location != with[0].location {
		return false
	}
	has := func(f feature) bool { return bytes.Contains(a.body, []byte(f.text)) }
	if !slices.ContainsFunc(dead, func(d *answer) bool { return byHead(with[0], d) == nil }) {
		return true // heads are enough to tell
	}
	live := e.only(with, dead)
	return !slices.ContainsFunc(e.only(dead, with), has) && (len(live) == 0 || slices.ContainsFunc(live, has))
}

// check is one sign of death, as validation.check_type has it.
type check struct {
	Type  string // StatusCode, RedirectTo, ResponseContains or HTTPQL
	Text  string // a status in digits for StatusCode
	body  string // of HTTPQL: the whole body
	weak  bool   // live answers may have it, too: see rank
	from  string // which URL showed it
	shown string // for people: no text of the body
}

func (c *check) matches(a *answer) bool {
	switch c.Type {
	case "StatusCode":
		return strconv.Itoa(a.status) == c.Text
	case "RedirectTo":
		return a.status/100 == 3 && strings.Contains(a.location, c.Text)
	case "HTTPQL":
		return string(a.body) == c.body
	}
	return bytes.Contains(a.body, []byte(c.Text))
}

// asked is what the answers to one question were: with the session, without it,
// and with one that is broken.
type asked struct {
	question               *question
	with, without, spoiled []*answer
	err                    error
}

// verdict is what the answers of one question show.
type verdict uint8

const (
	unclear verdict = iota // it does not answer alike twice, or not well with a session
	public                 // the session does not matter
	silent                 // it does, and nothing says that the session is dead
	telling                // its death shows
)

// dead are all answers without a live session.
func (k *asked) dead() []*answer { return slices.Concat(k.without, k.spoiled) }

func alike(list []*answer) bool {
	return !slices.ContainsFunc(list, func(a *answer) bool { return a.status != list[0].status || a.location != list[0].location })
}

// judge finds out what tells live from dead. live are answers that are known to
// be live of other questions.
func (e *expressions) judge(k *asked, live []*answer) (verdict, []check) {
	if k.err != nil || len(k.with) == 0 || len(k.without) == 0 || !alike(k.with) || !alike(k.without) || !alike(k.spoiled) {
		return unclear, nil
	}
	if s := k.with[0].status; s/100 != 2 {
		return unclear, nil
	}
	var checks []check
	same := false
	for _, group := range [][]*answer{k.without, k.spoiled} {
		if len(group) == 0 {
			continue
		}
		c := byHead(k.with[0], group[0])
		if c == nil {
			same = true
			continue
		}
		c.from = k.question.shown
		if !slices.Contains(checks, *c) {
			checks = append(checks, *c)
		}
	}
	if !same {
		return telling, checks
	}
	// What a login page answers to nobody and what it answers to a broken
	// session may differ: both looks of death must be known.
	var quiet []*answer
	for _, a := range k.dead() {
		if byHead(k.with[0], a) == nil {
			quiet = append(quiet, a)
		}
	}
	features := e.only(quiet, slices.Concat(k.with, live))
	if len(features) == 0 || features[0].rank >= rankWeak {
		if _, short := whole(quiet, slices.Concat(k.with, live)); len(features) == 0 && !short && len(e.only(k.with, k.dead())) == 0 && len(checks) == 0 {
			return public, nil
		}
		if c, ok := whole(quiet, slices.Concat(k.with, live)); ok && len(features) == 0 {
			c.from = k.question.shown
			checks = append(checks, c)
		}
		for _, f := range features[:min(len(features), 1)] {
			checks = append(checks, check{Type: "ResponseContains", Text: f.text, weak: true, from: k.question.shown, shown: "a text of the body"})
		}
		return silent, checks
	}
	checks = append(checks, check{Type: "ResponseContains", Text: features[0].text, weak: features[0].rank > rankAction, from: k.question.shown, shown: "a text of the body"})
	return telling, checks
}

// whole is a check of a whole body that is short, such as an empty list, and
// that no live answer has.
func whole(dead, live []*answer) (check, bool) {
	body := string(dead[0].body)
	is := func(a *answer) bool { return string(a.body) == body }
	if len(body) == 0 || len(body) > maxFeature || slices.ContainsFunc(dead, func(a *answer) bool { return !is(a) }) || slices.ContainsFunc(live, is) {
		return check{}, false
	}
	return check{Type: "HTTPQL", Text: "resp.body.eq:" + quote(body), body: body, weak: true, shown: "the whole body"}, true
}

// byHead tells two answers apart by their heads; nil: it cannot.
func byHead(with, dead *answer) *check {
	switch {
	case dead.status/100 == 3 && dead.location != "" && dead.location != with.location && dead.status != 304:
		return &check{Type: "RedirectTo", Text: dead.location, weak: len(dead.location) < 3, shown: "redirect to " + dead.location}
	case dead.status != with.status && dead.status >= 400:
		return &check{Type: "StatusCode", Text: strconv.Itoa(dead.status), weak: dead.status != 401 && dead.status != 419 && dead.status != 440, shown: "status " + strconv.Itoa(dead.status)}
	}
	return nil
}
