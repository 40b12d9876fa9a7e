package rule

import (
	"encoding/base64"
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/script"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The types of sources.
const (
	SourceResponseBody   = "ResponseBody"   // Regex with one group, over the decoded body
	SourceResponseHeader = "ResponseHeader" // header Name; Regex with one group, or the whole value without one
	SourceCookie         = "Cookie"         // the value of a Set-Cookie of that Name that does not delete it
	SourceJSON           = "JSON"           // Path: dotted, or JSONPath from $
	SourceCSS            = "CSS"            // Selector, and an Attribute of what it selects
	SourceXPath          = "XPath"          // XPath, over HTML or XML
	SourceFormField      = "FormField"      // input, textarea or meta of that Name in an HTML body
	SourceBetween        = "Between"        // from Start or Offset to End, or Length bytes
	SourceRedirectURL    = "RedirectURL"    // Param of Location, or Regex with one group over it
	SourceRequestHeader  = "RequestHeader"  // header Name of the request as it was sent
	SourceRequestCookie  = "RequestCookie"  // cookie Name of the request as it was sent
	SourceScript         = "Script"         // what Script returns; Extract knows none, since it runs nothing
)

// Decodings lists what Decode can name.
func Decodings() []string { return []string{DecodeURL, DecodeHTML, DecodeJSON, DecodeBase64} }

// MatchLast is the Match of the last value.
const MatchLast = -1

// MaxMatches is how many values of a place are looked at, and MaxSlowMatches
// how many of a regex that needs the backtracking engine.
const (
	MaxMatches     = 1000
	MaxSlowMatches = 10
)

// What Decode can name.
const (
	DecodeURL    = "url"    // percent-encoding, and + for a space
	DecodeHTML   = "html"   // character references
	DecodeJSON   = "json"   // the escapes of strings in JSON and JavaScript
	DecodeBase64 = "base64" // of either alphabet, padded or not; what is none stays as it is
)

// Source is a place in an answer, or in the request that it answers, that a
// value comes from. The fields are the keys of the configuration. Compile
// readies it; it is immutable afterwards, and any goroutine may use it.
type Source struct {
	Type      string
	Name      string
	Path      string
	Regex     string
	Selector  string
	Attribute string
	XPath     string
	Param     string
	Start     string
	End       string
	Offset    int // bytes from the beginning
	Length    int // bytes

	Script *script.Program

	Match      int      // which of several: 0 and 1 the first, n the n-th, MatchLast
	Decode     []string // what to undo, in order
	Headers    bool     // look at the response's head too, which stands before the body
	IgnoreCase bool     // Start and End are found in any ASCII case

	body    bool
	extract extractor
}

// exchange is what a source looks at.
type exchange struct {
	req  *wire.Request
	resp *wire.Response
	body []byte
	// limit is how many values are of interest.
	limit int
}

// extractor gives the values of a place to yield, in their order, until that
// returns false.
type extractor func(in *exchange, yield func(value string) bool)

// sourceKind is one type of source: the keys that it has, whether it looks at
// the body, and how it is compiled. A new type is a line in sourceKinds and a
// file of its own.
type sourceKind struct {
	name     string
	required []string
	optional []string
	body     bool
	compile  func(s *Source) (extractor, error)
}

// The names of keys that several kinds have.
const (
	keyMatch   = "match"
	keyDecode  = "decode"
	keyHeaders = "headers"
	keyScript  = "script"
)

func sourceKinds() []sourceKind {
	pick := func(more ...string) []string { return append(more, keyMatch, keyDecode) }
	return []sourceKind{
		{SourceResponseBody, []string{"regex"}, pick(keyHeaders), true, compileBody},
		{SourceResponseHeader, []string{"name"}, pick("regex"), false, compileHeader},
		{SourceCookie, []string{"name"}, []string{keyDecode}, false, compileSetCookie},
		{SourceJSON, []string{"path"}, pick(), true, compileJSON},
		{SourceCSS, []string{"selector"}, pick("attribute"), true, compileCSS},
		{SourceXPath, []string{"xpath"}, pick(), true, compileXPath},
		{SourceFormField, []string{"name"}, pick(), true, compileFormField},
		{SourceBetween, nil, pick("start", "end", "offset", "length", keyHeaders, "ignore_case"), true, compileBetween},
		{SourceRedirectURL, nil, pick("param", "regex"), false, compileRedirect},
		{SourceRequestHeader, []string{"name"}, pick("regex"), false, compileRequestHeader},
		{SourceRequestCookie, []string{"name"}, []string{keyDecode}, false, compileRequestCookie},
		{SourceScript, []string{keyScript}, nil, true, func(*Source) (extractor, error) {
			return func(*exchange, func(string) bool) {}, nil
		}},
	}
}

// SourceTypes lists the types that Compile knows.
func SourceTypes() []string {
	var names []string
	for _, k := range sourceKinds() {
		names = append(names, k.name)
	}
	return names
}

// SourceKeys lists the keys that a type of source must have and those that it
// may have, type left out.
func SourceKeys(kind string) (required, optional []string) {
	k, _ := sourceKindOf(kind)
	return k.required, k.optional
}

func sourceKindOf(name string) (sourceKind, bool) {
	kinds := sourceKinds()
	i := slices.IndexFunc(kinds, func(k sourceKind) bool { return k.name == name })
	if i < 0 {
		return sourceKind{}, false
	}
	return kinds[i], true
}

// keyValue is a key of the configuration with its value as text; "" is not
// given.
type keyValue struct{ name, value string }

func (s *Source) keys() []keyValue {
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	flag := func(b bool) string {
		if !b {
			return ""
		}
		return "true"
	}
	return []keyValue{{"name", s.Name}, {"path", s.Path}, {"regex", s.Regex}, {"selector", s.Selector}, {"attribute", s.Attribute},
		{"xpath", s.XPath}, {"param", s.Param}, {"start", s.Start}, {"offset", number(s.Offset)}, {"end", s.End}, {"length", number(s.Length)},
		{keyMatch, number(s.Match)}, {keyDecode, strings.Join(s.Decode, ",")}, {keyHeaders, flag(s.Headers)}, {"ignore_case", flag(s.IgnoreCase)},
		{keyScript, nameOf(s.Script)}}
}

// nameOf is the name of a script; "" of none.
func nameOf(p *script.Program) string {
	if p == nil {
		return ""
	}
	return p.Name()
}

// Compile checks the source and readies it for Extract. Errors are *Error.
func (s *Source) Compile() error {
	kind, ok := sourceKindOf(s.Type)
	if !ok {
		return unknownType("source", s.Type, SourceTypes())
	}
	if err := checkKeys("source", s.Type, s.keys(), kind.required, kind.optional); err != nil {
		return err
	}
	if s.Match < MatchLast || s.Match > MaxMatches {
		return &Error{Key: keyMatch, Problem: fmt.Sprintf("there is no match %d", s.Match), Next: fmt.Sprintf("write first, last, or a number from 1 to %d", MaxMatches)}
	}
	for _, d := range s.Decode {
		if !slices.Contains(Decodings(), d) {
			return &Error{Key: keyDecode, Problem: fmt.Sprintf("there is no decode %q", d), Next: "write one of " + strings.Join(Decodings(), ", ") + ", or several in the order in which they are undone"}
		}
	}
	extract, err := kind.compile(s)
	if err != nil {
		return err
	}
	s.body, s.extract = kind.body, extract
	return nil
}

// checkKeys reports a key that is missing or that means nothing for the type.
func checkKeys(what, kind string, keys []keyValue, required, optional []string) error {
	for _, key := range keys {
		switch {
		case key.value == "" && slices.Contains(required, key.name):
			return &Error{Key: key.name, Problem: "a " + kind + " " + what + " needs a " + key.name, Next: "add it"}
		case key.value != "" && !slices.Contains(required, key.name) && !slices.Contains(optional, key.name):
			return &Error{Key: key.name, Problem: "a " + kind + " " + what + " has no " + key.name, Next: "leave it out, or choose another type"}
		}
	}
	return nil
}

func unknownType(what, got string, known []string) *Error {
	problem := "there is no " + what + " type " + got
	if got == "" {
		problem = "the " + what + " has no type"
	}
	return &Error{Key: "type", Problem: problem, Next: "write one of " + strings.Join(known, ", ")}
}

// NeedsBody reports whether Extract looks at the body. It is false before
// Compile.
func (s *Source) NeedsBody() bool { return s.body }

// FromRequest reports whether the value comes from the request and not from the
// response.
func (s *Source) FromRequest() bool {
	return s.Type == SourceRequestHeader || s.Type == SourceRequestCookie
}

// Extract takes the value out of an exchange: the request as it was sent, the
// response to it, and the response's decoded payload, nil when there is none.
// It is false when the place is not there or is empty, and before Compile.
func (s *Source) Extract(req *wire.Request, resp *wire.Response, body []byte) (value string, ok bool) {
	if s.extract == nil {
		return "", false
	}
	in := &exchange{req: req, resp: resp, body: body, limit: 1}
	if s.Match > 1 || s.Match == MatchLast {
		in.limit = MaxMatches
	}
	found := 0
	s.extract(in, func(v string) bool {
		if v = s.decoded(v); v == "" {
			return true
		}
		found++
		if s.Match <= 1 || found == s.Match {
			value, ok = v, true
		}
		return found < MaxMatches && (!ok || s.Match == MatchLast)
	})
	return value, ok
}

func (s *Source) decoded(v string) string {
	for _, d := range s.Decode {
		switch d {
		case DecodeURL:
			v = unescape(v, true)
		case DecodeHTML:
			v = html.UnescapeString(v)
		case DecodeJSON:
			v = unescapeString(v)
		case DecodeBase64:
			v = unbase64(v)
		}
	}
	return v
}

// unescapeString undoes what stands behind backslashes: JSON's escapes (RFC
// 8259 §7), and those that JavaScript has besides.
func unescapeString(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		digits := map[byte]int{'u': 4, 'x': 2}[s[i]]
		if digits > 0 && i+digits < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32); err == nil {
				out.WriteRune(rune(n))
				i += digits
				continue
			}
		}
		if at := strings.IndexByte("nrtbfv", s[i]); at >= 0 {
			out.WriteByte("\n\r\t\b\f\v"[at])
			continue
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

func unbase64(s string) string {
	text := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(s), "="))
	if raw, err := base64.RawStdEncoding.DecodeString(text); err == nil {
		return string(raw)
	}
	return s
}

// String describes the source for messages, such as "JSON path accessToken".
func (s *Source) String() string {
	var b strings.Builder
	b.WriteString(s.Type)
	for _, key := range s.keys() {
		if key.value != "" {
			b.WriteString(" " + key.name + " " + key.value)
		}
	}
	return b.String()
}

// equalFold compares in any ASCII case without allocating.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// isToken reports whether s can be the name of a header or a cookie (RFC 9110
// §5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
