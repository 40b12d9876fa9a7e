package jar

import (
	"slices"
	"strings"
)

// Mode says who wins where the client's Cookie line and the jar name the same
// cookie.
type Mode string

// Modes of merging.
const (
	JarWins    Mode = "jar_wins"    // the jar's value replaces the client's; also what "" means
	ClientWins Mode = "client_wins" // the jar adds only what the client does not name
	Strip      Mode = "strip"       // the client's cookies go, also those that the jar does not have
)

// Policy says how the jar's cookies are put into a client's Cookie line, and
// which ones: all, all except some, or only some. Names are compared byte for
// byte. A cookie whose name is out of scope stays as the client wrote it, and
// is not added either.
type Policy struct {
	Mode   Mode
	Except []string // all_except
	Only   []string // only; empty: all
}

func (p *Policy) covers(name string) bool {
	return (len(p.Only) == 0 || slices.Contains(p.Only, name)) && !slices.Contains(p.Except, name)
}

// Op is what an Edit did.
type Op string

// Operations of an Edit.
const (
	OpSet    Op = "set"    // Old became New
	OpAdd    Op = "add"    // New stands at the end
	OpRemove Op = "remove" // Old is gone
)

// Edit is one difference that Merge made.
type Edit struct {
	Op       Op
	Name     string
	Old, New string // values: secrets
}

// String is for a trace: it keeps values back.
func (e Edit) String() string { return string(e.Op) + " cookie " + e.Name }

// crumb is one piece between the semicolons of a Cookie line.
type crumb struct {
	text       string // with the space around it
	name       string
	value      string
	start, end int // of the value in text
	blank      bool
	gone       bool
}

// Merge puts the jar's cookies (of [Jar.Cookies], in their order) into the
// value of a client's Cookie line and says what it did. Only the named cookies'
// bytes change: odd spacing, empty pieces and the order of all others stay as
// they were. "" means that no line should be sent.
//
// Where a name occurs more than once, the jar's first cookie of that name goes
// to the first place, and so on; places left over are removed, cookies left
// over are added at the end.
func Merge(line string, cookies []Cookie, p Policy) (string, []Edit) {
	crumbs := splitLine(line)
	var edits []Edit
	used := make([]bool, len(cookies))
	for i := range crumbs {
		c := &crumbs[i]
		if c.blank || p.Mode == ClientWins || !p.covers(c.name) {
			continue
		}
		next, known := nextNamed(cookies, used, c.name)
		switch {
		case p.Mode == Strip || known && next < 0:
			c.gone = true
			edits = append(edits, Edit{Op: OpRemove, Name: c.name, Old: c.value})
		case known:
			used[next] = true
			if value := cookies[next].Value; value != c.value {
				edits = append(edits, Edit{Op: OpSet, Name: c.name, Old: c.value, New: value})
				c.text = c.text[:c.start] + value + c.text[c.end:]
			}
		}
	}
	out := line
	if len(edits) > 0 {
		out = joinLine(crumbs)
	}
	for i := range cookies {
		c := &cookies[i]
		if used[i] || !p.covers(c.Name) || p.Mode == ClientWins && slices.ContainsFunc(crumbs, c.named) {
			continue
		}
		out = addPair(out, c)
		edits = append(edits, Edit{Op: OpAdd, Name: c.Name, New: c.Value})
	}
	return out, edits
}

// named tells whether a piece of a client's line is about a cookie.
func (c *Cookie) named(p crumb) bool { return !p.blank && p.name == c.Name }

// nextNamed finds the first unused cookie of a name, and whether there is any,
// used or not.
func nextNamed(cookies []Cookie, used []bool, name string) (next int, known bool) {
	for i := range cookies {
		if cookies[i].Name == name {
			if known = true; !used[i] {
				return i, true
			}
		}
	}
	return -1, known
}

// splitLine cuts a Cookie line as servers do: at semicolons, the name up to
// the first equals sign, space around both ignored.
func splitLine(line string) []crumb {
	crumbs := make([]crumb, 0, 8)
	for rest, more := line, true; more; {
		var text string
		text, rest, more = strings.Cut(rest, ";")
		c := crumb{text: text, blank: strings.Trim(text, space) == ""}
		from := strings.IndexByte(text, '=') + 1 // 0: all is value
		if from > 0 {
			c.name = strings.Trim(text[:from-1], space)
		}
		c.value = strings.Trim(text[from:], space)
		c.start = from + len(text[from:]) - len(strings.TrimLeft(text[from:], space))
		c.end = c.start + len(c.value)
		crumbs = append(crumbs, c)
	}
	return crumbs
}

// joinLine puts together what is left. The space that separates two cookies
// belongs to the second one, so the first of the line loses it when it moves
// up.
func joinLine(crumbs []crumb) string {
	var b strings.Builder
	first, cookies := true, false
	for i, c := range crumbs {
		if c.gone {
			continue
		}
		if cookies = cookies || !c.blank; !first {
			b.WriteByte(';')
		} else if i > 0 {
			c.text = strings.TrimLeft(c.text, space)
		}
		b.WriteString(c.text)
		first = false
	}
	if !cookies {
		return "" // empty pieces alone are not worth a line
	}
	return b.String()
}

// addPair puts a cookie at the end of a line, however that ends.
func addPair(line string, c *Cookie) string {
	switch bare := strings.TrimRight(line, space); {
	case bare == "":
		line = ""
	case !strings.HasSuffix(bare, ";"):
		line += "; "
	case bare == line:
		line += " "
	}
	return string(appendPair([]byte(line), c))
}

// Pairs lists the cookies of a Cookie line as a server reads them.
func Pairs(line string) []Cookie {
	var out []Cookie
	for _, c := range splitLine(line) {
		if !c.blank {
			out = append(out, Cookie{Name: c.name, Value: c.value})
		}
	}
	return out
}
