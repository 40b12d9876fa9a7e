package learn

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/macro/derive"
)

// credentials are those of HTTP authentication, which has no session: every
// request proves itself.
type credentials struct {
	scheme         string // basic or digest
	user, password string
}

// httpAuth finds requests that HTTP authentication let in, in a recording
// without any other login; nil: there is one, or none of these.
func (l *learner) httpAuth() *credentials {
	name := regexp.MustCompile(`(?i)\busername="([^"]*)"`)
	var c *credentials
	for i := range l.rec.exchanges {
		x := &l.rec.exchanges[i]
		value, ok := x.Request.Get("Authorization")
		if !ok || x.Response == nil || x.Response.Status()/100 != 2 {
			continue
		}
		scheme, rest, _ := strings.Cut(string(value), " ")
		switch strings.ToLower(scheme) {
		case "basic":
			raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
			user, password, ok := strings.Cut(string(raw), ":")
			if err == nil && ok {
				c = &credentials{"basic", user, password}
			}
		case "digest":
			if m := name.FindStringSubmatch(rest); m != nil {
				c = &credentials{"digest", m[1], l.options.Password}
			}
		}
	}
	if c == nil {
		return nil
	}
	draft, err := derive.From(l.rec.exchanges, derive.Options{Entries: l.rec.entries()})
	if err == nil && slices.ContainsFunc(draft.Variables, func(v derive.Variable) bool { return v.Secret && v.Name != "BASIC" }) {
		return nil
	}
	l.draft = &derive.Draft{}
	return c
}

// runHTTPAuth writes a rule with the credentials, and proves that they are
// wanted and taken.
func (l *learner) runHTTPAuth(ctx context.Context, c *credentials) (*Result, error) {
	if c.password == "" {
		return nil, fmt.Errorf("%w: a recording of Digest authentication holds no password; name it with --password", ErrLogin)
	}
	l.draft.Variables = []derive.Variable{{Name: "USER", Value: c.user, Secret: true}, {Name: "PASS", Value: c.password, Secret: true}}
	if l.rec.origin == "" {
		l.rec.origin = l.authOrigin()
	}
	l.rec.last = 0
	l.report.Origin, l.report.Rule, l.report.Identity = l.rec.origin, l.ruleName(), l.draft.Identity()
	l.protects = l.rec.protects()
	who := mapping("USER", c.user, "PASS", c.password)
	root := mapping("identities", mapping(l.report.Identity, mapping("variables", who)))
	result := &Result{Report: l.report, Env: make(map[string]string)}
	l.hideSecrets(root, result.Env)
	set(root, "rules", []*yaml.Node{mapping("name", l.ruleName(), "scope", inline(mapping("pattern", l.rec.origin+"/", "target", "url")),
		"auth", inline(mapping("type", c.scheme, "username", "{{USER}}", "password", "{{PASS}}")), "protect", l.protected())})
	var b bytes.Buffer
	b.WriteString(l.heading(result.Env))
	if err := dump(&b, root); err != nil {
		return nil, err
	}
	result.Config = b.Bytes()
	return result, l.proveHTTPAuth(ctx, result)
}

// authOrigin is where the first request with credentials went.
func (l *learner) authOrigin() string {
	for i := range l.rec.exchanges {
		if _, ok := l.rec.exchanges[i].Request.Get("Authorization"); ok {
			return originOf(l.rec.exchanges[i].URL)
		}
	}
	return ""
}

// proveHTTPAuth asks with and without credentials.
func (l *learner) proveHTTPAuth(ctx context.Context, result *Result) error {
	p, _, err := l.startLearnt(ctx, result)
	if err != nil {
		return err
	}
	defer p.stop()
	questions := l.rec.questions(l.draft, nil)
	for _, q := range questions[:min(len(questions), maxQuestions)] {
		l.say("proving: %s with and without credentials", q.shown)
		k := &asked{question: q}
		for range each {
			with, _, err := p.ask(q, l.report.Identity)
			if err != nil {
				return err
			}
			without, _, err := p.ask(q, flow.Anonymous)
			if err != nil {
				return err
			}
			k.with, k.without = append(k.with, with), append(k.without, without)
		}
		v, checks := l.expr.judge(k, nil)
		if v != telling && v != silent {
			l.report.Asked = append(l.report.Asked, Asked{q.shown, "answers alike without credentials, or not well with them"})
			continue
		}
		l.report.Asked = append(l.report.Asked, Asked{q.shown, "wants credentials: " + checkWords(checks)})
		l.report.Held = true
	}
	l.report.Requests = p.sent
	l.report.claim(l.report.Held, "HTTP authentication lets a client in that has no credentials", "there is no session that could die: each request carries what Holdfast knows",
		"record a request that wants the credentials and is let in")
	return nil
}
