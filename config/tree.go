package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Limits of a configuration file. They are far above what a person writes and
// far below what would hurt.
const (
	MaxFileSize = 1 << 20 // bytes of the file, and of a file named by ${file:…}
	MaxNodes    = 100_000 // keys and values, with every alias counted as often as it is used
	MaxDepth    = 64      // mappings and lists inside each other
)

// parseTree reads the one YAML document of the file. The problems are of the
// file as YAML; with any of them there is no tree. A nil tree without problems
// is an empty document.
func parseTree(t *text, src []byte) (*yaml.Node, []Problem) {
	if p := checkBytes(t, src); p != nil {
		return nil, p
	}
	loader, err := yaml.NewLoader(bytes.NewReader(src))
	if err != nil {
		return nil, syntaxProblem(t, err)
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(t, err)
	}
	if err := loader.Load(&second); err == nil && second.Kind != 0 {
		hideAll(t)
		return nil, []Problem{t.problem(place{second.Line, second.Column},
			"a second YAML document begins here; a configuration is one document",
			"take the `---` line out, or move what follows to a file of its own")}
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(t, err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.HeadComment == "" {
		root.HeadComment = doc.HeadComment // for who writes it again
	}
	hideSecrets(t, root)
	m := measure{text: t, open: make(map[*yaml.Node]bool)}
	m.walk(root, 0)
	return root, m.problems
}

func checkBytes(t *text, src []byte) []Problem {
	whole := Problem{File: t.name}
	switch {
	case len(src) > MaxFileSize:
		whole.What = fmt.Sprintf("the file has %d bytes; at most %d are read", len(src), MaxFileSize)
		whole.Next = "give the configuration file itself, not a recording or an export"
		return []Problem{whole}
	case utf8.Valid(src):
		return nil
	}
	hideAll(t)
	for i, line := range t.lines {
		if utf8.ValidString(line) {
			continue
		}
		column := 1
		for len(line) > 0 {
			r, n := utf8.DecodeRuneInString(line)
			if r == utf8.RuneError && n == 1 {
				break
			}
			line, column = line[n:], column+1
		}
		return []Problem{t.problem(place{i + 1, column}, "the file is not UTF-8 from here on", "save it as UTF-8")}
	}
	panic("internal error: invalid UTF-8 in no line")
}

// hideAll hides every line behind its first key: the file could not be read so
// far that secrets can be told from the rest.
func hideAll(t *text) {
	for i, line := range t.lines {
		from := 0
		if colon := strings.IndexByte(line, ':'); colon >= 0 && plainKey(line[:colon]) {
			from = colon + 1
		} else {
			from = len(line) - len(strings.TrimLeft(line, " \t-[]{},"))
		}
		t.secret[i+1] = append(t.secret[i+1], stretch{utf8.RuneCountInString(line[:from]), utf8.RuneCountInString(line)})
	}
}

// plainKey reports whether what stands before a line's first colon looks like
// one of our keys and not like a part of a value.
func plainKey(s string) bool {
	s = strings.Trim(s, " \t-{\"'")
	for _, c := range []byte(s) {
		if c != '_' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= 20
}

// syntaxProblem says what is wrong with the YAML. The library's words are only
// used when they are known to hold nothing of the file.
func syntaxProblem(t *text, err error) []Problem {
	hideAll(t)
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		return []Problem{{File: t.name, What: "the file is not YAML", Next: "see docs/configuration.md for the format"}}
	}
	at := place{e.Mark.Line, e.Mark.Column}
	if at.line == 0 {
		at = place{e.ContextMark.Line, e.ContextMark.Column}
	}
	if at.line > 0 && at.column == 0 {
		at.column = 1
	}
	for _, m := range syntaxMessages() {
		if strings.Contains(e.Message, m.has) && strings.Contains(e.ContextMsg, m.context) {
			if m.opening && e.ContextMark.Line > 0 {
				at = place{e.ContextMark.Line, max(e.ContextMark.Column, 1)}
			}
			return []Problem{t.problem(at, m.what, m.next)}
		}
	}
	return []Problem{t.problem(at, "the YAML cannot be read from here on",
		"look for a missing quote, bracket, comma or colon here or in the line above")}
}

// syntaxMessage translates a message of the YAML library.
type syntaxMessage struct {
	has, context string
	opening      bool // the place is where the unfinished thing begins
	what, next   string
}

func syntaxMessages() []syntaxMessage {
	return []syntaxMessage{
		{has: "unknown anchor", what: "a value that begins with * is a YAML alias, and nothing has that name",
			next: "put the value in quotes if the * belongs to it"},
		{has: "mapping values are not allowed", what: "a second `: ` in one line",
			next: "put the value in quotes, or begin a new line before the key"},
		{has: "unexpected end of stream", context: "quoted scalar", opening: true, what: "a quote is opened and never closed",
			next: "close it, or write the text as a block after `|`"},
		{has: "unexpected document indicator", context: "quoted scalar", opening: true, what: "a quote is opened and never closed",
			next: "close it, or write the text as a block after `|`"},
		{has: "unknown escape character", what: "this escape does not exist in double quotes",
			next: "write \\\\ for a backslash, or use single quotes, in which nothing is escaped (a regex reads best there)"},
		{has: "did not find expected hexdecimal number", what: "an escape needs hexadecimal digits here",
			next: "write \\\\ for a backslash, or use single quotes, in which nothing is escaped"},
		{has: "tab character", what: "a tab is used to indent", next: "indent with blanks"},
		{has: "cannot start any token", what: "a value cannot begin with this character",
			next: "put the value in quotes; if it is a tab, indent with blanks"},
		{has: "',' or ']'", opening: true, what: "a list in [ ] is not closed, or a comma is missing in it", next: "close it with ]"},
		{has: "',' or '}'", opening: true, what: "a mapping in { } is not closed, or a comma is missing in it", next: "close it with }"},
		{has: "did not find expected key", what: "a key is expected here",
			next: "indent it like the keys above it, close every quote and bracket before, and put a value that begins with {{ in quotes"},
		{has: "did not find expected '-'", what: "a list entry (`- `) is expected here",
			next: "indent it like the entries above it, or, if it is a key, like the keys above it"},
		{has: "could not find expected ':'", what: "a key without a colon", next: "write `key: value`"},
		{has: "control characters", what: "the file holds a control character", next: "take it out, or write it as an escape in double quotes"},
		{has: "exceeded max depth", what: "the file nests too deeply",
			next: fmt.Sprintf("at most %d mappings and lists can stand inside each other", MaxDepth)},
	}
}

// measure checks what would make walking the tree expensive or surprising.
type measure struct {
	text     *text
	open     map[*yaml.Node]bool // alias targets being walked
	nodes    int
	problems []Problem
}

func (m *measure) refuse(n *yaml.Node, what, next string) {
	if len(m.problems) == 0 {
		m.problems = append(m.problems, m.text.problem(place{n.Line, n.Column}, what, next))
	}
}

func (m *measure) walk(n *yaml.Node, depth int) {
	m.nodes++
	switch {
	case len(m.problems) > 0:
		return
	case m.nodes > MaxNodes:
		m.refuse(n, fmt.Sprintf("the file comes to more than %d keys and values", MaxNodes),
			"an alias (*name) counts as often as it is used; use fewer")
		return
	case depth > MaxDepth:
		m.refuse(n, "the file nests too deeply", fmt.Sprintf("at most %d mappings and lists can stand inside each other", MaxDepth))
		return
	}
	if n.Kind == yaml.AliasNode {
		if m.open[n.Alias] {
			m.refuse(n, "this alias is inside of what it names", "write the value out")
			return
		}
		m.open[n.Alias] = true
		m.walk(n.Alias, depth+1)
		delete(m.open, n.Alias)
		return
	}
	for _, c := range n.Content {
		m.walk(c, depth+1)
	}
}
