package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/rule"
)

// toolName is what a listener's label and proxy credentials can carry.
var toolName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

const variableNameNext = "use letters, digits, _, - and ., at most 64 of them"

// isVariableName reports whether {{name}} is a variable.
func isVariableName(name string) bool {
	t, err := rule.ParseTemplate("{{" + name + "}}")
	return err == nil && len(name) <= 64 && slices.Equal(t.Names(), []string{name})
}

// kind is one type of source or target, with the keys that mean something for
// it. The last of names is the seed's own word for the same key.
type kind struct {
	typ   string
	names []string // the keys that name the place; one of them is needed
	needs string   // another key that is needed
	takes []string // further keys
}

func sourceKinds() []kind {
	var kinds []kind
	for _, typ := range rule.SourceTypes() {
		required, optional := rule.SourceKeys(typ)
		k := kind{typ: typ, takes: optional}
		for _, key := range required {
			k.need(key)
		}
		kinds = append(kinds, k)
	}
	return kinds
}

func targetKinds() []kind {
	var kinds []kind
	for _, typ := range rule.TargetTypes() {
		key, addable := rule.TargetKey(typ)
		k := kind{typ: typ, takes: []string{"template", "script"}}
		if addable {
			k.takes = append(k.takes, "if_absent")
		}
		k.need(key)
		kinds = append(kinds, k)
	}
	return kinds
}

// need adds a key that must be there, with the seed's word for it.
func (k *kind) need(key string) {
	if key != "name" {
		k.needs = key
		return
	}
	k.names = []string{"name"}
	switch k.typ {
	case rule.SourceResponseHeader, rule.TargetRequestHeader:
		k.names = append(k.names, "header_name")
	case rule.TargetCookie, rule.SourceRequestCookie:
		k.names = append(k.names, "cookie_name")
	case rule.TargetQueryParam:
		k.names = append(k.names, "param_name")
	}
}

func kindNames(kinds []kind) []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.typ
	}
	return names
}

func (k kind) keys() []string {
	keys := slices.Concat(k.names, k.takes)
	if k.needs != "" {
		keys = append(keys, k.needs)
	}
	return keys
}

// kindOfPlace finds the type and checks that the other keys fit it. name is
// the one that names the place.
func (d *decoder) kindOfPlace(p places, what string, kinds []kind) (k kind, name word, ok bool) {
	typ, ok := p["type"]
	if !ok || !d.oneOf(typ, what+" type", kindNames(kinds)) {
		return k, name, false // reported
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.typ == typ.s })
	k = kinds[i]
	for _, key := range slices.Sorted(maps.Keys(p)) {
		w := p[key]
		switch {
		case key == "type":
		case !slices.Contains(k.keys(), key):
			d.errorAt(w.n, fmt.Sprintf("a %s takes %s", k.typ, strings.Join(k.keys(), ", ")), "%s means nothing for a %s", key, k.typ)
			ok = false
		case slices.Contains(k.names, key) && name.given():
			d.errorAt(w.n, "write one of them", "%s are the same key", strings.Join(k.names, " and "))
			ok = false
		case slices.Contains(k.names, key):
			name = w
		}
	}
	if len(k.names) > 0 && !name.given() && ok {
		d.errorAt(typ.n, "add name:", "a %s needs a name", k.typ)
		ok = false
	}
	if _, given := p[k.needs]; k.needs != "" && !given && ok {
		d.errorAt(typ.n, fmt.Sprintf("add %s:", k.needs), "a %s needs a %s", k.typ, k.needs)
		ok = false
	}
	return k, name, ok
}

// sourceOf compiles a source; nil when there is none or it has a mistake.
func (d *decoder) sourceOf(s *sourceDraft) *rule.Source {
	if s == nil {
		return nil
	}
	k, name, ok := d.kindOfPlace(s.keys, "source", sourceKinds())
	if !ok {
		return nil
	}
	program, ok := d.scriptOf(s.keys)
	if !ok {
		return nil
	}
	key := func(name string) string { return s.keys[name].s }
	number := func(name string) int {
		n, _ := strconv.Atoi(key(name)) // "" or what a number was written as
		return n
	}
	out := &rule.Source{Type: k.typ, Name: name.s, Path: key("path"), Regex: key("regex"), Selector: key("selector"),
		Attribute: key("attribute"), XPath: key("xpath"), Param: key("param"), Start: key("start"), End: key("end"),
		Offset: number("offset"), Length: number("length"), Match: number("match"), Decode: strings.Fields(key("decode")),
		Headers: key("headers") != "", IgnoreCase: key("ignore_case") != "", Script: program}
	if err := out.Compile(); err != nil {
		d.ruleError(err, s.n)
		return nil
	}
	return out
}

// targetOf compiles a target; nil when it has a mistake.
func (d *decoder) targetOf(t *targetDraft, token string) *rule.Target {
	k, name, ok := d.kindOfPlace(t.keys, "target", targetKinds())
	if !ok {
		return nil
	}
	program, ok := d.scriptOf(t.keys)
	if !ok {
		return nil
	}
	segment, _ := strconv.Atoi(t.keys["segment"].s) // "" or what a number was written as
	out := &rule.Target{Type: k.typ, Name: name.s, Pointer: t.keys["pointer"].s, XPath: t.keys["xpath"].s, Segment: segment,
		Text: t.keys["text"].s, Regex: t.keys["regex"].s, IfAbsent: t.keys["if_absent"].s, Script: program}
	if w := t.keys["if_absent"]; w.given() && !d.oneOf(w, "value of if_absent", []string{rule.IfAbsentAdd, rule.IfAbsentSkip}) {
		return nil
	}
	if w := t.keys["template"]; w.given() {
		template, err := rule.ParseTemplate(w.s)
		if err != nil {
			d.ruleError(err, w.n)
			return nil
		}
		out.Template = template
	}
	if err := out.Compile(token); err != nil {
		d.ruleError(err, t.n)
		return nil
	}
	return out
}
