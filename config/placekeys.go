package config

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

// The keys of sources and targets. Which of them have a meaning depends on the
// type; what is read here is only whether each is a text, a number or a truth.

// placeKeys makes fields of keys that hold one text.
func placeKeys(names ...string) []field[places] {
	fields := make([]field[places], len(names))
	for i, name := range names {
		fields[i] = field[places]{name, "", inPlaces(name)}
	}
	return fields
}

// inPlaces makes the reader of a key of a source or target.
func inPlaces(name string) func(*decoder, *yaml.Node, *places) {
	return func(d *decoder, n *yaml.Node, p *places) {
		var w word
		single(name, func(w *word) *word { return w })(d, n, &w)
		if w.given() {
			(*p)[name] = w
		}
	}
}

// numberInPlaces makes the reader of a key that holds a whole number.
func numberInPlaces(name string, low, high int) func(*decoder, *yaml.Node, *places) {
	return func(d *decoder, n *yaml.Node, p *places) {
		v, ok := d.integer(n, name, low, high)
		if !ok {
			v = 1 // nobody is told that the key is missing as well
		}
		(*p)[name] = word{n: n, s: strconv.Itoa(v)}
	}
}

// flagInPlaces makes the reader of a key that is true or false; false is as if
// it were not there.
func flagInPlaces(name string) func(*decoder, *yaml.Node, *places) {
	return func(d *decoder, n *yaml.Node, p *places) {
		var on bool
		flag(name, func(b *bool) *bool { return b })(d, n, &on)
		if on {
			(*p)[name] = word{n: n, s: "true"}
		}
	}
}

// matchInPlaces reads first, last or a number.
func matchInPlaces(d *decoder, n *yaml.Node, p *places) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" {
		numberInPlaces("match", 1, rule.MaxMatches)(d, n, p)
		return
	}
	var w word
	choice("match", matchWords(), func(w *word) *word { return w })(d, n, &w)
	switch w.s {
	case "first":
		(*p)["match"] = word{n: w.n, s: "1"}
	case "last":
		(*p)["match"] = word{n: w.n, s: strconv.Itoa(rule.MatchLast)}
	}
}

// decodeInPlaces reads one encoding or a list of them.
func decodeInPlaces(d *decoder, n *yaml.Node, p *places) {
	var list []word
	words("decode", func(list *[]word) *[]word { return list })(d, n, &list)
	var names []string
	for _, w := range list {
		if !d.oneOf(w, "encoding to undo", decodeWords()) {
			return
		}
		names = append(names, w.s)
	}
	if len(names) > 0 {
		(*p)["decode"] = word{n: n, s: strings.Join(names, " ")}
	}
}

func matchWords() []string  { return []string{"first", "last"} }
func decodeWords() []string { return rule.Decodings() }

// maxPlaceOffset bounds offset and length, in bytes: more is never looked at.
const maxPlaceOffset = 256 << 20

func sourceFields() []field[places] {
	return append([]field[places]{
		{"type", "write one of " + strings.Join(kindNames(sourceKinds()), ", "), inPlaces("type")},
		{"offset", "", numberInPlaces("offset", 0, maxPlaceOffset)},
		{"length", "", numberInPlaces("length", 1, maxPlaceOffset)},
		{"match", "", matchInPlaces},
		{"decode", "", decodeInPlaces},
		{"headers", "", flagInPlaces("headers")},
		{"ignore_case", "", flagInPlaces("ignore_case")},
		{"script", "", programInPlaces},
	}, placeKeys("name", "header_name", "cookie_name", "regex", "path", "selector", "attribute", "xpath", "param", "start", "end")...)
}

func (d *decoder) source(n *yaml.Node) *sourceDraft {
	s := sourceDraft{n: n, keys: make(places)}
	if !object(d, n, tableSource, sourceFields(), &s.keys) {
		return nil
	}
	return &s
}

func targetFields() []field[places] {
	return append([]field[places]{
		{"type", "write one of " + strings.Join(kindNames(targetKinds()), ", "), inPlaces("type")},
		{"segment", "", numberInPlaces("segment", -100, 100)},
		{"script", "", programInPlaces},
	}, placeKeys("name", "header_name", "cookie_name", "param_name", "pointer", "xpath", "text", "regex", "template", "if_absent")...)
}
