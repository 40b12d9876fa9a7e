package learn

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/rule"
)

// ErrQuestion is wrapped where nobody can know what to ask: see Examination.
var ErrQuestion = errors.New("there is no URL to ask")

// Examination says what of a configuration is examined. Proxy.File must be given.
type Examination struct {
	Proxy holdfast.Config
	// Rule is the one that is examined; "" the first that is enabled and has a
	// recovery.
	Rule string
	// Identity is who is logged in; "" the one that speaks where nobody is
	// named.
	Identity string
	// URL is what is asked, by GET; "" what the rule's confirm or probe macro
	// asks, or where its scope begins.
	URL         string
	MaxRequests int     // as Options has them
	Rate        float64 // likewise
	Progress    func(string)
}

// Examine has a configuration show that it holds a session: it logs in, compares
// the answers with, without and with a spoilt session, and recovers. Errors are
// of the examination itself; what the session lacks stands in the report.
func Examine(ctx context.Context, o Examination) (*Report, error) {
	file := o.Proxy.File
	r, err := ruleOf(file, o.Rule)
	if err != nil {
		return nil, err
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	if o.Rate <= 0 {
		o.Rate = DefaultRate
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	report := &Report{Version: 1, Rule: r.Name, Identity: o.Identity, Asked: []Asked{}}
	e := &examiner{expr: newExpressions(), report: report, file: file, rule: r, identity: o.Identity,
		say: func(format string, args ...any) { o.Progress(fmt.Sprintf(format, args...)) }}
	at := o.URL
	if at == "" {
		at = e.address()
	}
	u, err := url.Parse(at)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%w: rule %q has no confirm or probe macro, and its scope is no URL; name one with --url", ErrQuestion, r.Name)
	}
	report.Origin = originOf(at)
	q := &question{shown: "GET " + u.EscapedPath(), method: "GET", url: at, plain: "GET " + at + " HTTP/1.1\nAccept: */*\n"}
	if e.proxy, err = startProxy(ctx, o.Proxy, time.Duration(float64(time.Second)/o.Rate), o.MaxRequests); err != nil {
		return nil, err
	}
	defer e.proxy.stop()
	err = e.examine([]*question{q})
	report.Requests = e.proxy.sent + int(e.proxy.h.Totals().Own)
	if err == nil {
		e.ends()
		e.protected()
	}
	return report, err
}

// ruleOf finds the rule that is examined.
func ruleOf(file *config.File, name string) (*rule.Rule, error) {
	var names []string
	for i := range file.Rules {
		r := &file.Rules[i]
		if r.Enabled && len(r.Recovery) > 0 {
			if name == "" || r.Name == name || r.ID == name {
				return r, nil
			}
			names = append(names, r.Name)
		} else if r.Name == name {
			return nil, fmt.Errorf("rule %q is disabled or has no reauth_macro: nothing of it can be examined", name)
		}
	}
	if name == "" || len(names) == 0 {
		return nil, errors.New("no enabled rule of the configuration has a reauth_macro: there is no session to hold")
	}
	return nil, fmt.Errorf("there is no rule %q that recovers; the configuration has: %s", name, strings.Join(names, ", "))
}

// address is what to ask: what the rule itself asks, or where its scope begins.
func (e *examiner) address() string {
	for _, name := range []string{e.rule.Confirm, e.probe()} {
		for _, m := range e.file.Macros {
			if name == "" || m.Name != name && m.ID != name || len(m.Steps) != 1 || m.Steps[0].Request == nil {
				continue
			}
			b, err := m.Steps[0].Request.Build(e.lookup)
			if err == nil && string(b.Request.Method()) == "GET" {
				return b.Origin.URL(b.Request.Target())
			}
		}
	}
	p := e.rule.Scope.Pattern
	if strings.Contains(p, "://") && !strings.ContainsAny(p, "*^$\\") {
		return p
	}
	return ""
}

// ends notes when the session ends by itself, as far as that is known.
func (e *examiner) ends() {
	for _, s := range e.proxy.h.Sessions() {
		if !s.Ends.IsZero() && slices.Equal(s.Recovery, e.rule.Recovery) {
			e.report.note("a session ends after %s (%s); it is recovered before that", time.Until(s.Ends).Round(time.Second), s.Why)
			return
		}
	}
}

// protected notes a rule that lets a tool end its session.
func (e *examiner) protected() {
	if len(e.rule.Protect) == 0 {
		e.report.note("nothing is protected: a crawler that follows a logout link ends the session; add protect: [logout]")
	}
}
