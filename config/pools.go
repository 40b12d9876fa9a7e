package config

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// codesAhead is how many one-time codes are drawn that have yet to begin.
const codesAhead = 8

// maxSessions is how many sessions an identity can have at a time.
const maxSessions = 64

// What becomes of a connection for which no session is free.
const (
	whenBusyShare = "share"
	whenBusyWait  = "wait"
)

func whenBusyWords() []string { return []string{whenBusyShare, whenBusyWait} }

// Pool says how many sessions an identity has at a time, and who may use them.
type Pool struct {
	Sessions  int  // at least 1
	Wait      bool // when_busy: wait; else what is leased is shared
	Exclusive bool // one request of a session is under way at a time
}

type poolDraft struct {
	sessions  int
	at        *yaml.Node // of sessions; nil: not written
	whenBusy  word
	exclusive bool
}

func poolFields() []field[identityDraft] {
	return []field[identityDraft]{
		{"sessions", "", func(d *decoder, n *yaml.Node, i *identityDraft) {
			if v, ok := d.integer(n, "sessions", 1, maxSessions); ok {
				i.pool.sessions, i.pool.at = v, n
			}
		}},
		{"when_busy", "", choice("when_busy", whenBusyWords(), func(i *identityDraft) *word { return &i.pool.whenBusy })},
		{"exclusive", "", flag("exclusive", func(i *identityDraft) *bool { return &i.pool.exclusive })},
	}
}

func (p poolDraft) compile() Pool {
	return Pool{Sessions: max(p.sessions, 1), Wait: p.whenBusy.s == whenBusyWait, Exclusive: p.exclusive}
}

// pools finds sessions that cannot be several: those that would all be the same
// one, and those that nobody makes.
func (c *ruleCompiler) pools(f *fileDraft, file *File) {
	for n, i := range f.identities {
		if at := i.pool.at; at != nil && i.pool.sessions > 1 {
			c.pool(f, file, i, at, n == 0)
		}
	}
}

func (c *ruleCompiler) pool(f *fileDraft, file *File, i identityDraft, at *yaml.Node, first bool) {
	if i.cookies.given() {
		c.errorAt(i.cookies.n, "take the file out, or sessions: the macros bring the cookies of each session", "all sessions of %s would begin with the same cookies, and so be one session", i.name)
	}
	if first && f.jar != nil && f.jar.file.given() {
		c.errorAt(f.jar.file.n, "take import out, or sessions: of "+i.name, "all sessions of %s would begin with the same cookies, and so be one session", i.name)
	}
	before, made := len(c.problems), false
	for n := range file.Rules {
		r := &file.Rules[n]
		if !r.Enabled || f.rules[n].broken || len(r.Scope.Identities) > 0 && !slices.Contains(r.Scope.Identities, i.name) {
			continue
		}
		check, _ := r.CheckOf()
		made = made || len(r.Recovery) > 0 || check != nil && len(check.Macros) > 0
		place := f.rules[n].name.n
		switch {
		case place == nil:
		case check != nil && check.Browser || c.byPerson(r.Recovery) || slices.ContainsFunc(r.Actions, func(a rule.Action) bool { return a.RecoverInBrowser != nil }):
			c.errorAt(place, "have a macro log in, leave "+i.name+" out of the rule's scope, or give it one session",
				"rule %q has a person log in, once for each of the %d sessions of %s", r.Name, i.pool.sessions, i.name)
		case len(r.Recovery) == 0 && check == nil && learnsFromClients(r):
			c.errorAt(place, "add reauth_macro:, leave "+i.name+" out of the rule's scope, or give it one session",
				"rule %q learns the session that a client has made, and the other sessions of %s would never have one", r.Name, i.name)
		}
	}
	c.firstValues(i, at)
	if i.totp.given() && i.pool.sessions > codesAhead {
		c.warnAt(at, fmt.Sprintf("write at most %d, or have a macro refresh sessions without a code", codesAhead),
			"each of the %d sessions of %s needs a one-time code of its own to log in, and no more than %d are drawn ahead", i.pool.sessions, i.name, codesAhead)
	}
	if !made && len(c.problems) == before {
		c.errorAt(at, "add reauth_macro: to a rule, with the name of a macro that logs in", "no rule makes the %d sessions of %s: none that is for it has a reauth_macro", i.pool.sessions, i.name)
	}
}

// byPerson reports whether one of the macros asks a person.
func (c *ruleCompiler) byPerson(names []string) bool {
	return slices.ContainsFunc(c.macros, func(m *macro.Macro) bool {
		_, asks := m.Asks()
		return (slices.Contains(names, m.Name) || slices.Contains(names, m.ID)) && (asks || m.Browser != nil && m.Browser.Visible)
	})
}

// firstValues finds tokens that the file gives a value to begin with.
func (c *ruleCompiler) firstValues(i identityDraft, at *yaml.Node) {
	for _, name := range c.names.all() {
		if !c.names.isExtracted(name) || !c.names.isVariable(name) {
			continue
		}
		if v, ok := c.names.valueFor(i, name); ok && v != "" && (i.has(name) || c.names.isGlobal(name)) {
			c.errorAt(at, "take the variable out: the macros bring a value for each session", "the token %s has a value to begin with, so all sessions of %s would begin as one", name, i.name)
		}
	}
}
