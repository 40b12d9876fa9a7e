package derive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
)

// The bounds of a proof.
const (
	proofRuns   = 2  // of one draft
	proofRounds = 3  // of drafts, each derived with what the one before has shown
	proofDrops  = 10 // runs to find out whether a step is needed
)

// Env is what a proof needs from outside. Send and Now must be given.
type Env struct {
	Send func(ctx context.Context, f *flow.Flow) error
	Now  func() time.Time
	// NewID names flows; nil leaves the IDs zero.
	NewID func() flow.ID
	// Lookup gives values of variables in place of the recorded ones, such as a
	// fresh one-time code. nil: there are none.
	Lookup func(name string) (string, bool)
	// Identity is written into the flows.
	Identity string
	// Drop has each step tried that carries no credentials: without it. What
	// the macro does not need is dropped. It costs a run for each, at most 10.
	Drop bool
}

// Proof is what running the macro twice has shown.
type Proof struct {
	// Proved: both runs went through, and every value that differed from run to
	// run was derived.
	Proved bool
	Runs   int // of the macro, in all
	// Findings say what is wrong, and where.
	Findings []Finding
	// Constant are tokens that were the same in the recording and in all runs:
	// they might as well stand in the requests.
	Constant []string
}

// Finding is something that keeps the macro from working twice. It holds no
// values.
type Finding struct {
	Step  int    // from 1
	Entry int    // of the recording
	Place string // of the request, as traces call it; "" the whole step
	// From is where an answer has a value of that name, or the value itself;
	// "" nowhere.
	From    string
	Problem string
}

// String is the finding as a line.
func (f Finding) String() string {
	s := fmt.Sprintf("step %d (entry %d)", f.Step, f.Entry)
	if f.Place != "" {
		s += ", " + f.Place
	}
	s += ": " + f.Problem
	if f.From != "" {
		s += "; " + f.From
	}
	return s
}

// Prove derives a macro and runs it twice, each time with an empty jar. What the
// runs show to differ is derived again. The draft is returned even where the
// proof failed. The error is From's, or the context's.
func Prove(ctx context.Context, exchanges []convert.Exchange, o Options, env Env) (*Draft, *Proof, error) {
	p := &prover{ctx: ctx, exchanges: exchanges, options: o, env: env, proof: &Proof{}, answers: make(map[int]*answer)}
	p.options.force, p.options.without = make(map[string]bool), make(map[int]string)
	for round := 1; ; round++ {
		draft, err := From(exchanges, p.options)
		if err != nil {
			return nil, nil, err
		}
		p.draft, p.proof.Findings = draft, nil
		runs := p.runs()
		if err := ctx.Err(); err != nil {
			return draft, p.proof, err
		}
		more := p.compare(runs)
		if len(p.proof.Findings) == 0 && !more {
			p.proof.Proved = true
			break
		}
		if last := runs[len(runs)-1]; !more && last.failed != nil && p.options.until == 0 {
			more = p.explore(draft.Steps[min(last.failed.Step, len(draft.Steps))-1].Entry)
		}
		if !more || round == proofRounds {
			break
		}
	}
	if p.proof.Proved && env.Drop {
		p.drop()
	}
	return p.draft, p.proof, ctx.Err()
}

type prover struct {
	ctx       context.Context
	exchanges []convert.Exchange
	options   Options
	env       Env
	draft     *Draft
	proof     *Proof
	answers   map[int]*answer // of the recording, by entry
}

// ran is one run: what was answered, and where it ended.
type ran struct {
	steps  []macro.StepResult
	values map[string]string
	jar    *jar.Jar
	failed *macro.StepError
	err    error // of the draft itself
}

func (p *prover) runs() (runs []ran) {
	for range proofRuns {
		r := p.run(p.draft)
		runs = append(runs, r)
		if r.failed != nil || r.err != nil {
			break
		}
	}
	return runs
}

func (p *prover) run(d *Draft) ran {
	p.proof.Runs++
	r := ran{jar: jar.New(jar.Options{})}
	m, err := d.Macro()
	if err != nil {
		r.err = err
		return r
	}
	result, err := m.Run(p.ctx, macro.Env{Jar: r.jar, Now: p.env.Now, Send: p.env.Send, NewID: p.env.NewID, Identity: p.env.Identity,
		Lookup: func(name string) (string, bool) {
			if p.env.Lookup != nil {
				if value, ok := p.env.Lookup(name); ok {
					return value, true
				}
			}
			return d.Lookup(name)
		}})
	if errors.As(err, &r.failed) {
		r.steps = r.failed.Steps
		return r
	}
	if r.err = err; err == nil {
		r.steps, r.values = result.Steps, result.Values
	}
	return r
}

func (p *prover) find(f Finding) {
	for _, known := range p.proof.Findings {
		if known.Step == f.Step && known.Place == f.Place {
			return
		}
	}
	p.proof.Findings = append(p.proof.Findings, f)
}

// compare looks for what differs between the recording and the runs. more says
// that a value was found which a new draft can derive.
func (p *prover) compare(runs []ran) (more bool) {
	varying := p.varying(runs)
	for value, from := range varying {
		for n := range p.draft.Steps {
			place := p.underived(n, value, from.step)
			if place == "" {
				continue
			}
			if !p.options.force[value] {
				p.options.force[value] = true
				more = true
				continue
			}
			p.find(Finding{Step: n + 1, Entry: p.draft.Steps[n].Entry, Place: place,
				Problem: "its value differs from run to run and is sent as it was recorded", From: fmt.Sprintf("it stands in the answer to step %d: %s", from.step+1, from.source)})
		}
	}
	for i, r := range runs {
		switch {
		case r.err != nil:
			p.find(Finding{Step: 1, Problem: r.err.Error()})
		case r.failed != nil:
			p.failed(i, r.failed)
		}
	}
	p.constants(runs)
	slices.SortFunc(p.proof.Findings, func(a, b Finding) int { return a.Step - b.Step })
	return more
}

// explore runs every request before the one that failed: a page that was dropped
// may bring a value that looks like a person's, or have to be seen first. more
// says that a new draft may do better.
func (p *prover) explore(entry int) (more bool) {
	o := p.options
	o.until = entry
	wide, err := From(p.exchanges, o)
	if err != nil {
		return false
	}
	draft, findings := p.draft, p.proof.Findings
	p.draft = wide
	r := p.run(wide)
	more = p.compare([]ran{r})
	p.draft, p.proof.Findings = draft, findings
	if !more && r.failed == nil && r.err == nil {
		p.options.until = entry
		return true
	}
	return more
}

// place is where an answer has a value.
type place struct {
	step   int // from 0
	source string
}

// varying are the recorded values at whose place the runs had others.
func (p *prover) varying(runs []ran) map[string]place {
	out := make(map[string]place)
	for n := range p.draft.Steps {
		recorded := p.recorded(p.draft.Steps[n].Entry)
		if recorded == nil {
			continue
		}
		now := make(map[string][]string)
		for _, r := range runs {
			if n >= len(r.steps) {
				continue
			}
			s := &r.steps[n]
			if a := offersOf(s.Flow.Request, s.Response, s.Body); a != nil {
				for i, label := range a.labels() {
					now[label] = append(now[label], a.offers[i].value)
				}
			}
		}
		for i, label := range recorded.labels() {
			o := &recorded.offers[i]
			values := now[label]
			if len(values) > 0 && slices.ContainsFunc(values, func(v string) bool { return v != o.value }) {
				if _, known := out[o.value]; !known {
					out[o.value] = place{n, o.source.String()}
				}
			}
		}
	}
	return out
}

// labels name the offers by their sources, and by number where several have one.
func (a *answer) labels() []string {
	labels := make([]string, len(a.offers))
	count := make(map[string]int)
	for i := range a.offers {
		label := a.offers[i].source.String()
		count[label]++
		labels[i] = fmt.Sprintf("%s #%d", label, count[label])
	}
	return labels
}

func (p *prover) recorded(entry int) *answer {
	if a, ok := p.answers[entry]; ok {
		return a
	}
	for i := range p.exchanges {
		if p.exchanges[i].Entry == entry {
			p.answers[entry] = answerOf(&p.exchanges[i])
		}
	}
	return p.answers[entry]
}

// underived is the place of a step's request that sends a recorded value as it
// was; "" none does.
func (p *prover) underived(n int, value string, after int) string {
	if n <= after || len(value) == 0 {
		return ""
	}
	step := &p.draft.Steps[n]
	for i := range p.exchanges {
		if p.exchanges[i].Entry != step.Entry {
			continue
		}
		for _, s := range newRequest(&p.exchanges[i]).slots {
			if s.text == value && !slices.ContainsFunc(step.Uses, func(u Use) bool { return u.Place == s.label }) {
				return s.label
			}
			if len(value) > 5 && looksMade(value) && strings.Contains(s.text, value) && strings.Contains(step.Request, value) {
				return s.label
			}
		}
	}
	return ""
}

// failed tells of a run that ended at a step, and of the values that may be why.
func (p *prover) failed(run int, e *macro.StepError) {
	n := min(e.Step, len(p.draft.Steps))
	step := &p.draft.Steps[n-1]
	when := "the macro does not run"
	if run > 0 {
		when = "the macro ran once and not twice"
	}
	p.find(Finding{Step: n, Entry: step.Entry, Problem: fmt.Sprintf("%s: %s: wanted %s, got %s", when, e.Kind, e.Want, e.Got)})
	for _, o := range p.draft.Open {
		if o.Step > n {
			continue
		}
		_, name, _ := strings.Cut(o.Place, ":")
		p.find(Finding{Step: o.Step, Entry: o.Entry, Place: o.Place, Problem: "the recorded value is sent: " + o.Why,
			From: p.namesake(name[strings.LastIndexByte(name, '/')+1:], o.Entry)})
	}
}

// namesake is where an answer before an entry has another value of the same
// name: a script may have computed the one that was sent from it.
func (p *prover) namesake(name string, before int) string {
	for i := len(p.exchanges) - 1; i >= 0; i-- {
		x := &p.exchanges[i]
		if x.Entry >= before {
			continue
		}
		a := p.recorded(x.Entry)
		if a == nil {
			continue
		}
		for n := range a.offers {
			if o := &a.offers[n]; sameName(o.name, name) && looksMade(o.value) {
				return fmt.Sprintf("the answer to entry %d has one of that name: %s; a script may compute the value that is sent from it", x.Entry, o.source.String())
			}
		}
	}
	return ""
}

// constants are tokens that never differed.
func (p *prover) constants(runs []ran) {
	p.proof.Constant = nil
	for n := range p.draft.Steps {
		recorded := p.recorded(p.draft.Steps[n].Entry)
		for _, x := range p.draft.Steps[n].Extract {
			source := x.Source
			if recorded == nil || source.Compile() != nil {
				continue
			}
			value, _ := source.Extract(recorded.req, recorded.resp, recorded.body)
			same := len(runs) == proofRuns
			for _, r := range runs {
				same = same && r.values[x.Token] == value
			}
			if same {
				p.proof.Constant = append(p.proof.Constant, x.Token)
			}
		}
	}
}

// drop tries the macro without each of the steps that carry no credentials, the
// last first.
func (p *prover) drop() {
	before := p.run(p.draft)
	if before.failed != nil || before.err != nil {
		return
	}
	tries := 0
	for n := len(p.draft.Steps) - 1; n >= 0 && tries < proofDrops && len(p.draft.Steps) > 1 && p.ctx.Err() == nil; n-- {
		if n >= len(p.draft.Steps) || p.draft.Steps[n].Secret || len(p.draft.Steps[n].Extract) > 0 {
			continue
		}
		tries++
		entry := p.draft.Steps[n].Entry
		p.options.without[entry] = "the macro runs without it"
		draft, err := From(p.exchanges, p.options)
		if err == nil && p.same(before, p.run(draft)) {
			p.draft = draft
			continue
		}
		delete(p.options.without, entry)
	}
}

// same reports whether a run brought what another did: every token, and a cookie
// of each name.
func (p *prover) same(before, after ran) bool {
	if after.failed != nil || after.err != nil {
		return false
	}
	for token := range before.values {
		if _, ok := after.values[token]; !ok {
			return false
		}
	}
	type name struct{ domain, path, name string }
	held := make(map[name]bool)
	for _, c := range after.jar.All() {
		held[name{c.Domain, c.Path, c.Name}] = true
	}
	for _, c := range before.jar.All() {
		if !held[name{c.Domain, c.Path, c.Name}] {
			return false
		}
	}
	return true
}
