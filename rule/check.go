package rule

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// The types of checks.
const (
	CheckStatusCode          = "StatusCode"          // a list of codes, or one
	CheckResponseContains    = "ResponseContains"    // text in the decoded body
	CheckResponseNotContains = "ResponseNotContains" // text missing from the decoded body
	CheckHeaderContains      = "HeaderContains"      // {header, pattern}, {name, contains} or [name, text]
	CheckRegex               = "Regex"               // found in head and body
	CheckHTTPQL              = "HTTPQL"              // a condition
	CheckRedirectTo          = "RedirectTo"          // text in Location of a 3xx, in any case
	CheckAny                 = "any"                 // a list of {type, value}: one is enough
	CheckAll                 = "all"                 // a list of {type, value}: every one
)

// CheckTypes lists the types that [Check] knows.
func CheckTypes() []string {
	return []string{CheckStatusCode, CheckResponseContains, CheckResponseNotContains, CheckHeaderContains,
		CheckRegex, CheckHTTPQL, CheckRedirectTo, CheckAny, CheckAll}
}

// maxChecks bounds an any or all, and maxNested how deep they stand in each
// other.
const (
	maxChecks = 64
	maxNested = 8
)

// Check compiles a check of the configuration to a condition on responses.
// value has the types that decoding JSON or YAML into any gives; a list of
// codes may be []int too. Errors are *Error.
func Check(kind string, value any) (*httpql.Query, error) { return check(kind, value, 0) }

func check(kind string, value any, depth int) (*httpql.Query, error) {
	switch kind {
	case CheckStatusCode:
		return checkCodes(value)
	case CheckHeaderContains:
		return checkHeader(value)
	case CheckAny, CheckAll:
		return checkSeveral(kind, value, depth)
	}
	text, ok := value.(string)
	switch {
	case !isCheck(kind):
		return nil, unknownType("check", kind, CheckTypes())
	case !ok:
		return nil, badValue(kind+" looks for a text, not for "+describe(value), "write the text in quotes")
	case strings.TrimSpace(text) == "" && kind != CheckResponseContains && kind != CheckResponseNotContains || text == "":
		return nil, badValue("the value of "+kind+" is empty", "write what to look for")
	}
	switch kind {
	case CheckResponseContains:
		return httpql.BodyContains(httpql.Response, text, true), nil
	case CheckResponseNotContains:
		return checkAbsent(text)
	case CheckRegex:
		return checkRegex(text)
	case CheckRedirectTo:
		q, err := httpql.Compare(httpql.RespRedirect, httpql.Cont, text)
		return q, asError(err)
	}
	q, err := httpql.Parse(text)
	return q, asError(err)
}

func isCheck(kind string) bool {
	for _, known := range CheckTypes() {
		if kind == known {
			return true
		}
	}
	return false
}

func badValue(problem, next string) *Error {
	return &Error{Key: "value", Problem: problem, Next: next}
}

// asError is nil for nil.
func asError(err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *httpql.SyntaxError:
		return badValue(fmt.Sprintf("HTTPQL, line %d, column %d: %s", e.Line, e.Column, e.Msg), e.Hint)
	}
	return badValue(err.Error(), "mend it")
}

// checkCodes is never true when the list is empty, which is a mistake.
func checkCodes(value any) (*httpql.Query, error) {
	list, ok := asList(value)
	if !ok {
		list = []any{value}
	}
	if len(list) == 0 {
		return nil, badValue("the list of status codes is empty: the check can never fire", "write the codes of a dead session, such as [401]")
	}
	var codes []int
	for _, v := range list {
		code, ok := asInt(v)
		if !ok || code < 100 || code > 999 {
			return nil, badValue(describe(v)+" is no status code", "write numbers from 100 to 599")
		}
		codes = append(codes, code)
	}
	return httpql.CodeIn(codes...), nil
}

// checkAbsent fires where a response that has a body lacks the text. Answers
// that cannot have one (RFC 9110 §6.4.1) say nothing about the session.
func checkAbsent(text string) (*httpql.Query, error) {
	answered, err := httpql.CompareInt(httpql.RespCode, httpql.Gte, 200)
	if err != nil {
		return nil, asError(err)
	}
	notHead, err := httpql.Compare(httpql.ReqMethod, httpql.Ne, "HEAD")
	if err != nil {
		return nil, asError(err)
	}
	return httpql.And(answered, notHead, httpql.Not(httpql.CodeIn(204, 304)),
		httpql.Not(httpql.BodyContains(httpql.Response, text, true))), nil
}

func checkRegex(text string) (*httpql.Query, error) {
	p, err := compilePattern(text, -1)
	if err != nil {
		return nil, within("value", err)
	}
	if p.match(nil) {
		return nil, badValue("the regex matches the empty text: the check fires on every response", "make it match what only answers of a dead session have")
	}
	q, err := httpql.Compare(httpql.RespRaw, httpql.Regex, text)
	return q, asError(err)
}

func checkHeader(value any) (*httpql.Query, error) {
	name, text := "", ""
	switch v := value.(type) {
	case map[string]any:
		name, text = first(v, "header", "name", "header_name"), first(v, "pattern", "contains", "value")
		if len(v) != 2 {
			name = ""
		}
	default:
		list, _ := asList(value)
		if len(list) == 2 {
			name, _ = list[0].(string)
			text, _ = list[1].(string)
		}
	}
	if !isToken(name) || text == "" {
		return nil, badValue("HeaderContains needs the name of a header and a text", `write {header: WWW-Authenticate, pattern: invalid_token}`)
	}
	return httpql.HeaderContains(httpql.Response, name, text, true), nil
}

func first(m map[string]any, keys ...string) string {
	for _, key := range keys {
		if s, ok := m[key].(string); ok {
			return s
		}
	}
	return ""
}

func checkSeveral(kind string, value any, depth int) (*httpql.Query, error) {
	list, ok := asList(value)
	if !ok || len(list) == 0 || len(list) > maxChecks || depth >= maxNested {
		return nil, badValue(fmt.Sprintf("%s needs a list of 1 to %d checks, at most %d deep", kind, maxChecks, maxNested),
			"write [{type: StatusCode, value: [401]}, …]")
	}
	var parts []*httpql.Query
	for i, v := range list {
		key := fmt.Sprintf("value[%d]", i)
		m, ok := v.(map[string]any)
		if !ok {
			return nil, &Error{Key: key, Problem: describe(v) + " is no check", Next: "write {type: …, value: …}"}
		}
		for k := range m {
			if k != "type" && k != "value" {
				return nil, &Error{Key: key + "." + k, Problem: "a check has no key " + k, Next: "write {type: …, value: …}"}
			}
		}
		name, _ := m["type"].(string)
		q, err := check(name, m["value"], depth+1)
		if err != nil {
			return nil, within(key, err)
		}
		parts = append(parts, q)
	}
	if kind == CheckAny {
		return httpql.Or(parts...), nil
	}
	return httpql.And(parts...), nil
}

func asList(value any) ([]any, bool) {
	switch v := value.(type) {
	case []any:
		return v, true
	case []int:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return list, true
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return list, true
	}
	return nil, false
}

func asInt(v any) (int, bool) {
	switch n := v.(type) {
	case int:
		return n, true
	case int64:
		return int(n), true
	case uint64:
		return int(n), n < math.MaxInt32
	case float64:
		return int(n), n == math.Trunc(n) && math.Abs(n) < math.MaxInt32
	case json.Number:
		i, err := n.Int64()
		return int(i), err == nil
	}
	return 0, false
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("the text %q", v)
	case []any, []int, []string:
		return "a list"
	case map[string]any:
		return "a mapping"
	}
	return fmt.Sprint(v)
}
