package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// The kinds of entries.
const (
	EntryMacro = "macro"
	EntryRule  = "rule"
	// EntryVariable is a variable that a macro brought which was made by hand.
	EntryVariable = "variable"
)

// MaxEntries bounds the entries that lie over one file.
const MaxEntries = 1000

// Entry is a macro, a rule or a variable that lies over a file: it was made,
// changed or deleted by hand.
type Entry struct {
	Kind string `json:"kind"` // EntryMacro, EntryRule or EntryVariable
	Name string `json:"name"`
	Text string `json:"text"` // in the file's own form, "" deletes it; of a variable its value
	// Identity is whose variable it is; "": everybody's.
	Identity string `json:"identity,omitempty"`
	// Over is the digest of what the file said of it, "": nothing. Where the file
	// says something else since, the file counts.
	Over string `json:"over"`
}

func (e *Entry) section() string { return e.Kind + "s" }

// part is where the lines of an entry begin among those of a text.
type part struct {
	from int // the line before the first
	name string
}

// Source is the text that the file was made of, without what lies over it.
func (f *File) Source() []byte { return bytes.Clone(f.source) }

// Digest names what the configuration says: two with the same one say the same.
func (f *File) Digest() string { return new(decoder).digest(f.root) }

// By says where a macro or a rule is from: "file", or "project" where an entry
// lies over it.
func (f *File) By(kind, name string) string {
	if f.over[kind+" "+name] {
		return "project"
	}
	return "file"
}

// Text is the whole configuration as one file, entries put in. Comments stay, but
// those in what entries replace; references to the environment and to files stand
// as they were written.
func (f *File) Text() ([]byte, error) {
	if len(f.over) == 0 {
		return f.Source(), nil
	}
	return encode(f.root)
}

func encode(n *yaml.Node) ([]byte, error) {
	n = copied(n, make(map[*yaml.Node]*yaml.Node)) // the encoder takes tags away
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("internal error: the configuration cannot be written: %w", err)
	}
	err := e.Close()
	return b.Bytes(), err
}

func copied(n *yaml.Node, had map[*yaml.Node]*yaml.Node) *yaml.Node {
	if n == nil || had[n] != nil {
		return had[n]
	}
	c := *n
	had[n] = &c
	c.Alias = copied(n.Alias, had)
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, copied(child, had))
	}
	return &c
}

// EntryText is what the configuration says of a macro or a rule, as it stands
// there; found says whether it is there.
func (f *File) EntryText(kind, name string) (text string, found bool) {
	_, i, list := entryOf(f.root, kind+"s", name)
	if i < 0 {
		return "", false
	}
	raw, err := encode(list.Content[i])
	return string(raw), err == nil
}

// Switched is the entry that has a rule be on or off, and nothing else be
// otherwise.
func (f *File) Switched(name string, on bool) (Entry, error) {
	text, found := f.EntryText(EntryRule, name)
	if !found {
		return Entry{}, fmt.Errorf("there is no rule %q", name)
	}
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil || len(n.Content) == 0 {
		return Entry{}, fmt.Errorf("the rule %q cannot be changed alone", name)
	}
	rule := n.Content[0]
	value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(on)}
	set := false
	for i := 0; i+1 < len(rule.Content); i += 2 {
		if rule.Content[i].Value == "enabled" {
			rule.Content[i+1], set = value, true
		}
	}
	if !set {
		rule.Content = append(rule.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "enabled"}, value)
	}
	raw, err := encode(rule)
	return Entry{Kind: EntryRule, Name: name, Text: string(raw)}, err
}

// Named is the name in the text of one macro or rule.
func Named(kind, text string) (name string, err error) {
	n, err := readEntry(newText(kind, []byte(text)), []byte(text), kind)
	if err != nil {
		return "", err
	}
	return nameOf(n), nil
}

// Over is the digest of what the file alone says of an entry; "": nothing.
func (f *File) Over(kind, name string) string {
	root, problems := parseTree(newText(f.Name, f.source), f.source)
	if len(problems) > 0 || root == nil {
		return ""
	}
	if _, i, list := entryOf(root, kind+"s", name); i >= 0 {
		return new(decoder).digest(list.Content[i])
	}
	return ""
}

// With is the file with entries over it, compiled. dropped are those that do not
// count, since the file says something else of them than when they were made. only
// is that of Options.
func (f *File) With(entries []Entry, only *File) (with *File, dropped []Entry, err error) {
	if len(entries) == 0 && len(f.over) == 0 {
		return f, nil, nil
	}
	if len(entries) > MaxEntries {
		return nil, nil, Errors{{File: f.Name, What: fmt.Sprintf("%d entries lie over it; at most %d may", len(entries), MaxEntries), Next: "export the configuration, and begin with the file that this makes"}}
	}
	t := newText(f.Name, f.source)
	root, problems := parseTree(t, f.source)
	if len(problems) > 0 {
		return nil, nil, Errors(sorted(problems))
	}
	if root == nil || isNull(root) {
		root = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: 1}
	}
	over := make(map[string]bool)
	for _, e := range entries {
		use, err := lay(t, root, &e)
		switch {
		case err != nil:
			return nil, nil, err
		case use:
			over[e.Kind+" "+e.Name] = true
		default:
			dropped = append(dropped, e)
		}
	}
	options := f.options
	options.Only = only
	with, _, err = compileTree(f.Name, t, root, options)
	if err != nil {
		return nil, nil, err
	}
	with.source, with.over = f.source, over
	return with, dropped, nil
}

// lay puts an entry into the tree of a file; not where the file has changed.
func lay(t *text, root *yaml.Node, e *Entry) (use bool, err error) {
	if e.Kind == EntryVariable {
		return layVariable(t, root, e), nil
	}
	at, i, list := entryOf(root, e.section(), e.Name)
	had := ""
	if i >= 0 {
		had = new(decoder).digest(list.Content[i])
	}
	if had != e.Over {
		return false, nil
	}
	var n *yaml.Node
	if e.Text != "" {
		own := newText(e.Kind+" "+e.Name, []byte(e.Text))
		if n, err = readEntry(own, []byte(e.Text), e.Kind); err != nil {
			return false, err
		}
		t.add(own, n)
	}
	if list == nil {
		list = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: 1, Column: 1}
		if at == nil {
			root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: e.section(), Line: 1, Column: 1}, list)
		} else {
			*at = *list
			list = at
		}
	}
	switch {
	case n == nil && i >= 0:
		list.Content = slices.Delete(list.Content, i, i+1)
	case n == nil:
	case i >= 0:
		n.HeadComment, n.FootComment = list.Content[i].HeadComment, list.Content[i].FootComment
		list.Content[i] = n
	default:
		list.Content = append(list.Content, n)
	}
	return true, nil
}

// layVariable puts a variable into the tree of a file; not where the file has one
// of that name, or no such identity.
func layVariable(t *text, root *yaml.Node, e *Entry) (use bool) {
	at := root
	if e.Identity != "" {
		if at = within(within(root, "identities", false), e.Identity, false); at == nil {
			return false
		}
	}
	if at = within(at, "variables", true); at == nil || within(at, e.Name, false) != nil {
		return false
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: e.Name, Line: 1, Column: 1}
	value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: e.Text, Line: 1, Column: 1}
	t.add(newText(e.Kind+" "+e.Name, nil), &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, value}})
	at.Content = append(at.Content, key, value)
	return true
}

// within is the value of a key of a mapping, nil where it has none. With add it is
// made there: an empty mapping.
func within(m *yaml.Node, key string, add bool) *yaml.Node {
	if m == nil {
		return nil
	}
	if m = resolve(m); isNull(m) && add {
		*m = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: m.Line, Column: m.Column}
	}
	if m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			value := resolve(m.Content[i+1])
			if isNull(value) && add {
				*value = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: value.Line, Column: value.Column}
			}
			return value
		}
	}
	if !add {
		return nil
	}
	value := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: m.Line, Column: m.Column}
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: m.Line, Column: m.Column}, value)
	return value
}

// entryOf finds an entry by its name: its section's value, nil where there is
// none, its place in the list, -1 where it is not there, and the list.
func entryOf(root *yaml.Node, section, name string) (at *yaml.Node, i int, list *yaml.Node) {
	if root == nil {
		return nil, -1, nil
	}
	root = resolve(root)
	for k := 0; root.Kind == yaml.MappingNode && k+1 < len(root.Content); k += 2 {
		if root.Content[k].Value == section {
			at = resolve(root.Content[k+1])
		}
	}
	if at == nil || at.Kind != yaml.SequenceNode {
		return at, -1, nil
	}
	return at, slices.IndexFunc(at.Content, func(n *yaml.Node) bool { return nameOf(n) == name }), at
}

// nameOf is what a macro or a rule is called.
func nameOf(n *yaml.Node) string {
	n = resolve(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" {
			return resolve(n.Content[i+1]).Value
		}
	}
	return ""
}

// readEntry reads the text of one macro or rule: a mapping, or a list of one.
func readEntry(t *text, src []byte, kind string) (*yaml.Node, error) {
	root, problems := parseTree(t, src)
	if len(problems) > 0 {
		return nil, Errors(sorted(problems))
	}
	n := root
	if n != nil {
		if n = resolve(n); n.Kind == yaml.SequenceNode && len(n.Content) == 1 {
			n = resolve(n.Content[0])
		}
	}
	next := "write it as it stands in a configuration: name: …, and its other keys below"
	switch {
	case n == nil || n.Kind != yaml.MappingNode:
		return nil, Errors{{File: t.name, What: "this is no " + kind, Next: next}}
	case nameOf(n) == "":
		return nil, Errors{t.problem(place{n.Line, n.Column}, "the "+kind+" has no name", next)}
	}
	return n, nil
}

// add has the lines of another text follow, for the places of its nodes. None of
// them is shown.
func (t *text) add(other *text, n *yaml.Node) {
	from := len(t.lines)
	t.parts = append(t.parts, part{from, other.name})
	t.lines = append(t.lines, other.lines...)
	for i, line := range other.lines {
		t.secret[from+i+1] = []stretch{{0, utf8.RuneCountInString(line)}}
	}
	moved := make(map[*yaml.Node]bool)
	var move func(*yaml.Node)
	move = func(n *yaml.Node) {
		if n == nil || moved[n] {
			return
		}
		moved[n] = true
		n.Line += from
		move(n.Alias)
		for _, c := range n.Content {
			move(c)
		}
	}
	move(n)
}

// origin is the text and the line in it that a line is from.
func (t *text) origin(line int) (name string, at int) {
	name, at = t.name, line
	for _, p := range t.parts {
		if line > p.from {
			name, at = p.name, line-p.from
		}
	}
	return name, at
}

// Needs are the names of the rules that need a macro.
func (f *File) Needs(name string) (rules []string) {
	for i := range f.Rules {
		r := f.Rules[i]
		for _, ref := range macroRefs(&r) {
			bare, _, _ := strings.Cut(*ref, " for ")
			for _, m := range f.Macros {
				if m.Name == name && (*ref == name || bare == name || *ref == m.ID) && !slices.Contains(rules, r.Name) {
					rules = append(rules, r.Name)
				}
			}
		}
	}
	return rules
}
