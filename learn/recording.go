package learn

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro/derive"
	"github.com/holdfast-proxy/holdfast/rule"
)

// words are what paths and names are told by.
type words struct {
	logout, refresh, login, harm, whoami, static, csrf, token *regexp.Regexp
}

func newWords() *words {
	return &words{
		logout:  regexp.MustCompile(`(?i)(^|[/_.=?&-])(log[-_]?(out|off)|sign[-_]?(out|off)|end[-_]?session)\b`),
		refresh: regexp.MustCompile(`(?i)refresh|renew`),
		login:   regexp.MustCompile(`(?i)log[-_]?[io]n|sign[-_]?in|auth|oauth|token|consent|sso|saml|callback|interaction|verify|otp|mfa|2fa|j_security_check|openid`),
		harm:    regexp.MustCompile(`(?i)delete|remove|destroy|revoke|unsubscribe|cancel|export|download|purge|reset|disable`),
		whoami:  regexp.MustCompile(`(?i)(^|[/_.-])(me|whoami|profile|account|accounts|user|userinfo|session|dashboard|admin|settings|home)\b`),
		static:  regexp.MustCompile(`(?i)\.(css|m?js|png|jpe?g|gif|svg|ico|webp|woff2?|ttf|map|mp4|webmanifest|txt|pdf|zip)$`),
		csrf:    regexp.MustCompile(`(?i)csrf|xsrf|authenticity_token|__requestverificationtoken|_token$|nonce|sesskey|form_key`),
		token:   regexp.MustCompile(`(?i)token$`),
	}
}

// question is a recorded request that may be asked again.
type question struct {
	entry    int
	shown    string // method and path
	method   string
	url      string
	template string // with the session's tokens as variables
	plain    string // without the lines that carry them
	score    int    // the higher, the sooner it is asked
	kind     kind
}

// kind is what somebody asks for.
type kind uint8

const (
	forData kind = iota // JSON and the like
	forPage             // HTML
)

// recording is what is known of the exchanges.
type recording struct {
	words     *words
	exchanges []convert.Exchange
	origin    string // of the application: what is held
	last      int    // index of the last exchange of the login
	left      map[int]string
}

func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Scheme + "://" + u.Host)
}

func pathOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.EscapedPath()
}

func isSafe(method string) bool { return method == "GET" || method == "HEAD" || method == "OPTIONS" }

// newRecording leaves out what no login may have: refreshes, logouts, and what
// went before the origin that was asked for.
func newRecording(exchanges []convert.Exchange, base string) *recording {
	r := &recording{words: newWords(), exchanges: slices.Clone(exchanges), left: make(map[int]string), last: -1}
	for i := range r.exchanges {
		x := &r.exchanges[i]
		x.Entry = i + 1 // several files are one recording
		switch {
		case r.isRefresh(x):
			r.left[x.Entry] = "it renews a session"
		case r.isLogout(x):
			r.left[x.Entry] = "it ends a session"
		}
	}
	if base != "" {
		r.origin = originOf(base)
	}
	return r
}

// isLogout reports what looks as if it ended a session, by its URL or its form.
func (r *recording) isLogout(x *convert.Exchange) bool {
	return r.words.logout.MatchString(x.URL) || len(x.RequestBody) < 4096 && r.words.logout.Match(x.RequestBody)
}

func (r *recording) isRefresh(x *convert.Exchange) bool {
	if isSafe(string(x.Request.Method())) {
		return false
	}
	body := string(x.RequestBody)
	return strings.Contains(body, "grant_type=refresh_token") || strings.Contains(body, `"grant_type":"refresh_token"`) ||
		r.words.refresh.MatchString(path.Base(pathOf(x.URL)))
}

// entries are those that a login may be made of.
func (r *recording) entries() []int {
	var all []int
	for i := range r.exchanges {
		if e := r.exchanges[i].Entry; r.left[e] == "" {
			all = append(all, e)
		}
	}
	return all
}

// withoutWrites leaves out what a draft has behind its credentials and that does
// not look like a part of a login; true: there was something.
func (r *recording) withoutWrites(d *derive.Draft) bool {
	secret := -1
	for i := range d.Steps {
		if d.Steps[i].Secret {
			secret = i
		}
	}
	found := false
	for i := range d.Steps {
		x := r.exchange(d.Steps[i].Entry)
		if i <= secret || secret < 0 || isSafe(string(x.Request.Method())) || r.words.login.MatchString(pathOf(x.URL)) {
			continue
		}
		r.left[x.Entry], found = "it is a write after the login", true
	}
	return found
}

func (r *recording) exchange(entry int) *convert.Exchange { return &r.exchanges[entry-1] }

// settle notes where the login ends, and whose origin is held.
func (r *recording) settle(d *derive.Draft) {
	for i := range d.Steps {
		r.last = max(r.last, d.Steps[i].Entry-1)
	}
	if r.origin != "" {
		return
	}
	// What is used after the login is the application; the login may be
	// elsewhere.
	count := make(map[string]int)
	best := originOf(r.exchanges[max(r.last, 0)].URL)
	for i := r.last + 1; i < len(r.exchanges); i++ {
		x := &r.exchanges[i]
		if x.Response == nil || r.words.static.MatchString(pathOf(x.URL)) {
			continue
		}
		o := originOf(x.URL)
		if count[o]++; count[o] > count[best] {
			best = o
		}
	}
	r.origin = best
}

// token is a value that the login brings, with the values that it had in the
// recording.
type token struct {
	name     string
	recorded []string
	path     string // in JSON; "" elsewhere
}

// tokens are those that a draft extracts, with what the recording had for them:
// also by refreshes, whose answers have them at the same place.
func (r *recording) tokens(d *derive.Draft) []token {
	var all []token
	for i := range d.Steps {
		for _, x := range d.Steps[i].Extract {
			t := token{name: x.Token, path: x.Source.Path}
			t.take(&x.Source, r.exchange(d.Steps[i].Entry))
			if len(t.recorded) == 0 {
				continue
			}
			for n := range r.exchanges {
				if e := &r.exchanges[n]; t.path != "" && r.isRefresh(e) {
					t.take(&x.Source, e)
				}
			}
			all = append(all, t)
		}
	}
	return all
}

func (t *token) take(source *rule.Source, x *convert.Exchange) {
	s := *source
	if x.Response == nil || s.Compile() != nil {
		return
	}
	if v, ok := s.Extract(x.Request, x.Response, x.ResponseBody); ok && len(v) >= 6 && !slices.Contains(t.recorded, v) {
		t.recorded = append(t.recorded, v)
	}
}

// put writes variables where a text has recorded values; the names of those that
// were put in are returned.
func put(text string, tokens []token) (string, []string) {
	var used []string
	for _, t := range tokens {
		for _, v := range t.recorded {
			if strings.Contains(text, v) {
				text = strings.ReplaceAll(text, v, "{{"+t.name+"}}")
				used = append(used, t.name)
			}
		}
	}
	return text, used
}

// dropped are fields that a question is not asked with.
func dropped(name string) bool {
	switch strings.ToLower(name) {
	case "cookie", "content-length", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "if-none-match", "if-modified-since", "te", "upgrade",
		"accept-encoding", "proxy-authorization", "range", "expect", "host", "priority", "upgrade-insecure-requests", "origin":
		return true
	}
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "sec-") || strings.HasPrefix(name, ":")
}

// ask makes a question of an exchange; nil where its text cannot be a template.
func (r *recording) ask(x *convert.Exchange, tokens []token, draft *derive.Draft) *question {
	target := string(x.Request.Target())
	if strings.Contains(target, "{{") || strings.Contains(string(x.RequestBody), "{{") {
		return nil
	}
	q := &question{entry: x.Entry, method: string(x.Request.Method()), url: x.URL}
	q.shown = q.method + " " + shownURL(x.URL)
	line, used := put(target, tokens)
	first := q.method + " " + originOf(x.URL) + line + " HTTP/1.1\n"
	q.template, q.plain = first, q.method+" "+originOf(x.URL)+target+" HTTP/1.1\n"
	if len(used) > 0 {
		q.plain = q.method + " " + originOf(x.URL) + pathOf(x.URL) + " HTTP/1.1\n"
	}
	for n := range x.Request.NumFields() {
		name, value := x.Request.Field(n)
		if dropped(string(name)) || strings.Contains(string(value), "{{") {
			continue
		}
		text, used := put(string(value), tokens)
		text, basic := basicOf(string(name), text, draft)
		q.template += string(name) + ": " + text + "\n"
		if len(used) == 0 && !basic && !strings.EqualFold(string(name), "Authorization") && !r.words.csrf.MatchString(string(name)) {
			q.plain += string(name) + ": " + text + "\n"
		}
	}
	if len(x.RequestBody) > 0 {
		body, _ := put(string(x.RequestBody), tokens)
		q.template += "\n" + body + "\n"
		q.plain += "\n" + string(x.RequestBody) + "\n"
	}
	return q
}

// shownURL is the path with a query whose longer values are left out: tokens
// stand there.
func shownURL(raw string) string {
	path, query := pathOf(raw), ""
	if u, err := url.Parse(raw); err == nil {
		query = u.RawQuery
	}
	if query == "" {
		return path
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, value, _ := strings.Cut(pair, "="); len(value) > 12 {
			pairs[i] = name + "=…"
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}

// basicOf writes the variable of credentials of RFC 7617.
func basicOf(name, value string, d *derive.Draft) (string, bool) {
	if !strings.EqualFold(name, "Authorization") || len(value) < 7 || !strings.EqualFold(value[:6], "Basic ") {
		return value, false
	}
	if _, ok := d.Lookup("BASIC"); ok {
		return "Basic {{base64:BASIC}}", true
	}
	return value, true
}

// questions are the requests to ask, the most promising first.
func (r *recording) questions(d *derive.Draft, tokens []token) []*question {
	var all []*question
	seen := make(map[string]bool)
	add := func(x *convert.Exchange, bonus int) {
		p := pathOf(x.URL)
		if string(x.Request.Method()) != "GET" || x.Response == nil || originOf(x.URL) != r.origin || seen[x.URL] ||
			r.words.logout.MatchString(x.URL) || r.words.harm.MatchString(x.URL) || r.words.static.MatchString(p) {
			return
		}
		if s := x.Response.Status(); s/100 != 2 {
			return
		}
		media := strings.ToLower(string(x.Response.Combined("Content-Type")))
		if strings.HasPrefix(media, "image/") || strings.HasPrefix(media, "font/") || strings.Contains(media, "javascript") || strings.Contains(media, "css") || strings.Contains(media, "event-stream") {
			return
		}
		q := r.ask(x, tokens, d)
		if q == nil {
			return
		}
		seen[x.URL] = true
		q.score = bonus
		if r.words.whoami.MatchString(p) {
			q.score += 4
		}
		if strings.Contains(q.template, "{{") {
			q.score += 3
		}
		if strings.Contains(media, "json") {
			q.score++
		}
		if strings.Contains(media, "html") {
			q.kind = forPage
		}
		all = append(all, q)
	}
	for i := r.last; i >= 0 && i < len(r.exchanges); i++ {
		add(&r.exchanges[i], 10)
	}
	for i := r.last - 1; i >= 0; i-- {
		// A page before the login may be another one with a session.
		add(&r.exchanges[i], 0)
	}
	slices.SortStableFunc(all, func(a, b *question) int { return b.score - a.score })
	return all
}

// live are the recorded answers after the login that went well.
func (r *recording) live() []*answer {
	var all []*answer
	for i := r.last + 1; i < len(r.exchanges) && r.last >= 0; i++ {
		x := &r.exchanges[i]
		if x.Response == nil || originOf(x.URL) != r.origin || x.Response.Status()/100 != 2 || r.left[x.Entry] == "it ends a session" {
			continue
		}
		if r.left[x.Entry] == "it ends a session" {
			break
		}
		all = append(all, newAnswer(x.Response, x.ResponseBody))
	}
	return all
}

// cookiesOf are the cookies of a recorded request.
func cookiesOf(x *convert.Exchange) []jar.Cookie {
	var all []jar.Cookie
	for n := range x.Request.NumFields() {
		if name, value := x.Request.Field(n); strings.EqualFold(string(name), "Cookie") {
			all = append(all, jar.Pairs(string(value))...)
		}
	}
	return all
}

// protects are the paths, and the parameters with a question mark before them, that recorded answers and requests name and that look
// like a logout.
func (r *recording) protects() []string {
	link := regexp.MustCompile(`(?i)(?:href|action|src)\s*=\s*["']?([^"'\s>]{1,200})|"((?:https?://|/)[^"\s]{1,200})"`)
	var all []string
	add := func(raw string, base *url.URL) {
		u, err := base.Parse(strings.ReplaceAll(raw, "&amp;", "&"))
		if err != nil || originOf(u.String()) != r.origin || r.words.static.MatchString(u.EscapedPath()) {
			return
		}
		p, _, _ := strings.Cut(u.EscapedPath(), ";")
		if !r.words.logout.MatchString(p) {
			p = ""
			for pair := range strings.SplitSeq(u.RawQuery, "&") {
				if _, value, _ := strings.Cut(pair, "="); len(pair) < 60 && r.words.logout.MatchString("="+value) {
					p = "?" + pair
				}
			}
		}
		if p == "" {
			return
		}
		if !slices.Contains(all, p) && len(all) < 20 {
			all = append(all, p)
		}
	}
	for i := range r.exchanges {
		x := &r.exchanges[i]
		base, err := url.Parse(x.URL)
		if err != nil {
			continue
		}
		add(x.URL, base)
		body := x.ResponseBody[:min(len(x.ResponseBody), maxCompared)]
		for _, m := range link.FindAllSubmatch(body, 2000) {
			add(string(m[1])+string(m[2]), base)
		}
	}
	slices.Sort(all)
	return all
}
