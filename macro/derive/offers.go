package derive

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The ranks of sources, the one that is least likely to break first: names that
// the application's own code depends on, then the shape of documents, then
// what happens to stand around a value.
const (
	rankNamed  = iota + 1 // a form field, a meta element, a redirect's parameter
	rankJSON              // a path in JSON
	rankCSS               // an element by its id or attribute
	rankHeader            // a header, a cookie
	rankText              // anchors around it
	rankStray             // by whatever stands before it
)

// The limits of one answer.
const (
	maxOffers   = 4000
	maxOffered  = 16 << 10 // bytes of a value
	maxScanned  = 2 << 20  // bytes of a body that anchors are looked for in
	maxElements = 20000
)

// offer is a value that an answer brought, and where from.
type offer struct {
	value  string
	name   string // what the answer calls it; may be ""
	source rule.Source
	rank   int
}

// answer is a recorded answer, as it is searched for values.
type answer struct {
	req    *wire.Request
	resp   *wire.Response
	body   []byte
	offers []offer
	byText map[string][]int // offers by value
	known  map[sought]best  // what was looked for
	html   bool
}

// offersOf reads an answer; nil where none was recorded.
func offersOf(req *wire.Request, resp *wire.Response, body []byte) *answer {
	if resp == nil {
		return nil
	}
	a := &answer{req: req, resp: resp, body: body, byText: make(map[string][]int)}
	a.location()
	a.head()
	media := strings.ToLower(string(resp.Combined("Content-Type")))
	trimmed := bytes.TrimLeft(body, " \t\r\n\ufeff")
	switch {
	case len(trimmed) == 0:
	case strings.Contains(media, "json") || trimmed[0] == '{' || trimmed[0] == '[' || bytes.HasPrefix(trimmed, []byte(")]}'")):
		a.json()
	case trimmed[0] == '<' || strings.Contains(media, "html"):
		a.html = true
		a.page()
	}
	a.strings()
	for i := range a.offers {
		o := &a.offers[i]
		a.byText[o.value] = append(a.byText[o.value], i)
	}
	return a
}

func answerOf(x *convert.Exchange) *answer { return offersOf(x.Request, x.Response, x.ResponseBody) }

// add notes a value, and what it is when an encoding is undone.
func (a *answer) add(o offer) {
	if o.value == "" || len(o.value) > maxOffered || len(a.offers) >= maxOffers {
		return
	}
	a.offers = append(a.offers, o)
	undo := func(plain, word string) {
		if plain != o.value && plain != "" && isText(plain) && len(a.offers) < maxOffers {
			other := o
			other.value, other.rank = plain, min(o.rank+1, rankStray)
			other.source.Decode = append(slices.Clone(o.source.Decode), word)
			a.offers = append(a.offers, other)
		}
	}
	if strings.IndexByte(o.value, '%') >= 0 {
		plain, _ := unescape(o.value, true)
		undo(plain, rule.DecodeURL)
	}
	if strings.IndexByte(o.value, '&') >= 0 {
		undo(html.UnescapeString(o.value), rule.DecodeHTML)
	}
	if strings.IndexByte(o.value, '\\') >= 0 {
		plain, _ := unescapeJSON(o.value)
		undo(plain, rule.DecodeJSON)
	}
	if len(o.value) >= 8 {
		if plain, ok := unbase64(o.value); ok && len(plain) >= 6 {
			undo(plain, rule.DecodeBase64)
		}
	}
}

func unbase64(s string) (string, bool) {
	trimmed := strings.TrimRight(s, "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(trimmed, "-_") {
		encoding = base64.RawURLEncoding
	}
	raw, err := encoding.DecodeString(trimmed)
	return string(raw), err == nil
}

// location is the address of a redirect: its parameters, and what is long in
// its path.
func (a *answer) location() {
	value, ok := a.resp.Get("Location")
	if !ok || a.resp.Status()/100 != 3 {
		return
	}
	text := string(value)
	place, fragment, _ := strings.Cut(text, "#")
	path, query, _ := strings.Cut(place, "?")
	for _, pairs := range []string{query, strings.TrimPrefix(fragment, "?")} {
		for pair := range strings.SplitSeq(pairs, "&") {
			name, v, ok := strings.Cut(pair, "=")
			if !ok {
				continue
			}
			name, _ = unescape(name, true)
			v, _ = unescape(v, true)
			a.add(offer{value: v, name: name, rank: rankNamed, source: rule.Source{Type: rule.SourceRedirectURL, Param: name}})
		}
	}
	if _, rest, ok := strings.Cut(path, "://"); ok {
		_, path, _ = strings.Cut(rest, "/")
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if !looksMade(segment) {
			continue
		}
		before := "/"
		for n := i - 1; n >= 0; n-- { // to a name: other tokens will be others the next time
			if !looksMade(segments[n]) {
				before = regexp.QuoteMeta(segments[n]) + before
				break
			}
			before = "/[^/?#]+" + before
		}
		a.add(offer{value: segment, rank: rankText, source: rule.Source{Type: rule.SourceRedirectURL, Regex: before + "([^/?#]+)"}})
	}
	a.add(offer{value: text, name: "location", rank: rankHeader, source: rule.Source{Type: rule.SourceResponseHeader, Name: "Location"}})
}

// quotedParameter is a value inside a field such as WWW-Authenticate.
var quotedParameter = regexp.MustCompile(`([A-Za-z][A-Za-z0-9_-]*)="([^"]{6,})"`)

// head offers the fields of the answer and the cookies that it sets.
func (a *answer) head() {
	for i := range a.resp.NumFields() {
		n, v := a.resp.Field(i)
		name, value := string(n), string(v)
		switch strings.ToLower(name) {
		case "set-cookie":
			pair, _, _ := strings.Cut(value, ";")
			cookie, content, ok := strings.Cut(pair, "=")
			if ok {
				cookie = strings.TrimSpace(cookie)
				a.add(offer{value: strings.TrimSpace(content), name: cookie, rank: rankHeader, source: rule.Source{Type: rule.SourceCookie, Name: cookie}})
			}
			continue
		case "", "location", "date", "server", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "cache-control",
			"expires", "last-modified", "etag", "vary", "pragma", "strict-transport-security", "content-security-policy", "keep-alive", "age", "via", "alt-svc",
			"permissions-policy", "referrer-policy", "x-frame-options", "x-content-type-options", "x-xss-protection", "content-language", "accept-ranges",
			"access-control-allow-origin", "access-control-allow-headers", "access-control-allow-methods", "report-to", "nel":
			continue
		}
		a.add(offer{value: value, name: name, rank: rankHeader, source: rule.Source{Type: rule.SourceResponseHeader, Name: name}})
		if scheme, token, ok := strings.Cut(value, " "); ok && !strings.Contains(token, " ") && len(token) >= 8 {
			a.add(offer{value: token, name: name, rank: rankHeader, source: rule.Source{Type: rule.SourceResponseHeader, Name: name, Regex: "^" + regexp.QuoteMeta(scheme) + " (.+)"}})
		}
		for _, m := range quotedParameter.FindAllStringSubmatch(value, 50) {
			a.add(offer{value: m[2], name: m[1], rank: rankHeader, source: rule.Source{Type: rule.SourceResponseHeader, Name: name, Regex: regexp.QuoteMeta(m[1]) + `="([^"]+)"`}})
		}
	}
}

// json offers the leaves of a JSON body.
func (a *answer) json() {
	body := a.body
	if i := bytes.IndexAny(body, "{["); i > 0 && i < 16 { // the guard before it
		body = body[i:]
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return
	}
	a.leaves(v, "$", "", 0)
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

func (a *answer) leaves(v any, path, name string, depth int) {
	if depth > maxJSONDepth/2 || len(a.offers) >= maxOffers {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			next := path + "." + key
			if !plainKey.MatchString(key) {
				next = path + "['" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(key) + "']"
			}
			a.leaves(v[key], next, key, depth+1)
		}
	case []any:
		for i, element := range v {
			a.leaves(element, path+"["+strconv.Itoa(i)+"]", name, depth+1)
		}
	case string:
		a.leaf(v, path, name)
	case json.Number:
		a.leaf(v.String(), path, name)
	}
}

func (a *answer) leaf(value, path, name string) {
	a.add(offer{value: value, name: name, rank: rankJSON, source: rule.Source{Type: rule.SourceJSON, Path: path}})
}

// page offers the fields of forms, meta elements, attributes and addresses of an
// HTML body.
func (a *answer) page() {
	z := html.NewTokenizer(bytes.NewReader(a.body))
	for range maxElements {
		kind := z.Next()
		if kind == html.ErrorToken {
			return
		}
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
			continue
		}
		t := z.Token()
		attributes := make(map[string]string, len(t.Attr))
		for _, x := range t.Attr {
			if _, twice := attributes[x.Key]; !twice {
				attributes[x.Key] = x.Val
			}
		}
		if t.Data == "textarea" && z.Next() == html.TextToken {
			a.field(attributes["name"], string(bytes.TrimPrefix(z.Text(), []byte("\n"))))
			continue
		}
		a.element(t.Data, attributes)
	}
}

func (a *answer) field(name, value string) {
	if name != "" {
		a.add(offer{value: value, name: name, rank: rankNamed, source: rule.Source{Type: rule.SourceFormField, Name: name}})
	}
}

func (a *answer) element(tag string, attributes map[string]string) {
	switch tag {
	case "input":
		a.field(attributes["name"], attributes["value"])
	case "meta":
		a.field(attributes["name"], attributes["content"])
	}
	name, id := attributes["name"], attributes["id"]
	keys := make([]string, 0, len(attributes))
	for key := range attributes {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := attributes[key]
		if value == "" || key == "class" || key == "id" || key == "style" || key == "name" || key == "type" {
			continue
		}
		if key == "href" || key == "action" || key == "src" {
			a.address(tag, key, value)
		}
		var selector string
		switch {
		case plainKey.MatchString(id):
			selector = tag + "#" + id
		case name != "" && !strings.ContainsAny(name, `"\`):
			selector = tag + `[name="` + name + `"]`
		case strings.HasPrefix(key, "data-") && plainKey.MatchString(key):
			selector = tag + "[" + key + "]"
		default:
			continue
		}
		if tag == "meta" && attributes["property"] != "" && !strings.ContainsAny(attributes["property"], `"\`) {
			selector = `meta[property="` + attributes["property"] + `"]`
		}
		called := key
		if key == "value" || key == "content" {
			called = name + attributes["property"]
		}
		a.add(offer{value: value, name: strings.TrimPrefix(called, "data-"), rank: rankCSS, source: rule.Source{Type: rule.SourceCSS, Selector: selector, Attribute: key}})
	}
}

// address offers the parameters of a URL in a page. They are written with
// character references there.
func (a *answer) address(tag, key, value string) {
	_, query, ok := strings.Cut(value, "?")
	if !ok {
		return
	}
	query, _, _ = strings.Cut(query, "#")
	for pair := range strings.SplitSeq(query, "&") {
		name, v, ok := strings.Cut(pair, "=")
		plainName, _ := unescape(name, true)
		if !ok || v == "" || constant(plainName) {
			continue
		}
		o := offer{value: v, name: plainName, rank: rankText, source: rule.Source{Type: rule.SourceResponseBody,
			Regex: `<` + tag + `\s[^>]*` + key + `=["'][^"'>]*[?&;]` + regexp.QuoteMeta(name) + `=([^"'&#]+)`}}
		if plain, _ := unescape(v, true); plain != v {
			o.value, o.source.Decode = plain, []string{rule.DecodeURL}
		}
		a.add(o)
	}
}

// assigned is a name with a quoted value behind it, as scripts and JSON inside of
// pages have them. A bound above would be a thousand copies of what is repeated, in
// memory all the time: longest is for that.
var assigned = regexp.MustCompile(`([A-Za-z_$][A-Za-z0-9_$-]*)(["']?\s*[:=]\s*)(["'])((?:[^"'\\\r\n]|\\.){3,})["']`)

// longest is how long a quoted value of a script is, in bytes; longer ones are texts.
const longest = 1000

// strings offers quoted values of scripts, by the name before them.
func (a *answer) strings() {
	if !bytes.ContainsAny(a.body, `"'`) {
		return
	}
	text := a.body[:min(len(a.body), maxScanned)]
	for _, m := range assigned.FindAllSubmatch(text, 2000) {
		if len(m[4]) > longest {
			continue
		}
		name, value := string(m[1]), string(m[4])
		if attributeName(name) && a.html && !bytes.ContainsAny(m[2], ":\"' ") {
			continue // an attribute, which has been read as one
		}
		source := rule.Source{Type: rule.SourceResponseBody, Regex: `\b` + regexp.QuoteMeta(name) + `["']?\s*[:=]\s*["']([^"']+)["']`}
		if name[0] == '$' {
			source.Regex = strings.TrimPrefix(source.Regex, `\b`)
		}
		a.add(offer{value: value, name: name, rank: rankText, source: source})
	}
}

func attributeName(name string) bool {
	switch strings.ToLower(name) {
	case "value", "content", "name", "id", "class", "href", "src", "action", "type", "method", "rel", "style", "charset", "lang", "placeholder", "for", "alt", "title":
		return true
	}
	return strings.HasPrefix(name, "data-")
}

// maxTried is how many sources of one value in one answer are tried: a short
// value stands in many places of a script.
const maxTried = 8

// sought is what was looked for in an answer, and best what was found.
type sought struct {
	value, name string
	named       bool
}

type best struct {
	source *rule.Source // nil: none
	rank   int
	name   string
}

// find is the best source of a value in the answer, compiled, and tried on it.
// name is what the request calls the value; named wants the answer to call it
// the same.
func (a *answer) find(value, name string, named bool) (*rule.Source, int, string) {
	if len(a.byText[value]) == 0 {
		return nil, 0, ""
	}
	what := sought{value, name, named}
	b, ok := a.known[what]
	if !ok {
		b = a.seek(what)
		if a.known == nil {
			a.known = make(map[sought]best)
		}
		a.known[what] = b
	}
	return b.source, b.rank, b.name
}

func (a *answer) seek(what sought) (b best) {
	score := 0
	tried := make(map[string]bool)
	for _, i := range a.byText[what.value] {
		o := &a.offers[i]
		s := o.rank * 2
		if !sameName(o.name, what.name) {
			s++
			if what.named {
				continue
			}
		}
		text := o.source.String()
		if b.source != nil && s >= score || tried[text] {
			continue
		}
		if len(tried) >= maxTried {
			break
		}
		tried[text] = true
		if source, ok := a.check(o.source, what.value); ok {
			b, score = best{&source, o.rank, o.name}, s
		}
	}
	return b
}

// Locate finds the place of an answer whose value this is: of several the one
// that is called the same and that is least likely to break. A text that stands
// at no place of its own is not found.
func Locate(x *convert.Exchange, value, name string) (rule.Source, bool) {
	if x.Response == nil {
		return rule.Source{}, false
	}
	source, _, _ := answerOf(x).find(value, name, !looksMade(value))
	if source == nil {
		return rule.Source{}, false
	}
	return *source, true
}

// check compiles a source and has it say which of several matches is meant.
func (a *answer) check(source rule.Source, value string) (rule.Source, bool) {
	most := 50
	if source.Type == rule.SourceCookie {
		most = 1
	}
	for n := range most {
		try := source
		if n > 0 {
			try.Match = n + 1
		}
		if try.Compile() != nil {
			return source, false
		}
		got, ok := try.Extract(a.req, a.resp, a.body)
		if !ok {
			return source, false
		}
		if got == value {
			return try, true
		}
	}
	return source, false
}

// search looks for a value that no offer has as raw text, in the body, and takes
// it from between what stands around it.
func (a *answer) search(value string) (*rule.Source, bool) {
	if len(value) < 6 {
		return nil, false
	}
	text := a.body[:min(len(a.body), maxScanned)]
	for _, form := range encodings(value) {
		at := bytes.Index(text, []byte(form.text))
		for tries := 0; at >= 0 && tries < 20; tries++ {
			if source, ok := a.between(text, at, at+len(form.text), value, form.decode); ok {
				return source, true
			}
			next := bytes.Index(text[at+1:], []byte(form.text))
			if next < 0 {
				break
			}
			at += 1 + next
		}
	}
	return nil, false
}

type encodedForm struct {
	text   string
	decode []string
}

// encodings are the ways in which pages and scripts write a value.
func encodings(value string) []encodedForm {
	forms := []encodedForm{{value, nil}}
	add := func(text string, decode ...string) {
		if text != value && !slices.ContainsFunc(forms, func(f encodedForm) bool { return f.text == text }) {
			forms = append(forms, encodedForm{text, decode})
		}
	}
	upper := string(rule.EncodeURL.Append(nil, value))
	add(upper, rule.DecodeURL)
	add(strings.ToLower(upper), rule.DecodeURL)
	add(html.EscapeString(value), rule.DecodeHTML)
	add(strings.NewReplacer("&", "&amp;", "=", "&#x3D;", "/", "&#x2F;", "+", "&#43;", "'", "&#x27;").Replace(value), rule.DecodeHTML)
	add(string(rule.EncodeJSON.Append(nil, value)), rule.DecodeJSON)
	add(strings.ReplaceAll(string(rule.EncodeJSON.Append(nil, value)), "/", `\/`), rule.DecodeJSON)
	if raw, err := json.Marshal(value); err == nil {
		add(string(raw[1:len(raw)-1]), rule.DecodeJSON)
	}
	add(base64.StdEncoding.EncodeToString([]byte(value)), rule.DecodeBase64)
	add(base64.RawURLEncoding.EncodeToString([]byte(value)), rule.DecodeBase64)
	return forms
}

// maxAnchor is how much of what stands before a value is taken at most, in
// bytes.
const maxAnchor = 80

// between makes a Between source of a stretch of the body. What stands before
// it is taken to the last word, and to further ones until it is the only place,
// or else its number is said.
func (a *answer) between(text []byte, from, to int, value string, decode []string) (*rule.Source, bool) {
	var end string
	if to < len(text) {
		end = string(text[to : to+1])
	}
	if end != "" && (strings.Contains(string(text[from:to]), end) || end[0] >= 0x80 || end[0] < ' ' && end != "\n" || isWord(end[0])) {
		return nil, false
	}
	words := 0
	var last *rule.Source
	try := func(start int) (only bool) {
		if anchor := string(text[start:from]); anchor != "" && isText(anchor) {
			if checked, ok := a.check(rule.Source{Type: rule.SourceBetween, Start: anchor, End: end, Decode: decode}, value); ok {
				last = &checked
				return checked.Match == 0
			}
		}
		return false
	}
	begin := from // of the word that is being read
	for start := from - 1; start >= 0 && from-start <= maxAnchor && text[start] != '\n' && text[start] != '\r' && text[start] < 0x80; start-- {
		if !isWord(text[start]) {
			begin = start
			continue
		}
		if start > 0 && isWord(text[start-1]) {
			continue
		}
		words++
		if looksMade(string(text[start:begin])) {
			break // another value of the kind, which will be another one the next time
		}
		if try(start) || words >= 6 {
			break
		}
	}
	if last == nil {
		// The signs alone that stand before it, and which of many.
		start := from
		for start > 0 && from-start < maxAnchor && !isWord(text[start-1]) && text[start-1] < 0x80 && text[start-1] >= ' ' {
			start--
		}
		try(start)
	}
	return last, last != nil
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// sameName compares names as people spell them: csrf_token, csrfToken,
// X-CSRF-Token.
func sameName(a, b string) bool {
	return a != "" && b != "" && plainName(a) == plainName(b)
}

func plainName(s string) string {
	s = strings.TrimPrefix(strings.ToLower(s), "x-")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

// looksMade reports whether a value looks like one that a program made, and not
// like one that a person wrote: such a value is looked for everywhere, others
// only under their own name.
func looksMade(v string) bool {
	if len(v) < 6 || strings.ContainsAny(v, " \t\r\n<>") || strings.Contains(v, "://") {
		return false
	}
	if strings.HasPrefix(v, "/") && (!strings.HasSuffix(v, "=") || strings.ContainsAny(v, "?&.")) {
		return false // a path; base64 may begin so, too
	}
	var digits, lower, upper, other int
	for i := range len(v) {
		switch c := v[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'z':
			lower++
		case c >= 'A' && c <= 'Z':
			upper++
		default:
			other++
		}
	}
	switch {
	case digits == len(v):
		return true
	case digits > 0 && lower+upper > 0:
		return len(v) >= 8 || digits > 1
	case lower > 0 && upper > 1:
		return len(v) >= 16 && other == 0
	}
	return len(v) >= 20 && other == 0
}
