package config

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/macro"
)

// Steps that send nothing, and one-time codes.

const (
	tableExec   = "exec"
	tablePrompt = "prompt"
)

// maxLocalWait bounds how long a program or a person is waited for.
const maxLocalWait = 30 * time.Minute

type execDraft struct {
	n       *yaml.Node
	command []word
	timeout time.Duration
	token   word
}

type promptDraft struct {
	text    word
	timeout time.Duration
	token   word
}

// localFields are the keys of a step that stand in place of a request.
func localFields() []field[stepDraft] {
	return []field[stepDraft]{
		{"exec", "", func(d *decoder, n *yaml.Node, s *stepDraft) {
			e := execDraft{n: n}
			if object(d, n, tableExec, execFields(), &e) {
				s.exec = &e
			}
		}},
		{"prompt", "", func(d *decoder, n *yaml.Node, s *stepDraft) {
			var p promptDraft
			if object(d, n, tablePrompt, promptFields(), &p) {
				s.prompt = &p
			}
		}},
	}
}

func execFields() []field[execDraft] {
	return []field[execDraft]{
		{"command", "write the program and its arguments as a list: command: [oathtool, --totp, …]", words("command", func(e *execDraft) *[]word { return &e.command })},
		{"timeout", "", duration("timeout", 10*time.Millisecond, maxLocalWait, func(e *execDraft) *time.Duration { return &e.timeout })},
		{"token_name", needTokenName, single("token_name", func(e *execDraft) *word { return &e.token })},
	}
}

func promptFields() []field[promptDraft] {
	return []field[promptDraft]{
		{"text", "write what the person is asked", single("text", func(p *promptDraft) *word { return &p.text })},
		{"timeout", "", duration("timeout", time.Second, maxLocalWait, func(p *promptDraft) *time.Duration { return &p.timeout })},
		{"token_name", "", single("token_name", func(p *promptDraft) *word { return &p.token })},
	}
}

// does compiles what a step does instead of sending a request, and reports
// whether it does anything.
func (d *decoder) does(step *macro.Step, macroName string, index int, s stepDraft, names *names) {
	said := 0
	for _, given := range []bool{s.request.given(), s.exec != nil, s.prompt != nil, s.script != nil} {
		if given {
			said++
		}
	}
	switch {
	case said > 1:
		d.errorAt(s.n, "make a step of each", "a step has one of request, script, exec and prompt")
		return
	case said == 0 && !hasKey(s.n, "exec") && !hasKey(s.n, "prompt") && !hasKey(s.n, "script") && !hasKey(s.n, "request"):
		d.errorAt(s.n, "add request: | and below it the request as raw HTTP", "a step needs the key %q", "request")
	}
	if said == 1 && !s.request.given() {
		for _, key := range []string{"extract", "expect", "redirects", "tls", "auth", "repeat"} {
			if hasKey(s.n, key) {
				next := "take it out; token_name: names the variable"
				if s.script != nil {
					next = "take it out; variables.set in the script sets one"
				}
				d.errorAt(s.n, next, "a step without a request has no key %q", key)
			}
		}
	}
	var token word
	switch {
	case s.exec != nil:
		x := &macro.Exec{Timeout: s.exec.timeout, Token: s.exec.token.s}
		if len(s.exec.command) > 0 && !d.may(s.exec.command[0].n, 0, useProgram, written(s.exec.command)) {
			return
		}
		for _, w := range s.exec.command {
			w.s = d.expand(w)
			x.Command = append(x.Command, d.template(w, macroName, index, names))
		}
		if len(x.Command) == 0 && hasKey(s.exec.n, "command") {
			d.errorAt(s.exec.n, "name the program", "the command is empty")
		}
		step.Exec, token = x, s.exec.token
	case s.prompt != nil:
		p := &macro.Prompt{Timeout: s.prompt.timeout, Token: s.prompt.token.s}
		if s.prompt.text.given() {
			p.Text = d.template(s.prompt.text, macroName, index, names)
		}
		step.Prompt, token = p, s.prompt.token
	}
	if token.given() && d.tokenName(token) {
		names.extract(extracted{name: token.s, n: token.n, macro: macroName, step: index})
	}
}

// written is a command as it is written: the program, and after a zero byte each
// argument.
func written(command []word) string {
	var all []string
	for _, w := range command {
		all = append(all, w.s)
	}
	return strings.Join(all, "\x00")
}

// sends finds macros that send nothing at all.
func (d *decoder) sends(m macroDraft) {
	for _, s := range m.steps {
		if s.request.given() || s.exec == nil && s.prompt == nil {
			return
		}
	}
	if len(m.steps) > 0 {
		d.errorAt(m.name.n, "add a step with a request:", "macro %q sends nothing", m.name.s)
	}
}

// totp reads the secret of one-time codes. The secret never stands in a
// message.
func (d *decoder) totp(w word) *macro.TOTP {
	if !w.given() {
		return nil
	}
	before := len(d.problems)
	secret := d.expandAs(w, inTOTP, nil)
	if len(d.problems) > before {
		return nil
	}
	t, err := macro.ParseTOTP(secret)
	if err != nil {
		what, next, more := strings.Cut(err.Error(), ": ")
		if !more {
			next = "write the secret, or the otpauth:// URI of the QR code, best as ${env:NAME}"
		}
		d.errorAt(w.n, next, "totp cannot be read: %s", what)
		return nil
	}
	return t
}

// usesCode finds {{totp}} where no identity has a secret.
func (n *names) usesCode(d *decoder, u *use) {
	var without []string
	for _, i := range n.identities {
		if !i.totp.given() {
			without = append(without, i.name)
		}
	}
	switch {
	case len(without) == len(n.identities):
		d.errorIn(u.n, u.offset, "give it one: identities: {alice: {totp: \"${env:ALICE_TOTP}\"}}", "{{%s}} has no value: no identity has a totp secret", macro.NameTOTP)
	case len(without) > 0:
		at, _ := d.text.inside(u.n, u.offset)
		d.warnings = append(d.warnings, d.text.problem(at,
			fmt.Sprintf("identity %s has no totp secret", strings.Join(without, ", ")), "add totp: to the identity"))
	}
}
