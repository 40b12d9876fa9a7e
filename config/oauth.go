package config

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// A macro with oauth2 is one of ordinary steps: those that are written out, and
// around them the ones that RFC 6749, 7636 and 8628 describe.

const (
	tableOAuth  = "oauth2"
	tableRepeat = "repeat"
)

// The grants.
const (
	grantCode     = "authorization_code"
	grantClient   = "client_credentials"
	grantPassword = "password"
	grantRefresh  = "refresh_token"
	grantDevice   = "device_code"
)

func grantWords() []string {
	return []string{grantCode, grantClient, grantPassword, grantRefresh, grantDevice}
}

const (
	clientBasic = "basic"
	clientPost  = "post"
)

func clientAuthWords() []string { return []string{clientBasic, clientPost} }

// Names of what the steps of a grant hand to each other.
const (
	nameCode       = "oauth.code"
	nameReturned   = "oauth.returned_state"
	nameDeviceCode = "oauth.device_code"
	nameUserCode   = "oauth.user_code"
	nameVerifyURL  = "oauth.verification_uri"
)

type oauthDraft struct {
	n                                          *yaml.Node
	grant, clientAuth                          word
	authorizeURL, tokenURL, deviceURL          word
	clientID, clientSecret, redirectURI, scope word
	audience, username, password               word
	access, refresh                            word
	extract                                    []extractionDraft
	timeout                                    time.Duration
}

type repeatDraft struct {
	while          word
	every, timeout time.Duration
}

const maxRepeat = 30 * time.Minute

func oauthFields() []field[oauthDraft] {
	text := func(name string, into func(*oauthDraft) *word) field[oauthDraft] {
		return field[oauthDraft]{name, "", single(name, into)}
	}
	return []field[oauthDraft]{
		{"grant", "write one of " + strings.Join(grantWords(), ", "), choice("grant", grantWords(), func(o *oauthDraft) *word { return &o.grant })},
		{"token_url", "write the token endpoint: token_url: https://idp.example/token", single("token_url", func(o *oauthDraft) *word { return &o.tokenURL })},
		text("authorize_url", func(o *oauthDraft) *word { return &o.authorizeURL }),
		text("device_url", func(o *oauthDraft) *word { return &o.deviceURL }),
		{"client_id", "write the client's id", single("client_id", func(o *oauthDraft) *word { return &o.clientID })},
		text("client_secret", func(o *oauthDraft) *word { return &o.clientSecret }),
		{"client_auth", "", choice("client_auth", clientAuthWords(), func(o *oauthDraft) *word { return &o.clientAuth })},
		text("redirect_uri", func(o *oauthDraft) *word { return &o.redirectURI }),
		text("scope", func(o *oauthDraft) *word { return &o.scope }),
		text("audience", func(o *oauthDraft) *word { return &o.audience }),
		text("username", func(o *oauthDraft) *word { return &o.username }),
		text("password", func(o *oauthDraft) *word { return &o.password }),
		text("access", func(o *oauthDraft) *word { return &o.access }),
		text("refresh", func(o *oauthDraft) *word { return &o.refresh }),
		{"extract", "", func(d *decoder, n *yaml.Node, o *oauthDraft) {
			o.extract = each(d, n, "extract", tableExtraction, extractionFields(), nil)
		}},
		{"timeout", "", duration("timeout", time.Second, maxRepeat, func(o *oauthDraft) *time.Duration { return &o.timeout })},
	}
}

func repeatFields() []field[repeatDraft] {
	return []field[repeatDraft]{
		{"while", "say after which answers: while: 'resp.code.eq:202'", single("while", func(r *repeatDraft) *word { return &r.while })},
		{"every", "", duration("every", 10*time.Millisecond, maxRepeat, func(r *repeatDraft) *time.Duration { return &r.every })},
		{"timeout", "", duration("timeout", time.Second, maxRepeat, func(r *repeatDraft) *time.Duration { return &r.timeout })},
	}
}

// repeat compiles a step's.
func (d *decoder) repeat(s stepDraft) *macro.Repeat {
	if s.repeat == nil || !s.repeat.while.given() {
		return nil
	}
	q := d.httpql(s.repeat.while, "while")
	if q == nil {
		return nil
	}
	return &macro.Repeat{While: q, Every: s.repeat.every, Timeout: s.repeat.timeout}
}

// grantSteps puts the steps of the macro's grant around those that are written
// out.
func (d *decoder) grantSteps(m *macroDraft) {
	o := m.oauth
	if o == nil || !o.grant.given() || !o.tokenURL.given() || !o.clientID.given() {
		return
	}
	for _, need := range []struct {
		name   string
		w      word
		grants []string
	}{
		{"authorize_url", o.authorizeURL, []string{grantCode}}, {"redirect_uri", o.redirectURI, []string{grantCode}},
		{"device_url", o.deviceURL, []string{grantDevice}},
		{"username", o.username, []string{grantPassword}}, {"password", o.password, []string{grantPassword}},
		{"client_secret", o.clientSecret, []string{grantClient}},
	} {
		if needed := contains(need.grants, o.grant.s); needed && !need.w.given() {
			d.errorAt(o.n, "add "+need.name+":", "the grant %s needs the key %q", o.grant.s, need.name)
			return
		} else if !needed && need.w.given() && need.name != "client_secret" {
			d.errorAt(need.w.n, "take it out, or choose another grant", "the grant %s has no %s", o.grant.s, need.name)
		}
	}
	if len(m.steps) > 0 && o.grant.s != grantCode {
		d.errorAt(m.steps[0].n, "take steps: out; only authorization_code has a form between its steps", "the grant %s has no steps of its own", o.grant.s)
		return
	}
	if o.access.s == "" {
		o.access = word{n: o.n, s: "ACCESS"}
	}
	if o.refresh.s == "" {
		o.refresh = word{n: o.n, s: "REFRESH"}
	}
	switch o.grant.s {
	case grantCode:
		d.codeSteps(m, o)
	case grantDevice:
		d.deviceSteps(m, o)
	case grantClient:
		m.steps = []stepDraft{d.tokenStep(o, false, "grant_type", "client_credentials")}
	case grantPassword:
		m.steps = []stepDraft{d.tokenStep(o, true, "grant_type", "password", "username", d.expand(o.username), "password", d.expand(o.password))}
	case grantRefresh:
		m.steps = []stepDraft{d.tokenStep(o, true, "grant_type", "refresh_token", "refresh_token", "{{"+o.refresh.s+"}}")}
		m.once = true
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// form writes pairs as a form, what is no variable percent-encoded. Empty
// values are left out.
func form(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pairs[i] + "=")
		t, err := rule.ParseTemplate(pairs[i+1])
		if err != nil {
			b.WriteString(pairs[i+1]) // whoever compiles the request says so
			continue
		}
		for _, p := range t.Parts() {
			if p.Name != "" {
				b.WriteString(p.Text)
			} else {
				b.Write(rule.EncodeURL.Append(nil, p.Text))
			}
		}
	}
	return b.String()
}

func (o *oauthDraft) source(typ, key, value string) *sourceDraft {
	return &sourceDraft{n: o.n, keys: places{"type": {o.n, typ}, key: {o.n, value}}}
}

// tokenStep asks the token endpoint (RFC 6749 §4.1.3 and the like).
func (d *decoder) tokenStep(o *oauthDraft, refreshes bool, pairs ...string) stepDraft {
	pairs = append(pairs, "scope", o.scope.s, "audience", o.audience.s)
	if o.grant.s == grantCode || o.grant.s == grantDevice {
		pairs = pairs[:len(pairs)-4] // they were said before
	}
	s := stepDraft{n: o.n, tls: true, expect: word{o.n, "resp.code.eq:200"}}
	switch {
	case !o.clientSecret.given():
		pairs = append(pairs, "client_id", o.clientID.s)
	case o.clientAuth.s == clientPost:
		pairs = append(pairs, "client_id", o.clientID.s, "client_secret", d.expand(o.clientSecret))
	default:
		s.auth = &authDraft{n: o.n, typ: word{o.n, flow.AuthBasic}, username: o.clientID, password: o.clientSecret}
	}
	s.request = word{o.n, "POST " + o.tokenURL.s + " HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\nAccept: application/json\n\n" + form(pairs...)}
	s.extract = []extractionDraft{{token: o.access, source: o.source("JSON", "path", "access_token")}}
	if refreshes {
		s.extract = append(s.extract, extractionDraft{token: o.refresh, source: o.source("JSON", "path", "refresh_token"), optional: true})
	}
	return s
}

// codeSteps are those of an authorization code with PKCE (RFC 6749 §4.1, RFC
// 7636): the steps between fill the provider's forms in.
func (d *decoder) codeSteps(m *macroDraft, o *oauthDraft) {
	nonce := ""
	if strings.Contains(o.scope.s, "openid") {
		nonce = "{{" + macro.NameNonce + "}}"
	}
	query := form("response_type", "code", "client_id", o.clientID.s, "redirect_uri", o.redirectURI.s, "scope", o.scope.s, "audience", o.audience.s,
		"state", "{{"+macro.NameState+"}}", "nonce", nonce, "code_challenge", "{{"+macro.NameChallenge+"}}", "code_challenge_method", "S256")
	separator := "?"
	if strings.Contains(o.authorizeURL.s, "?") {
		separator = "&"
	}
	until := redirectsDraft{max: macro.DefaultRedirects, until: o.redirectURI}
	steps := []stepDraft{{n: o.n, tls: true, redirects: until, extract: o.extract,
		request: word{o.n, "GET " + o.authorizeURL.s + separator + query + " HTTP/1.1\nAccept: text/html"}}}
	for _, s := range m.steps {
		if !hasKey(s.n, "redirects") && s.request.given() {
			s.redirects = until
		}
		steps = append(steps, s)
	}
	last := &steps[len(steps)-1]
	last.extract = append(last.extract[:len(last.extract):len(last.extract)],
		extractionDraft{token: word{o.n, nameReturned}, source: o.source("RedirectURL", "param", "state"), equals: word{o.n, "{{" + macro.NameState + "}}"}},
		extractionDraft{token: word{o.n, nameCode}, source: o.source("RedirectURL", "param", "code")})
	m.steps = append(steps, d.tokenStep(o, true, "grant_type", "authorization_code", "code", "{{"+nameCode+"}}",
		"redirect_uri", o.redirectURI.s, "code_verifier", "{{"+macro.NameVerifier+"}}"))
}

// deviceSteps are those of a device code (RFC 8628): a person is told where to
// go, and the token endpoint is asked until they have been there.
func (d *decoder) deviceSteps(m *macroDraft, o *oauthDraft) {
	client := form("client_id", o.clientID.s, "scope", o.scope.s, "audience", o.audience.s)
	ask := stepDraft{n: o.n, tls: true, request: word{o.n, "POST " + o.deviceURL.s + " HTTP/1.1\nContent-Type: application/x-www-form-urlencoded\nAccept: application/json\n\n" + client}}
	for _, take := range [][2]string{{nameDeviceCode, "device_code"}, {nameUserCode, "user_code"}, {nameVerifyURL, "verification_uri"}} {
		ask.extract = append(ask.extract, extractionDraft{token: word{o.n, take[0]}, source: o.source("JSON", "path", take[1])})
	}
	token := d.tokenStep(o, true, "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "device_code", "{{"+nameDeviceCode+"}}")
	timeout := o.timeout
	if timeout == 0 {
		timeout = macro.DefaultPromptTimeout
	}
	token.repeat = &repeatDraft{while: word{o.n, `resp.body.cont:"authorization_pending" OR resp.body.cont:"slow_down"`}, every: 5 * time.Second, timeout: timeout}
	m.steps = []stepDraft{ask,
		{n: o.n, prompt: &promptDraft{text: word{o.n, fmt.Sprintf("open {{%s}} and enter %s", nameVerifyURL, "{{"+nameUserCode+"}}")}}},
		token}
}
