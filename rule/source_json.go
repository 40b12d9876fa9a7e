package rule

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// maxDescent bounds how deep ".." looks, and how many steps a path has.
const maxDescent = 64

// jsonStep is one step of a path.
type jsonStep struct {
	kind   jsonStepKind
	key    string
	index  int // negative counts from the end
	slice  jsonSlice
	any    []jsonStep // of a union: names, indexes and slices
	filter jsonFilter
}

type jsonStepKind uint8

const (
	stepKey    jsonStepKind = iota // member of an object
	stepIndex                      // element of an array
	stepEither                     // a number in a dotted path: whichever it is
	stepAny                        // every member or element
	stepBelow                      // this value and everything below it
	stepSlice                      // elements of an array
	stepUnion                      // whatever one of several takes
	stepFilter                     // members or elements of which something is true
)

// jsonSlice is start:end:step; the step is positive.
type jsonSlice struct {
	start, end, step int
	open             bool // no end
}

func compileJSON(s *Source) (extractor, error) {
	steps, err := parseJSONPath(s.Path)
	if err != nil {
		return nil, within("path", err)
	}
	return func(in *exchange, yield func(string) bool) {
		body := trimJSONGuard(in.body)
		// json.Valid, since gjson's check recurses: a body of four million
		// brackets would end the process.
		if len(body) == 0 || !json.Valid(body) {
			return
		}
		root := gjson.ParseBytes(body)
		walkJSON(root, root, steps, 0, func(v gjson.Result) bool {
			text, ok := jsonText(v)
			return !ok || yield(text)
		})
	}, nil
}

// trimJSONGuard removes a byte order mark and the line that some applications
// put before JSON so that no page can include it as a script.
func trimJSONGuard(body []byte) []byte {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	for _, guard := range []string{")]}',", ")]}'", "for(;;);", "while(1);"} {
		if rest, ok := bytes.CutPrefix(body, []byte(guard)); ok {
			return rest
		}
	}
	return body
}

// parseJSONPath reads a dotted path (items.0.id), or a JSONPath (RFC 9535)
// made of names, indexes, wildcards, slices, unions, filters and descent:
// $.items[0]['id'], $..token, $.tokens[?@.type == 'access'].value.
func parseJSONPath(src string) ([]jsonStep, error) {
	rest, isPath := strings.CutPrefix(src, "$")
	if !isPath || rest != "" && rest[0] != '.' && rest[0] != '[' {
		return parseDotted(src)
	}
	var steps []jsonStep
	for rest != "" {
		if len(steps) > maxDescent {
			return nil, &Error{Problem: "the path has too many steps", Next: "use $..name to look at any depth"}
		}
		step, after, ok := nextJSONStep(rest)
		if !ok {
			return nil, &Error{Problem: "the JSONPath cannot be read from " + strconv.Quote(rest),
				Next: "write names, [0], ['a name'], [*], [1:3], [0,2], ..name and [?@.kind == 'access']"}
		}
		steps, rest = append(steps, step), after
	}
	return steps, nil
}

func parseDotted(src string) ([]jsonStep, error) {
	keys := strings.Split(src, ".")
	if len(keys) > maxDescent {
		return nil, &Error{Problem: "the path has too many steps", Next: "use $..name to look at any depth"}
	}
	var steps []jsonStep
	for _, key := range keys {
		if key == "" {
			return nil, &Error{Problem: "the path has an empty name", Next: "write names with one dot between them, or a JSONPath that begins with $"}
		}
		step := jsonStep{kind: stepKey, key: key}
		if n, err := strconv.Atoi(key); err == nil {
			step.kind, step.index = stepEither, n
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func nextJSONStep(s string) (step jsonStep, rest string, ok bool) {
	switch {
	case strings.HasPrefix(s, "..["):
		return jsonStep{kind: stepBelow}, s[2:], true
	case strings.HasPrefix(s, ".."):
		return jsonStep{kind: stepBelow}, s[1:], len(s) > 2 && s[2] != '.'
	case s[0] == '.':
		end := strings.IndexAny(s[1:], ".[")
		if end < 0 {
			end = len(s) - 1
		}
		name := s[1 : 1+end]
		if name == "*" {
			return jsonStep{kind: stepAny}, s[1+end:], true
		}
		return jsonStep{kind: stepKey, key: name}, s[1+end:], name != ""
	case s[0] == '[':
		return bracketStep(s[1:])
	}
	return step, "", false
}

// bracketStep reads what follows an opening bracket.
func bracketStep(s string) (step jsonStep, rest string, ok bool) {
	s = trimJSONSpace(s)
	if filter, isFilter := strings.CutPrefix(s, "?"); isFilter {
		p := filterParser{rest: filter}
		step = jsonStep{kind: stepFilter, filter: p.or(0)}
		rest, ok = strings.CutPrefix(trimJSONSpace(p.rest), "]")
		return step, rest, ok && !p.failed
	}
	for {
		one, after, ok := selectorStep(s)
		if !ok || len(step.any) >= maxDescent {
			return step, "", false
		}
		step.any = append(step.any, one)
		after = trimJSONSpace(after)
		if rest, ok = strings.CutPrefix(after, "]"); ok {
			break
		}
		if s, ok = strings.CutPrefix(after, ","); !ok {
			return step, "", false
		}
		s = trimJSONSpace(s)
	}
	if len(step.any) == 1 {
		return step.any[0], rest, true
	}
	step.kind = stepUnion
	return step, rest, true
}

func trimJSONSpace(s string) string { return strings.TrimLeft(s, " \t\r\n") }

// selectorStep reads one of the selectors between brackets.
func selectorStep(s string) (step jsonStep, rest string, ok bool) {
	switch {
	case s == "":
		return step, "", false
	case s[0] == '\'' || s[0] == '"':
		name, after, ok := quotedName(s)
		return jsonStep{kind: stepKey, key: name}, after, ok
	case s[0] == '*':
		return jsonStep{kind: stepAny}, s[1:], true
	}
	end := strings.IndexAny(s, ",]")
	if end < 0 {
		return step, "", false
	}
	parts := strings.Split(s[:end], ":")
	var n [3]int
	n[2] = 1
	for i, part := range parts {
		part = strings.TrimSpace(part)
		if i > 2 || part == "" && len(parts) == 1 {
			return step, "", false
		}
		if part == "" {
			continue
		}
		var err error
		if n[i], err = strconv.Atoi(part); err != nil {
			return step, "", false
		}
	}
	if len(parts) == 1 {
		return jsonStep{kind: stepIndex, index: n[0]}, s[end:], true
	}
	slice := jsonSlice{start: n[0], end: n[1], step: n[2], open: strings.TrimSpace(parts[1]) == ""}
	return jsonStep{kind: stepSlice, slice: slice}, s[end:], slice.step > 0
}

// quotedName reads a name in quotes; a backslash makes the next byte literal.
func quotedName(s string) (name, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// walkJSON gives yield the values that the steps lead to, in the order of the
// document, until it returns false.
func walkJSON(root, v gjson.Result, steps []jsonStep, depth int, yield func(gjson.Result) bool) (more bool) {
	if len(steps) == 0 {
		return yield(v)
	}
	step, rest := &steps[0], steps[1:]
	if step.kind == stepBelow {
		if !walkJSON(root, v, rest, depth, yield) {
			return false
		}
		if depth >= maxDescent {
			return true
		}
		rest = steps
	}
	if !v.IsObject() && !v.IsArray() {
		return true
	}
	length := 0
	if v.IsArray() && step.counts() {
		v.ForEach(func(_, _ gjson.Result) bool { length++; return true })
	}
	object := v.IsObject()
	n := 0
	more = true
	v.ForEach(func(key, element gjson.Result) bool {
		if step.takes(object, key.Str, n, length) && (step.kind != stepFilter || step.filter(root, element)) {
			more = walkJSON(root, element, rest, depth+1, yield)
		}
		n++
		return more
	})
	return more
}

// counts reports whether the step needs to know how long an array is.
func (s *jsonStep) counts() bool {
	return s.kind == stepSlice || s.kind == stepUnion || s.index < 0
}

// takes reports whether the step leads to the n-th member or element.
func (s *jsonStep) takes(object bool, key string, n, length int) bool {
	switch s.kind {
	case stepKey:
		return object && key == s.key
	case stepIndex:
		return !object && n == fromEnd(s.index, length)
	case stepEither:
		return object && key == s.key || !object && n == fromEnd(s.index, length)
	case stepSlice:
		start, end := max(fromEnd(s.slice.start, length), 0), fromEnd(s.slice.end, length)
		return !object && n >= start && (s.slice.open || n < end) && (n-start)%s.slice.step == 0
	case stepUnion:
		for i := range s.any {
			if s.any[i].takes(object, key, n, length) {
				return true
			}
		}
		return false
	}
	return true
}

// fromEnd is where a number that counts from the end if it is negative leads.
func fromEnd(n, length int) int {
	if n < 0 {
		return n + length
	}
	return n
}

// jsonText is a value as text: a number with the digits it has in the document,
// an object or array as compact JSON.
func jsonText(v gjson.Result) (string, bool) {
	switch v.Type {
	case gjson.Null:
		return "", false
	case gjson.String:
		return v.Str, v.Str != ""
	case gjson.JSON:
		var b bytes.Buffer
		if json.Compact(&b, []byte(v.Raw)) != nil {
			return "", false
		}
		return b.String(), true
	}
	return v.Raw, true
}
