package config

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/script"
)

// decoder walks the tree by hand, so that each mistake is found with its
// place, and none hides the next.
type decoder struct {
	text     *text
	options  Options
	sources  []string                           // the files that were read
	uses     []machineUse                       // what of this machine is used
	brought  map[*yaml.Node][][sha256.Size]byte // of what was read from files and the environment, by the scalar that names it
	problems []Problem
	warnings []Problem
	programs map[*yaml.Node]*script.Program // of sources and targets, by what was read; nil: it has a mistake
}

// field is one key of a mapping that is read into a T.
type field[T any] struct {
	name string
	need string // why the key must be there: the next step when it is missing; "" when it may be left out
	read func(d *decoder, n *yaml.Node, into *T)
}

// word is a scalar as text, with its place.
type word struct {
	n *yaml.Node // nil when the key was not given
	s string
}

func (w word) given() bool { return w.n != nil }

// pair is a key of a mapping with its value, aliases resolved.
type pair struct {
	key, value *yaml.Node
}

func (d *decoder) errorAt(n *yaml.Node, next, format string, args ...any) {
	d.problems = append(d.problems, d.text.problem(place{n.Line, n.Column}, fmt.Sprintf(format, args...), next))
}

// errorIn reports a mistake at a byte offset inside a scalar.
func (d *decoder) errorIn(n *yaml.Node, offset int, next, format string, args ...any) {
	at, _ := d.text.inside(n, offset)
	d.problems = append(d.problems, d.text.problem(at, fmt.Sprintf(format, args...), next))
}

func (d *decoder) warnAt(n *yaml.Node, next, format string, args ...any) {
	d.warnings = append(d.warnings, d.text.problem(place{n.Line, n.Column}, fmt.Sprintf(format, args...), next))
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kindOf names what stands at a node, without what it holds.
func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	switch n.ShortTag() {
	case "!!int":
		return "a number"
	case "!!float":
		return "a number that is not whole"
	case "!!bool":
		return "true or false"
	}
	return "a text"
}

// object reads a mapping key by key. what is the thing's name with its article.
func object[T any](d *decoder, n *yaml.Node, what string, fields []field[T], into *T) bool {
	pairs, ok := d.pairs(n, what)
	if !ok {
		return false
	}
	seen := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		f := fieldNamed(fields, p.key.Value)
		switch {
		case f == nil:
			seen[d.unknownKey(p.key, what, fieldNames(fields))] = true
		case isNull(p.value) && f.need == "": // as if it were not there
		case isNull(p.value):
			seen[f.name] = true
			d.errorAt(p.value, f.need, "%q of %s is empty", f.name, what)
		default:
			seen[f.name] = true
			f.read(d, p.value, into)
		}
	}
	for _, f := range fields {
		if f.need != "" && !seen[f.name] {
			d.errorAt(n, f.need, "%s needs the key %q", what, f.name)
		}
	}
	return true
}

func fieldNamed[T any](fields []field[T], name string) *field[T] {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

func fieldNames[T any](fields []field[T]) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// formatKey is a key of the format, for what asks about the format itself.
type formatKey struct {
	name string
	need string                     // as of a field
	read func(*decoder, *yaml.Node) // into something that is thrown away; nil: its name is all that is known
}

func keysOf[T any](fields []field[T]) []formatKey {
	keys := make([]formatKey, len(fields))
	for i, f := range fields {
		keys[i] = formatKey{f.name, f.need, func(d *decoder, n *yaml.Node) { f.read(d, n, new(T)) }}
	}
	return keys
}

func keysNamed(names []string) []formatKey {
	keys := make([]formatKey, len(names))
	for i, name := range names {
		keys[i].name = name
	}
	return keys
}

// keyName is a key as messages say it.
func keyName(key string) string {
	if !keyLike(key) {
		return "like this"
	}
	return strconv.Quote(key)
}

// unknownKey returns the key that was probably meant, so that nobody is told
// that it is missing as well.
func (d *decoder) unknownKey(key *yaml.Node, what string, known []string) (meant string) {
	next := "the keys of this version are " + strings.Join(known, ", ")
	if meant = suggest(key.Value, known); meant != "" {
		next = fmt.Sprintf("did you mean %q? %s", meant, next)
	}
	d.errorAt(key, next, "%s has no key %s", what, keyName(key.Value))
	return meant
}

// pairs returns the keys of a mapping in order, each once; merge keys (<<) are
// followed, and the mapping's own keys win over them.
func (d *decoder) pairs(n *yaml.Node, what string) ([]pair, bool) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.errorAt(n, "write its keys below it, each as `key: value`", "%s is a mapping; this is %s", what, kindOf(n))
		return nil, false
	}
	var own, merged []pair
	index := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		switch first := index[key.Value]; {
		case key.ShortTag() == "!!merge":
			merged = append(merged, d.merge(value, what)...)
		case key.Kind != yaml.ScalarNode:
			d.keyIsNoText(key)
		case first != nil:
			d.errorAt(key, fmt.Sprintf("the first one is in line %d; keep one of them", first.Line), "the key %s is there twice", keyName(key.Value))
		default:
			index[key.Value] = key
			own = append(own, pair{key: key, value: value})
		}
	}
	for _, p := range merged {
		if index[p.key.Value] == nil {
			index[p.key.Value] = p.key
			own = append(own, p)
		}
	}
	return own, true
}

func (d *decoder) keyIsNoText(key *yaml.Node) {
	next := "write it as a text"
	if key.Kind == yaml.MappingNode {
		next = "if this is a variable, put the whole value in quotes: \"{{NAME}}\""
	}
	d.errorAt(key, next, "a key is a text; this is %s", kindOf(key))
}

// merge returns the keys that `<<` brings: of one mapping, or of several in a
// list, the earlier ones first. Its depth is bounded by measure.
func (d *decoder) merge(n *yaml.Node, what string) []pair {
	if n.Kind != yaml.SequenceNode {
		pairs, _ := d.pairs(n, what)
		return pairs
	}
	var all []pair
	for _, c := range n.Content {
		pairs, _ := d.pairs(c, what)
		all = append(all, pairs...)
	}
	return all
}

// list calls read for each value of a list.
func (d *decoder) list(n *yaml.Node, what string, read func(*yaml.Node)) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.errorAt(n, "put each on a line of its own that begins with `- `, or write [a, b]", "%s is a list; this is %s", what, kindOf(n))
		return
	}
	for _, c := range n.Content {
		read(resolve(c))
	}
}

// word reads a scalar as the text that was written: 0123 stays "0123".
func (d *decoder) word(n *yaml.Node, what string) (word, bool) {
	n = resolve(n)
	if n.Kind == yaml.MappingNode && strings.HasPrefix(d.after(n), "{{") {
		d.errorAt(n, "put the whole value in quotes", "in YAML a value that begins with {{ is a mapping, not a variable")
		return word{}, false
	}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.errorAt(n, "write one value", "%s is a text; this is %s", what, kindOf(n))
		return word{}, false
	}
	if n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != "!!str" {
		d.errorAt(n, "take the tag out", "YAML tags have no meaning here")
		return word{}, false
	}
	return word{n: n, s: n.Value}, true
}

// after is what the file says from a node's place to the end of the line.
func (d *decoder) after(n *yaml.Node) string {
	line := []rune(d.text.line(n.Line))
	return string(line[min(max(n.Column-1, 0), len(line)):])
}

// single makes the reader of a key that holds one non-empty text.
func single[T any](what string, into func(*T) *word) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		w, ok := d.word(n, what)
		if ok && w.s == "" {
			d.errorAt(w.n, "write it, or take the key out", "%s is empty", what)
			return
		}
		if ok {
			*into(t) = w
		}
	}
}

// words makes the reader of a key that holds a list of texts, or one alone.
func words[T any](what string, into func(*T) *[]word) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		one := func(n *yaml.Node) {
			single(what, func(w *word) *word { return w })(d, n, into1(into(t)))
		}
		if n.Kind == yaml.ScalarNode {
			one(n)
		} else {
			d.list(n, what, one)
		}
		*into(t) = given(*into(t))
	}
}

// into1 adds an empty word to a list and returns it for filling.
func into1(list *[]word) *word {
	*list = append(*list, word{})
	return &(*list)[len(*list)-1]
}

// given drops the words that turned out to be none.
func given(list []word) []word {
	kept := list[:0]
	for _, w := range list {
		if w.given() {
			kept = append(kept, w)
		}
	}
	return kept
}

// flag makes the reader of a key that is true or false.
func flag[T any](what string, into func(*T) *bool) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		if b, err := strconv.ParseBool(n.Value); err == nil && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
			*into(t) = b
			return
		}
		next := "write true or false"
		if n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			next += ", without quotes"
		}
		d.errorAt(n, next, "%s is true or false; this is %s", what, kindOf(n))
	}
}

// integer reads a decimal number between two bounds, both included.
func (d *decoder) integer(n *yaml.Node, what string, low, high int) (int, bool) {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil {
		d.errorAt(n, fmt.Sprintf("write a number from %d to %d", low, high), "%s is a whole number; this is %s", what, kindOf(n))
		return 0, false
	}
	if v < low || v > high {
		d.errorAt(n, fmt.Sprintf("write a number from %d to %d", low, high), "%s is out of range", what)
		return 0, false
	}
	return v, true
}

// number makes the reader of a key that holds a whole number.
func number[T any](what string, low, high int, into func(*T) *int) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		if v, ok := d.integer(n, what, low, high); ok {
			*into(t) = v
		}
	}
}

// size makes the reader of a key that holds a number of bytes: 64MiB, 512 KiB.
func size[T any](what string, low, high int64, into func(*T) *int64) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		next := fmt.Sprintf("write a number with a unit of B, KiB, MiB or GiB, from %s to %s", formatSize(low), formatSize(high))
		v, ok := parseSize(n.Value)
		switch {
		case n.Kind != yaml.ScalarNode || isNull(n) || !ok:
			d.errorAt(n, next, "%s is a size", what)
		case v < low || v > high:
			d.errorAt(n, next, "%s is out of range", what)
		default:
			*into(t) = v
		}
	}
}

// duration makes the reader of a key that holds a time: 60s, 15m, 1h30m.
func duration[T any](what string, low, high time.Duration, into func(*T) *time.Duration) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		next := fmt.Sprintf("write a number with a unit of ms, s, m or h, from %s to %s", formatDuration(low), formatDuration(high))
		v, err := time.ParseDuration(n.Value)
		switch {
		case n.Kind != yaml.ScalarNode || err != nil:
			d.errorAt(n, next, "%s is a time", what)
		case v < low || v > high:
			d.errorAt(n, next, "%s is out of range", what)
		default:
			*into(t) = v
		}
	}
}

// choice reads one of a few words, in the case it is written in here.
func choice[T any](what string, known []string, into func(*T) *word) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		w, ok := d.word(n, what)
		if ok && d.oneOf(w, what, known) {
			*into(t) = w
		}
	}
}

func (d *decoder) oneOf(w word, what string, known []string) bool {
	for _, k := range known {
		if w.s == k {
			return true
		}
	}
	next := "write one of " + strings.Join(known, ", ")
	if s := suggest(w.s, known); s != "" {
		next = fmt.Sprintf("did you mean %q? %s", s, next)
	}
	d.errorAt(w.n, next, "%q is no %s", shorten(w.s), what)
	return false
}
