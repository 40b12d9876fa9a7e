package learn

import (
	"net/url"
	"strings"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// csrf is a token that writes carry beside the session.
type csrf struct {
	token  string
	header string // or
	param  string
	cookie string    // that has it; or
	page   *question // whose answer has it in a field, named
	field  string
	write  *convert.Exchange
}

// learnCSRF finds where recorded writes have their CSRF tokens from.
func (l *learner) learnCSRF() error {
	for i := l.rec.last + 1; i < len(l.rec.exchanges); i++ {
		x := &l.rec.exchanges[i]
		if isSafe(string(x.Request.Method())) || originOf(x.URL) != l.rec.origin || l.rec.isRefresh(x) || l.rec.isLogout(x) ||
			x.Response == nil || x.Response.Status() >= 400 {
			continue
		}
		for n := range x.Request.NumFields() {
			name, value := x.Request.Field(n)
			if l.rec.words.csrf.MatchString(string(name)) && !l.isTarget(string(name)) {
				l.findCSRF(i, csrf{header: string(name), write: x}, string(value))
			}
		}
		media, _ := x.Request.Get("Content-Type")
		if !strings.HasPrefix(strings.ToLower(string(media)), "application/x-www-form-urlencoded") {
			continue
		}
		form, err := url.ParseQuery(string(x.RequestBody))
		if err != nil {
			continue
		}
		for name, values := range form {
			if l.rec.words.csrf.MatchString(name) && len(values) > 0 && len(values[0]) >= 6 {
				l.findCSRF(i, csrf{param: name, write: x}, values[0])
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

func (c *csrf) name() string { return c.header + c.param }

func (c *csrf) extraction() macro.Extraction {
	s := &rule.Source{Type: "FormField", Name: c.field}
	if s.Compile() != nil {
		s = &rule.Source{}
	}
	return macro.Extraction{Token: c.token, Source: s}
}

func (l *learner) isTarget(header string) bool {
	for _, t := range l.targets {
		if strings.EqualFold(t.header, header) {
			return true
		}
	}
	return false
}

// findCSRF looks for the origin of a value: the newest page before that has it
// in a field, or a cookie.
func (l *learner) findCSRF(at int, c csrf, value string) {
	for _, known := range l.csrf {
		if known.name() == c.name() {
			return
		}
	}
	c.token = "CSRF"
	if n := len(l.csrf); n > 0 {
		c.token += string(rune('1' + n%9))
	}
	for _, k := range cookiesOf(c.write) {
		plain, err := url.QueryUnescape(k.Value)
		if k.Value == value || err == nil && plain == value {
			c.cookie = k.Name
			l.csrf = append(l.csrf, c)
			return
		}
	}
	names := []string{c.name(), "csrf-token", "csrf", "_csrf", "csrf_token", "csrfmiddlewaretoken", "_token", "authenticity_token", "xsrf-token"}
	for i := at - 1; i >= 0; i-- {
		x := &l.rec.exchanges[i]
		if x.Response == nil || string(x.Request.Method()) != "GET" || originOf(x.URL) != l.rec.origin {
			continue
		}
		for _, name := range names {
			s := rule.Source{Type: "FormField", Name: name}
			if s.Compile() != nil {
				continue
			}
			if v, ok := s.Extract(x.Request, x.Response, x.ResponseBody); ok && v == value {
				if c.page = l.rec.ask(x, l.tokens, l.draft); c.page == nil {
					return
				}
				c.field = name
				l.csrf = append(l.csrf, c)
				return
			}
		}
	}
	l.report.claim(false, "the CSRF token "+c.name()+" is put into writes", "no recorded page and no cookie has the value that was sent", "add a token_updates entry for it by hand")
}
