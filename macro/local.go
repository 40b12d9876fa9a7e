package macro

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/rule"
)

// Limits of steps that send nothing.
const (
	DefaultExecTimeout   = 10 * time.Second
	DefaultPromptTimeout = 2 * time.Minute
	// MaxOutput is how much a command may write, in bytes.
	MaxOutput = 64 << 10
)

// Exec is a step that runs a program and takes a value from what it writes.
// Nothing but variables is replaced in the arguments: there is no shell.
type Exec struct {
	Command []*rule.Template // the program and its arguments
	Timeout time.Duration    // 0: DefaultExecTimeout
	Token   string           // the variable that takes the output, white space around it removed
}

// Prompt is a step that asks a person, or only tells something.
type Prompt struct {
	Text    *rule.Template
	Timeout time.Duration // 0: DefaultPromptTimeout
	Token   string        // the variable that takes the answer; "": none is wanted
}

// Question is what a person is asked.
type Question struct {
	Identity, Macro string
	Step            int // from 1
	Text            string
	Answer          bool // an answer is wanted; else it is enough to show the text
	Timeout         time.Duration
}

// ErrNobody is the error of an Env.Ask that has no way to ask anybody.
var ErrNobody = errors.New("there is nobody to ask: start holdfast serve in a terminal")

// Asks reports whether a step of the macro wants an answer from a person, and
// which, from 1.
func (m *Macro) Asks() (step int, asks bool) {
	i := slices.IndexFunc(m.Steps, func(s Step) bool { return s.Prompt != nil && s.Prompt.Token != "" })
	return i + 1, i >= 0
}

// Patience is what the steps may wait besides the time that requests take: for
// a pause, a program, a person, the next one-time code.
func (m *Macro) Patience(totp *TOTP) (d time.Duration) {
	for i := range m.Steps {
		s := &m.Steps[i]
		d += s.Wait
		if s.Repeat != nil {
			d += s.Repeat.Timeout
		}
		switch {
		case s.Exec != nil:
			d += or(s.Exec.Timeout, DefaultExecTimeout)
		case s.Prompt != nil:
			d += or(s.Prompt.Timeout, DefaultPromptTimeout)
		}
		if totp != nil && slices.Contains(s.names(), NameTOTP) {
			d += 2 * totp.Period
		}
	}
	return d
}

func or(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

// local runs a step that sends nothing.
func (r *run) local(index int) *StepError {
	s := &r.macro.Steps[index]
	if s.Exec != nil {
		return r.exec(s)
	}
	return r.prompt(s, index)
}

func (r *run) exec(s *Step) *StepError {
	fails := func(got string, err error) *StepError {
		return &StepError{Kind: Failed, Want: "a value from the command", Got: got, Cause: err}
	}
	var command []string
	for _, t := range s.Exec.Command {
		argument, missing := t.Expand(r.lookup)
		if len(missing) > 0 {
			return &StepError{Kind: MissingVariable, Want: "values for the command's variables", Got: "no value for " + strings.Join(missing, ", ")}
		}
		command = append(command, argument)
	}
	if r.env.Exec == nil {
		return fails("none: commands are not run here", nil)
	}
	timeout := or(s.Exec.Timeout, DefaultExecTimeout)
	ctx, cancel := context.WithTimeout(r.ctx, timeout)
	defer cancel()
	output, err := r.env.Exec(ctx, command)
	value := strings.TrimSpace(output)
	switch {
	case r.ctx.Err() != nil:
		return &StepError{Kind: Transport, Want: "a value from the command", Got: "the end of the run", Cause: r.ctx.Err()}
	case ctx.Err() != nil:
		return fails(fmt.Sprintf("none within %s", timeout), nil)
	case err != nil:
		return fails("a failure", err)
	case len(output) > MaxOutput:
		return fails(fmt.Sprintf("more than %d KiB", MaxOutput>>10), nil)
	case value == "":
		return fails("nothing", nil)
	}
	r.bring(s, s.Exec.Token, value)
	return nil
}

func (r *run) prompt(s *Step, index int) *StepError {
	text, missing := s.Prompt.Text.Expand(r.lookup)
	if len(missing) > 0 {
		return &StepError{Kind: MissingVariable, Want: "values for the text's variables", Got: "no value for " + strings.Join(missing, ", ")}
	}
	q := Question{Identity: r.env.Identity, Macro: r.macro.Name, Step: index + 1, Text: text,
		Answer: s.Prompt.Token != "", Timeout: or(s.Prompt.Timeout, DefaultPromptTimeout)}
	fails := func(got string, err error) *StepError {
		return &StepError{Kind: Unanswered, Want: "an answer to the prompt", Got: got, Cause: err}
	}
	if r.env.Ask == nil {
		return fails("none", ErrNobody)
	}
	ctx, cancel := context.WithTimeout(r.ctx, q.Timeout)
	defer cancel()
	answer, err := r.env.Ask(ctx, q)
	answer = strings.TrimSpace(answer)
	switch {
	case r.ctx.Err() != nil:
		return &StepError{Kind: Transport, Want: "an answer to the prompt", Got: "the end of the run", Cause: r.ctx.Err()}
	case ctx.Err() != nil:
		return fails(fmt.Sprintf("none within %s", q.Timeout), nil)
	case err != nil:
		return fails("none", err)
	case q.Answer && answer == "":
		return fails("an empty one", nil)
	}
	if q.Answer {
		r.bring(s, s.Prompt.Token, answer)
	}
	return nil
}

// bring takes the value of a step that sent nothing.
func (r *run) bring(s *Step, token, value string) {
	r.values[token] = value
	r.own[s] = map[string]string{token: value}
}

// code draws the one-time code of a request that needs one.
func (r *run) code(s *Step) *StepError {
	r.totp = ""
	if !slices.Contains(s.names(), NameTOTP) || r.env.Code == nil {
		return nil
	}
	if _, own := r.variable(NameTOTP); own {
		return nil
	}
	code, err := r.env.Code(r.ctx, r.ahead)
	if err != nil {
		kind := Failed
		if r.ctx.Err() != nil {
			kind = Transport
		}
		return &StepError{Kind: kind, Want: "a one-time code", Got: "none", Cause: err}
	}
	r.totp = code
	return nil
}

// noteClock learns how far ahead of ours the clock of the origin is, by the
// Date of its answer (RFC 9110 §6.6.1): at least so far, since Date is cut to
// seconds.
func (r *run) noteClock(answer *StepResult) {
	value, ok := answer.Response.Get("Date")
	if !ok {
		return
	}
	if date, err := time.Parse(time.RFC1123, strings.TrimSpace(string(value))); err == nil {
		d := date.Sub(answer.Flow.Ended)
		if d < 0 && d > -time.Second {
			d = 0 // it was cut
		}
		r.ahead = &d
	}
}
