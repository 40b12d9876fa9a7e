package config

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// excerptWidth is how many characters of a line a problem shows. A JSON
// document written in one line would otherwise come back whole.
const excerptWidth = 100

// place is a line and a column, both from 1; columns count characters.
type place struct{ line, column int }

// text is the file as lines, with the stretches that must not be shown.
type text struct {
	name   string
	lines  []string
	secret map[int][]stretch // by line
	parts  []part            // whose lines follow those of the file
}

// stretch is a part of a line in characters from 0, end excluded.
type stretch struct{ from, to int }

// lineBreaks are those that the YAML library counts: YAML 1.1 knew NEL, LS
// and PS as line breaks as well.
var lineBreaks = regexp.MustCompile("\r\n|[\r\n\u0085\u2028\u2029]")

func newText(name string, src []byte) *text {
	s := strings.TrimPrefix(string(src), "\ufeff")
	return &text{name: name, lines: lineBreaks.Split(s, -1), secret: make(map[int][]stretch)}
}

func (t *text) line(n int) string {
	if n < 1 || n > len(t.lines) {
		return ""
	}
	return t.lines[n-1]
}

// problem makes a problem with its excerpt.
func (t *text) problem(at place, what, next string) Problem {
	p := Problem{Column: at.column, What: what, Next: next}
	p.File, p.Line = t.origin(at.line)
	if t.line(at.line) != "" {
		p.Excerpt, p.Caret = t.excerpt(at)
	}
	return p
}

// excerpt is the line with secrets hidden, tabs as blanks, cut to
// excerptWidth around the caret.
func (t *text) excerpt(at place) (line string, caret int) {
	runes := []rune(t.line(at.line))
	caret = min(max(at.column-1, 0), len(runes))
	hidden := make([]bool, len(runes))
	for _, s := range t.secret[at.line] {
		for i := max(s.from, 0); i < min(s.to, len(runes)); i++ {
			hidden[i] = true
		}
	}
	var out []rune
	where := -1
	for i := 0; i < len(runes); i++ {
		start := len(out)
		from := i
		switch {
		case hidden[i]:
			out = append(out, '*', '*', '*')
			for i+1 < len(runes) && hidden[i+1] {
				i++
			}
		case runes[i] < ' ' || runes[i] == utf8.RuneError || runes[i] == 0x7f:
			out = append(out, ' ')
		default:
			out = append(out, runes[i])
		}
		if from <= caret && caret <= i {
			where = start
		}
	}
	if where < 0 {
		where = len(out)
	}
	return window(out, where)
}

// window cuts a long line so that the caret stays visible.
func window(line []rune, caret int) (string, int) {
	if len(line) <= excerptWidth {
		return string(line), caret + 1
	}
	from := max(0, caret-excerptWidth/2)
	to := min(len(line), from+excerptWidth)
	from = max(0, to-excerptWidth)
	head, tail := "", ""
	if from > 0 {
		head = "…"
	}
	if to < len(line) {
		tail = "…"
	}
	return head + string(line[from:to]) + tail, caret - from + 1 + utf8.RuneCountInString(head)
}

// inside is the place of the byte at offset of a scalar's value. ok is false
// when it cannot be told, as in folded or multi-line quoted text; the place is
// then the scalar's own.
func (t *text) inside(n *yaml.Node, offset int) (at place, ok bool) {
	start := place{n.Line, n.Column}
	offset = min(max(offset, 0), len(n.Value))
	switch {
	case n.Anchor != "" || n.Style&yaml.TaggedStyle != 0:
		return start, false
	case n.Style&yaml.LiteralStyle != 0:
		return t.insideLiteral(n, offset)
	case n.Style&yaml.FoldedStyle != 0:
		return start, false
	}
	runes := []rune(t.line(n.Line))
	from := n.Column - 1
	if from < 0 || from >= len(runes) {
		return start, false
	}
	var column int
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		column, ok = quoted(string(runes[from:]), n.Value, offset, doubleQuoted)
	case n.Style&yaml.SingleQuotedStyle != 0:
		column, ok = quoted(string(runes[from:]), n.Value, offset, singleQuoted)
	default:
		if strings.HasPrefix(string(runes[from:]), n.Value) {
			column, ok = utf8.RuneCountInString(n.Value[:offset]), true
		}
	}
	if !ok {
		return start, false
	}
	return place{n.Line, n.Column + column}, true
}

// insideLiteral maps an offset in a literal block (|): its lines stand in the
// file as they are, behind the indentation.
func (t *text) insideLiteral(n *yaml.Node, offset int) (place, bool) {
	before := n.Value[:offset]
	row := strings.Count(before, "\n")
	begin := strings.LastIndexByte(before, '\n') + 1
	content := n.Value[begin:]
	if end := strings.IndexByte(content, '\n'); end >= 0 {
		content = content[:end]
	}
	line := t.line(n.Line + 1 + row)
	if !strings.HasSuffix(line, content) {
		return place{n.Line, n.Column}, false
	}
	indent := utf8.RuneCountInString(line) - utf8.RuneCountInString(content)
	return place{n.Line + 1 + row, indent + utf8.RuneCountInString(before[begin:]) + 1}, true
}

// quoted walks a quoted scalar that stands at the start of line, and returns
// how many characters lie before the one that value has at offset. one decodes
// the next unit: its length in line, and in the value.
func quoted(line, value string, offset int, one func(string) (raw, decoded int)) (int, bool) {
	if line == "" {
		return 0, false
	}
	column, done := 1, 0
	rest := line[1:]
	for done < offset {
		raw, decoded := one(rest)
		if raw == 0 || raw > len(rest) {
			return 0, false // the value goes on in the next line
		}
		column += utf8.RuneCountInString(rest[:raw])
		rest = rest[raw:]
		done += decoded
	}
	return column, done == offset && done <= len(value)
}

func singleQuoted(s string) (raw, decoded int) {
	switch {
	case strings.HasPrefix(s, "''"):
		return 2, 1
	case s == "" || s[0] == '\'':
		return 0, 0
	}
	_, n := utf8.DecodeRuneInString(s)
	return n, n
}

// doubleQuoted knows the lengths of the escapes of YAML 1.2 §5.7.
func doubleQuoted(s string) (raw, decoded int) {
	if s == "" || s[0] == '"' {
		return 0, 0
	}
	if s[0] != '\\' {
		_, n := utf8.DecodeRuneInString(s)
		return n, n
	}
	if len(s) < 2 {
		return 0, 0
	}
	digits := 0
	switch s[1] {
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	case 'N', '_': // U+0085, U+00A0
		return 2, 2
	case 'L', 'P': // U+2028, U+2029
		return 2, 3
	default:
		return 2, 1
	}
	if len(s) < 2+digits {
		return 0, 0
	}
	var r rune
	for _, c := range []byte(s[2 : 2+digits]) {
		r = r<<4 | rune(unhex(c))
	}
	return 2 + digits, max(utf8.RuneLen(r), 1)
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
