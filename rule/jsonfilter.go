package rule

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"
)

// jsonFilter says whether a filter takes a value. root is the whole document.
type jsonFilter func(root, v gjson.Result) bool

// filterParser reads the filters of RFC 9535 §2.3.5: comparisons, tests for
// existence, match and search, joined by &&, || and !. Paths in a filter do not
// descend (..), so that it costs what the value it looks at is long.
type filterParser struct {
	rest   string
	failed bool
}

func never(_, _ gjson.Result) bool { return false }

func (p *filterParser) fail() jsonFilter {
	p.failed = true
	return never
}

// take reads a sign, if it is next.
func (p *filterParser) take(sign string) bool {
	p.rest = trimJSONSpace(p.rest)
	rest, ok := strings.CutPrefix(p.rest, sign)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *filterParser) or(depth int) jsonFilter {
	left := p.and(depth)
	for p.take("||") {
		a, b := left, p.and(depth)
		left = func(root, v gjson.Result) bool { return a(root, v) || b(root, v) }
	}
	return left
}

func (p *filterParser) and(depth int) jsonFilter {
	left := p.basic(depth)
	for p.take("&&") {
		a, b := left, p.basic(depth)
		left = func(root, v gjson.Result) bool { return a(root, v) && b(root, v) }
	}
	return left
}

func (p *filterParser) basic(depth int) jsonFilter {
	switch {
	case depth > maxNested:
		return p.fail()
	case p.take("!"):
		inner := p.basic(depth + 1)
		return func(root, v gjson.Result) bool { return !inner(root, v) }
	case p.take("("):
		inner := p.or(depth + 1)
		if !p.take(")") {
			return p.fail()
		}
		return inner
	case p.take("match("):
		return p.regex(`^(?:`, `)$`)
	case p.take("search("):
		return p.regex(`(?:`, `)`)
	}
	return p.comparison()
}

// regex reads the arguments of match or search.
func (p *filterParser) regex(before, after string) jsonFilter {
	value, ok := p.operand()
	if !ok || !p.take(",") {
		return p.fail()
	}
	p.rest = trimJSONSpace(p.rest)
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return p.fail()
	}
	src, rest, ok := quotedName(p.rest)
	p.rest = rest
	re, err := compilePattern(before+src+after, -1)
	if !ok || err != nil || !p.take(")") {
		return p.fail()
	}
	return func(root, v gjson.Result) bool {
		text := value(root, v)
		return text.Type == gjson.String && re.match([]byte(text.Str))
	}
}

func (p *filterParser) comparison() jsonFilter {
	left, ok := p.operand()
	if !ok {
		return p.fail()
	}
	for _, operator := range []string{"==", "!=", "<=", ">=", "<", ">"} {
		if !p.take(operator) {
			continue
		}
		right, ok := p.operand()
		if !ok {
			return p.fail()
		}
		return func(root, v gjson.Result) bool { return compareJSON(left(root, v), right(root, v), operator) }
	}
	return func(root, v gjson.Result) bool { return exists(left(root, v)) }
}

// operand reads a literal or a path from @ or $. Of a path that leads to
// several values it is the first.
func (p *filterParser) operand() (value func(root, v gjson.Result) gjson.Result, ok bool) {
	p.rest = trimJSONSpace(p.rest)
	if p.rest == "" {
		return nil, false
	}
	switch c := p.rest[0]; {
	case c == '@' || c == '$':
		steps, ok := p.path()
		absolute := c == '$'
		return func(root, v gjson.Result) (found gjson.Result) {
			if absolute {
				v = root
			}
			walkJSON(root, v, steps, 0, func(r gjson.Result) bool {
				found = r
				return false
			})
			return found
		}, ok
	case c == '\'' || c == '"':
		text, rest, ok := quotedName(p.rest)
		p.rest = rest
		literal := gjson.Result{Type: gjson.String, Str: text}
		return func(_, _ gjson.Result) gjson.Result { return literal }, ok
	}
	end := strings.IndexAny(p.rest, " \t\r\n=!<>&|)],")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	if !json.Valid([]byte(word)) {
		return nil, false
	}
	literal := gjson.Parse(word)
	return func(_, _ gjson.Result) gjson.Result { return literal }, true
}

// path reads the steps behind @ or $.
func (p *filterParser) path() (steps []jsonStep, ok bool) {
	p.rest = p.rest[1:]
	for p.rest != "" && (p.rest[0] == '.' || p.rest[0] == '[') {
		step, after, ok := filterStep(p.rest)
		if !ok || len(steps) >= maxDescent {
			return nil, false
		}
		steps, p.rest = append(steps, step), after
	}
	return steps, true
}

// filterStep is a step by one name or index, so that a value has one meaning.
func filterStep(s string) (step jsonStep, rest string, ok bool) {
	if s[0] == '[' {
		step, rest, ok = bracketStep(s[1:])
		return step, rest, ok && (step.kind == stepKey || step.kind == stepIndex)
	}
	end := 1
	for end < len(s) && (isNameByte(s[end]) && s[end] != '.' || s[end] >= 0x80) {
		end++
	}
	return jsonStep{kind: stepKey, key: s[1:end]}, s[end:], end > 1
}

// compareJSON is RFC 9535 §2.3.5.2.2: what is not there equals only what is not
// there either, and only numbers and texts have an order.
func compareJSON(a, b gjson.Result, operator string) bool {
	var less, equal, ordered bool
	switch {
	case !exists(a) || !exists(b):
		equal = exists(a) == exists(b)
	case a.Type != b.Type:
	case a.Type == gjson.Number:
		less, equal, ordered = a.Num < b.Num, a.Num == b.Num, true
	case a.Type == gjson.String:
		less, equal, ordered = a.Str < b.Str, a.Str == b.Str, true
	default:
		equal = a.Raw == b.Raw
	}
	switch operator {
	case "==":
		return equal
	case "!=":
		return !equal
	case "<":
		return less
	case "<=":
		return less || equal
	case ">":
		return ordered && !less && !equal
	}
	return equal || ordered && !less
}

// exists tells a null from nothing; a literal has no raw text.
func exists(v gjson.Result) bool { return v.Raw != "" || v.Type != gjson.Null }
