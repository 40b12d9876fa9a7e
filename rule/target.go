package rule

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/antchfx/xpath"

	"github.com/holdfast-proxy/holdfast/script"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The types of targets.
const (
	TargetRequestHeader = "RequestHeader" // the first field of that Name
	TargetCookie        = "Cookie"        // the first cookie of that Name in the Cookie fields
	TargetQueryParam    = "QueryParam"    // the first parameter of that Name in the URL
	TargetFormParam     = "FormParam"     // the first parameter of that Name in a form body
	TargetJSON          = "JSON"          // the value at a Pointer in a JSON body
	TargetXML           = "XML"           // the text or attribute that an XPath selects in an XML body
	TargetMultipart     = "Multipart"     // the content of the first part of that Name
	TargetPathSegment   = "PathSegment"   // a Segment of the path
	TargetPlaceholder   = "Placeholder"   // a Text, wherever it stands
	TargetBody          = "Body"          // the group of a Regex in the body
)

// What a target does when its place is not in the request; "" is IfAbsentAdd
// where the place can be added.
const (
	IfAbsentAdd  = "add"
	IfAbsentSkip = "skip"
)

// Target is a place in a request that a token goes to. The fields are the keys
// of the configuration. Compile readies it; it is immutable afterwards, and any
// goroutine may use it.
//
// Where a name stands several times, the first is changed: it is the one that
// origins take, and for cookies the one with the most specific path. Of members
// of a JSON object with one name it is the last.
type Target struct {
	Type     string
	Name     string
	Pointer  string // RFC 6901
	XPath    string
	Segment  int // from 1; negative counts from the end
	Text     string
	Regex    string
	Template *Template // nil: the value alone
	// Script computes the value from the request as it is when everything else
	// has been put in; nil: the value is the token's.
	Script   *script.Program
	IfAbsent string

	token string
	place targetPlace
	label string // of Place

	pointer []string
	path    *xpath.Expr
	pattern *pattern
}

// Message is a request as targets look at it and edit it. No two goroutines may
// use it at once.
type Message struct {
	Request *wire.Request
	// Body is the payload, without chunks and without a content coding; nil
	// when there is none, or when it is not held. An edit makes a new one.
	Body []byte
	// Editor gives the request that may be changed, right before the first
	// change to it; Request may be changed itself if it is nil.
	Editor interface{ Edit() *wire.Request }
	room   []byte // for the text that a place should hold
}

// Renew has the message stand for another request with its body. Memory for
// texts stays.
func (m *Message) Renew(r *wire.Request, body []byte) { m.Request, m.Body = r, body }

// edit has the request be one that may be changed.
func (m *Message) edit() {
	if m.Editor != nil {
		m.Request = m.Editor.Edit()
	}
}

// maxRoom is how many bytes of memory for texts a message keeps.
const maxRoom = 4 << 10

// text is empty room for a text. It holds until text is called again.
func (m *Message) text(size int) []byte {
	if m == nil || size > maxRoom {
		return make([]byte, 0, size)
	}
	if cap(m.room) < size {
		m.room = make([]byte, 0, size)
	}
	return m.room[:0]
}

// targetPlace reads and writes one kind of place. Texts are as they stand in
// the request; a place that encodes does so in render and undoes it in plain.
type targetPlace struct {
	prefix string // of Place
	key    string // the key that says where
	fold   bool   // names are compared in any case
	body   bool   // looks at the body
	path   bool   // looks at the path
	fixed  bool   // cannot be added to a request that lacks it
	loose  bool   // a text that is encoded in another way means the same
	trims  bool   // white space around a value is no part of it
	check  func(t *Target) error
	// find is the text in the place now.
	find func(m *Message, t *Target) (text []byte, ok bool)
	// put replaces that text, or adds the place; false when the request cannot
	// have one.
	put func(m *Message, t *Target, text []byte) (bool, error)
	// render encodes a part of the template, or the text of one.
	render func(m *Message, dst []byte, encoding Encoding, value string) []byte
	plain  func(m *Message, text string) string
	refuse func(m *Message, text []byte) string // says why the text cannot stand there
	drop   func(m *Message, t *Target)          // takes the place out; nil: it cannot be
}

func targetPlaces(kind string) (targetPlace, bool) {
	switch kind {
	case TargetRequestHeader:
		return headerPlace(), true
	case TargetCookie:
		return cookiePlace(), true
	case TargetQueryParam:
		return queryPlace(), true
	case TargetFormParam:
		return formPlace(), true
	case TargetJSON:
		return jsonPlace(), true
	case TargetXML:
		return xmlPlace(), true
	case TargetMultipart:
		return multipartPlace(), true
	case TargetPathSegment:
		return segmentPlace(), true
	case TargetPlaceholder:
		return placeholderPlace(), true
	case TargetBody:
		return bodyPlace(), true
	}
	return targetPlace{}, false
}

// TargetTypes lists the types that Compile knows.
func TargetTypes() []string {
	return []string{TargetRequestHeader, TargetCookie, TargetQueryParam, TargetFormParam, TargetJSON, TargetXML, TargetMultipart,
		TargetPathSegment, TargetPlaceholder, TargetBody}
}

// TargetKey is the key that says where a target of the type is, and whether it
// can be added to a request that lacks it.
func TargetKey(kind string) (key string, addable bool) {
	place, _ := targetPlaces(kind)
	return place.key, !place.fixed
}

// Compile checks the target. token is the variable that goes there, and a
// template must name it; "" stands for the template's only variable. Errors are
// *Error.
func (t *Target) Compile(token string) error {
	if err := t.compilePlace(); err != nil {
		return err
	}
	if t.Template != nil {
		names := t.Template.Names()
		if token == "" && len(names) == 1 {
			token = names[0]
		}
		if token == "" {
			return &Error{Key: "template", Problem: "the template names no variable, or several", Next: "write {{NAME}} where the value goes"}
		}
		if !slices.Contains(names, token) {
			return &Error{Key: "template", Problem: "the template does not name its own token", Next: "write {{" + token + "}} where the value goes"}
		}
	}
	t.token = token
	return nil
}

// compilePlace is Compile for a target whose template, where it has one, says
// all of the value.
func (t *Target) compilePlace() error {
	place, ok := targetPlaces(t.Type)
	if !ok {
		return unknownType("target", t.Type, TargetTypes())
	}
	segment := ""
	if t.Segment != 0 {
		segment = strconv.Itoa(t.Segment)
	}
	keys := []keyValue{{"name", t.Name}, {"pointer", t.Pointer}, {"xpath", t.XPath}, {"segment", segment}, {"text", t.Text}, {"regex", t.Regex}}
	if err := checkKeys("target", t.Type, keys, []string{place.key}, nil); err != nil {
		return err
	}
	if place.check != nil {
		if err := place.check(t); err != nil {
			return within(place.key, err)
		}
	}
	switch {
	case t.IfAbsent != "" && t.IfAbsent != IfAbsentAdd && t.IfAbsent != IfAbsentSkip:
		return &Error{Key: "if_absent", Problem: fmt.Sprintf("there is no if_absent %q", t.IfAbsent), Next: "write add or skip"}
	case t.IfAbsent == IfAbsentAdd && place.fixed:
		return &Error{Key: "if_absent", Problem: "a " + t.Type + " target cannot be added to a request that lacks it", Next: "leave if_absent out"}
	}
	t.place = place
	for _, key := range keys {
		if key.name == place.key {
			t.label = place.prefix + key.value
		}
	}
	if place.fold {
		t.label = place.prefix + strings.ToLower(t.Name)
	}
	return nil
}

// tokenName checks a name that stands in the head.
func tokenName(t *Target) error {
	if !isToken(t.Name) {
		return &Error{Problem: fmt.Sprintf("%q is no name for a %s target", t.Name, t.Type), Next: "write the name alone, without = or :"}
	}
	return nil
}

// Place names the place in one word, "header:authorization", "cookie:sid" or
// "json:/auth/token": what traces call it. It is "" before Compile.
func (t *Target) Place() string { return t.label }

// NeedsBody reports whether the target looks at the body. It is false before
// Compile.
func (t *Target) NeedsBody() bool { return t.place.body }

// InPath reports whether the target can put its value into the path, which
// traces show.
func (t *Target) InPath() bool { return t.place.path }

// HidePath is a path without what the target puts there.
func (t *Target) HidePath(path string) string {
	if t.Type != TargetPathSegment {
		return path
	}
	at, ok := segmentAt([]byte(path), t.Segment)
	if !ok {
		return path
	}
	return path[:at.from] + "{{" + t.token + "}}" + path[at.to:]
}

// Inject puts the value into its place and changes no other byte; what the
// length of a body says in the head is left to the caller. Other variables that
// the template names are looked up with lookup, which may be nil when there are
// none. It reports whether a byte changed. The request is as it was when there
// is an error (*Error): a variable of the template without a value, or a value
// that cannot stand in the place.
func (t *Target) Inject(m *Message, value string, lookup func(name string) (string, bool)) (changed bool, err error) {
	if t.place.put == nil || t.place.body && !t.place.path && m.Body == nil {
		return false, nil
	}
	if t.Type == TargetPlaceholder {
		return t.replaceText(m, value, lookup)
	}
	now, present := t.find(m)
	if !present && (t.IfAbsent == IfAbsentSkip || t.place.fixed) {
		return false, nil
	}
	want, err := t.want(m, now, present, value, lookup)
	if err != nil {
		return false, err
	}
	if present && t.same(m, now, want) {
		return false, nil
	}
	m.edit()
	changed, err = t.place.put(m, t, want)
	if err != nil {
		return false, &Error{Problem: "the value cannot stand in " + t.Place() + ": " + err.Error(), Next: "look at what the token's source takes, and at the requests in the rule's scope"}
	}
	return changed, nil
}

// Holds reports whether the request carries the value in the place already, so
// that Inject would change nothing. lookup may be nil.
func (t *Target) Holds(m *Message, value string, lookup func(name string) (string, bool)) bool {
	now, present := t.find(m)
	if !present {
		return false
	}
	want, err := t.want(m, now, present, value, lookup)
	return err == nil && t.same(m, now, want)
}

// Current is what the request carries in the place now, decoded, without the
// template's text or the scheme around it where they fit; false when the place
// is absent. After Inject(value) it is value, without the white space around it
// in a header or cookie, and without the scheme of a value for Authorization
// that brought its own. Of a placeholder it is always absent.
func (t *Target) Current(m *Message) (string, bool) {
	now, present := t.find(m)
	if !present {
		return "", false
	}
	text := t.place.plain(m, string(now))
	if t.Template != nil {
		if value, ok := t.Template.strip(text); ok {
			return value, true
		}
		return text, true
	}
	if t.keepsScheme() {
		return text[schemeLen(text):], true
	}
	return text, true
}

// Whole is what the request carries in the place now, decoded, with the
// template's text or the scheme around it; false when the place is absent.
func (t *Target) Whole(m *Message) (string, bool) {
	now, present := t.find(m)
	if !present {
		return "", false
	}
	return t.place.plain(m, string(now)), true
}

func (t *Target) find(m *Message) ([]byte, bool) {
	if t.place.find == nil || t.place.body && m.Body == nil {
		return nil, false
	}
	return t.place.find(m, t)
}

// same reports whether two texts mean one value. A text that is encoded in
// another way than ours is left as the client wrote it.
func (t *Target) same(m *Message, now, want []byte) bool {
	if bytes.Equal(now, want) {
		return true
	}
	if t.Type == TargetJSON && (!isJSONText(now) || !isJSONText(want)) {
		return false // 1 is not "1"
	}
	return t.place.loose && !t.writesRaw() && t.place.plain(m, string(now)) == t.place.plain(m, string(want))
}

func (t *Target) writesRaw() bool {
	return t.Template != nil && slices.ContainsFunc(t.Template.parts, func(p Part) bool { return p.Encoding == EncodeRaw })
}

// want is the text that the place should hold.
func (t *Target) want(m *Message, now []byte, present bool, value string, lookup func(string) (string, bool)) ([]byte, error) {
	var text []byte
	var err error
	switch {
	case t.keepsScheme():
		text = withScheme(m.text(len(now)+len(value)+len("Bearer ")), now, present, value)
	default:
		text, err = t.fill(m, value, lookup)
	}
	if err == nil && t.Type == TargetJSON {
		text, err = t.wantJSON(now, present, text, value, lookup)
	}
	if err != nil {
		return nil, err
	}
	if t.place.trims {
		text = trimOWS(text)
	}
	if why := t.place.refuse(m, text); why != "" {
		return nil, &Error{Problem: "the value cannot stand in " + t.Place() + ": it contains " + why, Next: "encode it in a template, such as {{url:" + t.token + "}}"}
	}
	return text, nil
}

// trimOWS takes the white space of RFC 9110 §5.6.3 from both ends.
func trimOWS(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t') {
		text = text[1:]
	}
	for n := len(text); n > 0 && (text[n-1] == ' ' || text[n-1] == '\t'); n-- {
		text = text[:n-1]
	}
	return text
}

// fill is the template with its variables, or the value alone, as the place
// needs it.
func (t *Target) fill(m *Message, value string, lookup func(string) (string, bool)) ([]byte, error) {
	return t.fillWith(m, t.place.render, value, lookup)
}

func (t *Target) fillWith(m *Message, render func(*Message, []byte, Encoding, string) []byte, value string, lookup func(string) (string, bool)) ([]byte, error) {
	if t.Template == nil {
		return render(m, m.text(len(value)+16), EncodePlain, value), nil
	}
	text := m.text(len(t.Template.src) + len(value) + 16)
	for _, p := range t.Template.parts {
		v := value
		switch {
		case p.Name == "":
			text = render(m, text, EncodePlain, p.Text)
			continue
		case p.Name != t.token:
			ok := lookup != nil
			if ok {
				v, ok = lookup(p.Name)
			}
			if !ok {
				return nil, &Error{Key: "template", Problem: "the variable " + p.Name + " has no value", Next: "define it under variables, or have a macro extract it"}
			}
		}
		text = render(m, text, p.Encoding, v)
	}
	return text, nil
}

// written is a value as it is: for places that encode nothing.
func written(_ *Message, dst []byte, e Encoding, value string) []byte { return e.Append(dst, value) }

func asItIs(_ *Message, text string) string { return text }

func anything(*Message, []byte) string { return "" }
