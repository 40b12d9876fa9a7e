package config

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

// What keeps a session from being met dead: a probe that is asked in between,
// and a recovery before its end.

type probeDraft struct {
	macro       word
	every       int
	holds       time.Duration
	onSuspicion bool
}

func probeFields() []field[probeDraft] {
	return []field[probeDraft]{
		{"macro", "name the macro that asks: probe: {macro: whoami, every: 100}", single("macro", func(p *probeDraft) *word { return &p.macro })},
		{"every", "", number("every", 1, 1_000_000, func(p *probeDraft) *int { return &p.every })},
		{"for", "", duration("for", time.Second, 24*time.Hour, func(p *probeDraft) *time.Duration { return &p.holds })},
		{"on_suspicion", "", flag("on_suspicion", func(p *probeDraft) *bool { return &p.onSuspicion })},
	}
}

// probe makes the probe of a draft; nil when it says nothing.
func (c *ruleCompiler) probe(p *probeDraft) *rule.Probe {
	if p == nil || !p.macro.given() {
		return nil
	}
	c.asks(p.macro)
	return &rule.Probe{Macro: p.macro.s, Every: p.every, For: p.holds, OnSuspicion: p.onSuspicion}
}

// lifetimeLearn is the word for a lifetime that is learned.
const lifetimeLearn = "learn"

func proactiveFields() []field[rule.Proactive] {
	return []field[rule.Proactive]{
		{"skew", "", duration("skew", 100*time.Millisecond, 24*time.Hour, func(p *rule.Proactive) *time.Duration { return &p.Skew })},
		{"jitter", "", func(d *decoder, n *yaml.Node, p *rule.Proactive) {
			text, ok := strings.CutSuffix(n.Value, "%")
			v, err := strconv.Atoi(text)
			if n.Kind != yaml.ScalarNode || !ok || err != nil || v < 0 || v > 100 {
				d.errorAt(n, "write 0% to 100%", "jitter is a part of skew in percent")
				return
			}
			p.Jitter = v
		}},
		{"lifetime", "", func(d *decoder, n *yaml.Node, p *rule.Proactive) {
			if n.Kind == yaml.ScalarNode && n.Value == lifetimeLearn {
				p.Learn = true
				return
			}
			if _, err := time.ParseDuration(n.Value); n.Kind != yaml.ScalarNode || err != nil {
				d.errorAt(n, "write a time such as 15m, or learn", "lifetime is a time, or the word learn")
				return
			}
			duration("lifetime", time.Second, 720*time.Hour, func(p *rule.Proactive) *time.Duration { return &p.Lifetime })(d, n, p)
		}},
		{"learn", "", flag("learn", func(p *rule.Proactive) *bool { return &p.Learn })},
		{"idle", "", duration("idle", time.Second, 720*time.Hour, func(p *rule.Proactive) *time.Duration { return &p.Idle })},
	}
}

// proactive reads `proactive: false`, or a mapping.
func (d *decoder) proactive(n *yaml.Node) *rule.Proactive {
	p := rule.DefaultProactive()
	if n.Kind == yaml.ScalarNode {
		on := true
		flag("proactive", func(on *bool) *bool { return on })(d, n, &on)
		p.Off = !on
		return &p
	}
	if !object(d, n, tableProactive, proactiveFields(), &p) {
		return nil
	}
	return &p
}
