package httpql

import (
	"strconv"
	"strings"
)

// Kind is what a [Node] is.
type Kind uint8

// The kinds of nodes.
const (
	KindAll     Kind = iota // the empty query: true
	KindAnd                 // Nodes, two or more
	KindOr                  // Nodes, two or more
	KindNot                 // Nodes[0]
	KindCompare             // Field, Op and an operand
	KindPreset              // Name
)

// A Node is one node of the tree of a query. It is for reading only.
type Node struct {
	Kind    Kind
	Nodes   []*Node
	Field   Field
	Op      Op
	Name    string // of the header in header["…"], or of the preset
	Text    string // operand of a text field, as the string says
	Number  int64  // operand of a number; a date in milliseconds since 1970; 1 for true
	Literal bool   // written /…/ (a regex) or without quotes (a preset)

	height int          // nodes on the longest way down; String nests no deeper
	at     *SyntaxError // where a preset stands, nil if in no text
	access access       // how the value of a comparison is got, and from where
	of     Field
	text   *matcher // of a comparison of text
}

// Pattern is the regex of a comparison by Regex or Nregex as Go's regexp reads
// it, else "".
func (n *Node) Pattern() string {
	if n.text == nil || n.text.regex == nil {
		return ""
	}
	return n.text.regex.String()
}

// Op is a comparison.
type Op uint8

// The comparisons; they are written in lower case.
const (
	noOp   Op = iota
	Eq        // equal; text byte by byte
	Ne        // not Eq
	Gt        // greater
	Gte       // greater or equal
	Lt        // less
	Lte       // less or equal
	Cont      // contains, whatever the case
	Ncont     // not Cont
	Like      // SQLite's LIKE
	Nlike     // not Like
	Regex     // the pattern matches somewhere
	Nregex    // not Regex
)

// String is the query in its canonical form, which [Parse] reads as the same
// query: lower-case words, parentheses around an AND or OR inside another
// clause, none around the whole, () for the empty query.
func (q *Query) String() string {
	if q == nil || q.root == nil {
		return "()"
	}
	var b strings.Builder
	q.root.print(&b, false)
	return b.String()
}

// print writes the node; inner asks for parentheses where it could be torn
// apart.
func (n *Node) print(b *strings.Builder, inner bool) {
	switch n.Kind {
	case KindAll:
		b.WriteString("()")
	case KindAnd, KindOr:
		word := " and "
		if n.Kind == KindOr {
			word = " or "
		}
		if inner {
			b.WriteByte('(')
		}
		for i, m := range n.Nodes {
			if i > 0 {
				b.WriteString(word)
			}
			m.print(b, true)
		}
		if inner {
			b.WriteByte(')')
		}
	case KindNot:
		b.WriteString("not ")
		n.Nodes[0].print(b, true)
	case KindPreset:
		b.WriteString("preset:")
		if n.Literal {
			b.WriteString(n.Name)
			return
		}
		quote(b, n.Name)
	case KindCompare:
		n.printCompare(b)
	}
}

func (n *Node) printCompare(b *strings.Builder) {
	s := n.Field.spec()
	b.WriteString(s.name)
	if s.takes == takesNamed {
		b.WriteByte('[')
		quote(b, n.Name)
		b.WriteByte(']')
	}
	if s.takes != takesName {
		b.WriteByte('.')
		b.WriteString(n.Op.String())
	}
	b.WriteByte(':')
	switch {
	case n.Literal:
		b.WriteByte('/')
		b.WriteString(n.Text)
		b.WriteByte('/')
	case s.takes == takesNumber:
		b.WriteString(strconv.FormatInt(n.Number, 10))
	case s.takes == takesBool:
		b.WriteString(strconv.FormatBool(n.Number != 0))
	default:
		quote(b, n.Text)
	}
}
