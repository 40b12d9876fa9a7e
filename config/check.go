package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
)

// maxChecks bounds how many checks an any or all can hold.
const maxChecks = 64

// checkDraft is a check that compiled: its condition, and where it stands.
type checkDraft struct {
	n     *yaml.Node
	query *httpql.Query
}

type rawCheck struct {
	typ   word
	value *yaml.Node
}

type headerDraft struct{ name, header, pattern word }

func checkFields() []field[rawCheck] {
	return []field[rawCheck]{
		{"type", "write one of " + strings.Join(rule.CheckTypes(), ", "), choice("check type", rule.CheckTypes(), func(c *rawCheck) *word { return &c.typ })},
		{"value", "write what to look for", func(_ *decoder, n *yaml.Node, c *rawCheck) { c.value = n }},
	}
}

func headerFields() []field[headerDraft] {
	return []field[headerDraft]{
		{"name", "", single("name", func(h *headerDraft) *word { return &h.name })},
		{"header", "", single("header", func(h *headerDraft) *word { return &h.header })},
		{"pattern", "write what its value contains", single("pattern", func(h *headerDraft) *word { return &h.pattern })},
	}
}

// check reads a check and compiles it to a condition. A check that is true of
// every response, or of none, is a mistake.
func (d *decoder) check(n *yaml.Node) *checkDraft {
	return d.checked(n, d.condition(n))
}

// checked looks at what a check's condition is true of.
func (d *decoder) checked(n *yaml.Node, q *httpql.Query) *checkDraft {
	if q == nil {
		return nil
	}
	switch reach(q) {
	case never:
		d.errorAt(n, "look at what the parts of it say together", "this check can never fire: no response is like that")
	case always:
		d.errorAt(n, "look for something that only answers of a dead session have", "this check fires on every response")
	}
	return &checkDraft{n: n, query: q}
}

func (d *decoder) condition(n *yaml.Node) *httpql.Query {
	var c rawCheck
	if !object(d, n, tableCheck, checkFields(), &c) || !c.typ.given() || c.value == nil {
		return nil
	}
	return d.conditionOf(c)
}

func (d *decoder) conditionOf(c rawCheck) *httpql.Query {
	switch c.typ.s {
	case rule.CheckStatusCode:
		return d.statusCodes(c)
	case rule.CheckAny, rule.CheckAll:
		return d.several(c)
	case rule.CheckHeaderContains:
		return d.headerContains(c)
	}
	w, ok := d.word(c.value, "the value of "+c.typ.s)
	switch {
	case !ok:
		return nil
	case c.typ.s == rule.CheckHTTPQL:
		return d.httpql(w, "the check")
	}
	return d.ruleCheck(c, w.s)
}

// ruleCheck compiles a check whose value has the right shape.
func (d *decoder) ruleCheck(c rawCheck, value any) *httpql.Query {
	q, err := rule.Check(c.typ.s, value)
	if err != nil {
		d.ruleError(err, c.value)
		return nil
	}
	return q
}

// statusCodes reads a list of codes, or one alone.
func (d *decoder) statusCodes(c rawCheck) *httpql.Query {
	var codes []any
	one := func(n *yaml.Node) {
		if code, ok := d.integer(n, "a status code", 100, 599); ok {
			codes = append(codes, code)
		}
	}
	n := c.value
	switch {
	case n.Kind == yaml.ScalarNode:
		one(n)
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		d.errorAt(n, "write the codes that mean a dead session, such as [401]", "the list of status codes is empty: this check can never fire")
	case n.Kind == yaml.SequenceNode && len(n.Content) > 500:
		d.errorAt(n, "use type: HTTPQL with resp.code.gte: and resp.code.lte:", "the list of status codes is longer than there are codes")
	default:
		d.list(n, "the value of StatusCode", one)
	}
	if len(codes) == 0 {
		return nil
	}
	return d.ruleCheck(c, codes)
}

// closeCodes reads a list of a WebSocket's close codes, or one alone.
func (d *decoder) closeCodes(n *yaml.Node) []int {
	var codes []int
	one := func(n *yaml.Node) {
		code, ok := d.integer(n, "a close code", 1000, 4999)
		switch {
		case !ok:
		case !rule.IsCloseCode(code):
			d.errorAt(n, "write a code that the origin sends, such as 1008 or 4401", "the close code %d never stands in a close frame", code)
		case slices.Contains(codes, code):
			d.warnAt(n, "name it once", "the close code %d stands twice in close_codes", code)
		default:
			if code == 1000 {
				d.warnAt(n, "look for a code that only a dead session brings", "the close code 1000 is the normal end of a WebSocket: each one will cause a recovery")
			}
			codes = append(codes, code)
		}
	}
	switch n = resolve(n); {
	case n.Kind == yaml.ScalarNode:
		one(n)
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		d.errorAt(n, "write the codes that mean a dead session, such as [4401]", "the list of close codes is empty")
	case n.Kind == yaml.SequenceNode && len(n.Content) > maxChecks:
		d.errorAt(n, fmt.Sprintf("write at most %d", maxChecks), "the list of close codes is too long")
	default:
		d.list(n, "close_codes", one)
	}
	return codes
}

// hasKey reports whether a mapping has a key with a value of its own.
func hasKey(n *yaml.Node, key string) bool {
	n = resolve(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && !isNull(resolve(n.Content[i+1])) {
			return true
		}
	}
	return false
}

// several compiles any and all: their value is a list of checks.
func (d *decoder) several(c rawCheck) *httpql.Query {
	if c.value.Kind == yaml.SequenceNode && (len(c.value.Content) == 0 || len(c.value.Content) > maxChecks) {
		d.errorAt(c.value, fmt.Sprintf("write from 1 to %d checks, each {type: …, value: …}", maxChecks), "%s has %d checks", c.typ.s, len(c.value.Content))
		return nil
	}
	var parts []*httpql.Query
	d.list(c.value, "the value of "+c.typ.s, func(n *yaml.Node) {
		if q := d.condition(n); q != nil {
			parts = append(parts, q)
		}
	})
	switch {
	case len(parts) == 0:
		return nil
	case c.typ.s == rule.CheckAny:
		return httpql.Or(parts...)
	}
	return httpql.And(parts...)
}

// headerContains reads {name: NAME, pattern: PATTERN}, where header is another
// word for name, or [NAME, PATTERN]. The
// seed names the check and does not show its value.
func (d *decoder) headerContains(c rawCheck) *httpql.Query {
	var both []any
	const next = `write {name: WWW-Authenticate, pattern: invalid_token}`
	switch c.value.Kind {
	case yaml.MappingNode:
		var h headerDraft
		object(d, c.value, tableHeader, headerFields(), &h)
		if !h.pattern.given() {
			return nil // reported
		}
		if h.name.given() != h.header.given() {
			both = []any{h.name.s + h.header.s, h.pattern.s}
		}
	case yaml.SequenceNode:
		d.list(c.value, "the value of HeaderContains", func(n *yaml.Node) {
			if w, ok := d.word(n, "the value of HeaderContains"); ok {
				both = append(both, w.s)
			}
		})
	}
	if len(both) != 2 || slices.Contains(both, any("")) {
		d.errorAt(c.value, next, "HeaderContains needs the name of a header and what its value contains")
		return nil
	}
	return d.ruleCheck(c, both)
}

// httpql compiles a condition. It must ask about the response.
func (d *decoder) httpql(w word, what string) *httpql.Query {
	q := d.parseHTTPQL(w, what, "resp.code.eq:401")
	if q == nil {
		return nil
	}
	switch needs := q.Needs(); {
	case needs&(httpql.NeedRow|httpql.NeedEnd) != 0:
		d.errorAt(w.n, "ask about the response", "%s asks about something that is only known when the flow is over", what)
		return nil
	case needs&(httpql.NeedResponse|httpql.NeedResponseBody) == 0:
		d.errorAt(w.n, "ask about resp.…, such as resp.code.eq:401", "%s does not look at the response", what)
		return nil
	}
	return q
}

// parseHTTPQL reads a condition about anything.
func (d *decoder) parseHTTPQL(w word, what, example string) *httpql.Query {
	q, err := httpql.Parse(w.s)
	if err != nil {
		var e *httpql.SyntaxError
		if !errors.As(err, &e) {
			d.errorAt(w.n, "docs/configuration.md describes HTTPQL", "the condition cannot be read")
			return nil
		}
		d.errorIn(w.n, e.Offset, e.Hint, "HTTPQL: %s", e.Msg)
		return nil
	}
	if strings.TrimSpace(w.s) == "" || strings.Trim(w.s, "() \t\n") == "" {
		d.errorAt(w.n, fmt.Sprintf("write a condition such as '%s'", example), "%s is empty: it is always true", what)
		return nil
	}
	if q.Needs()&httpql.NeedPresets != 0 {
		d.errorAt(w.n, "write the preset's condition out", "%s names a preset, and this version has none", what)
		return nil
	}
	return q
}
