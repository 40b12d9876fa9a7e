package httpql

import (
	"regexp"
	"slices"
	"strings"
)

// The functions here build queries in code. What they build can be written:
// Parse reads its String as the same query, as long as it keeps to [MaxSource]
// and [MaxDepth]. A nil query is the empty one.

// And is true where every one of qs is; And() is true of everything.
func And(qs ...*Query) *Query {
	if len(qs) == 0 {
		return newQuery(all())
	}
	return newQuery(joinAll(KindAnd, roots(qs)))
}

// Or is true where one of qs is; Or() is true of nothing.
func Or(qs ...*Query) *Query {
	if len(qs) == 0 {
		return newQuery(notNode(all()))
	}
	return newQuery(joinAll(KindOr, roots(qs)))
}

// Not is true where q is false, so of a missing response too.
func Not(q *Query) *Query { return newQuery(notNode(q.Root())) }

func roots(qs []*Query) []*Node {
	nodes := make([]*Node, len(qs))
	for i, q := range qs {
		nodes[i] = q.Root()
	}
	return nodes
}

// joinAll puts operands, at least one, together from the left.
func joinAll(kind Kind, nodes []*Node) *Node {
	left := *nodes[0]
	left.Nodes = slices.Clip(left.Nodes) // other queries share them
	n := &left
	for _, m := range nodes[1:] {
		n = join(kind, n, m)
	}
	return n
}

// join puts two operands together. A left one of the same kind is continued,
// which is how a row of them reads: it may be changed.
func join(kind Kind, left, right *Node) *Node {
	if left.Kind != kind {
		return &Node{Kind: kind, Nodes: []*Node{left, right}, height: 1 + max(left.height, right.height)}
	}
	left.Nodes = append(left.Nodes, right)
	left.height = max(left.height, 1+right.height)
	return left
}

func notNode(n *Node) *Node {
	return &Node{Kind: KindNot, Nodes: []*Node{n}, height: 1 + n.height}
}

// CodeIn is true of responses with one of the status codes.
func CodeIn(codes ...int) *Query {
	qs := make([]*Query, len(codes))
	for i, code := range codes {
		n := compareNode(RespCode, Eq)
		n.Number = int64(max(code, 0))
		qs[i] = newQuery(n)
	}
	return Or(qs...)
}

// Compare compares a field that takes a string: one of text, ReqCreatedAt
// (with a date), or Source (by Eq). It is an error ([*SyntaxError], counted in
// operand) if field and operator do not go together, or the operand is no
// pattern, date or UTF-8.
func Compare(f Field, op Op, operand string) (*Query, error) {
	if takes := f.spec().takes; takes != takesText && takes != takesDate && takes != takesName {
		return nil, (&fault{0, f.String() + " is not compared with a string", "use CompareInt or CompareHeader"}).in("", 0)
	}
	return compare(f, op, "", operand)
}

// CompareInt compares a field that is a number, 0 or above; ReqTLS takes 0
// and 1.
func CompareInt(f Field, op Op, operand int64) (*Query, error) {
	takes := f.spec().takes
	bad := &fault{msg: f.String() + " is not compared with a number", hint: "use Compare or CompareHeader"}
	switch {
	case takes != takesNumber && takes != takesBool:
	case !op.fits(takes):
		bad.msg, bad.hint = f.String()+" cannot be compared by "+op.String(), "use one of "+operatorsOf(f)
	case operand < 0 || takes == takesBool && operand > 1:
		bad.msg, bad.hint = f.String()+" has no such value", "use 0 or above"
	default:
		n := compareNode(f, op)
		n.Number = operand
		return newQuery(n), nil
	}
	return nil, bad.in("", 0)
}

// CompareHeader compares the values of the headers of that name. Errors are as
// for [Compare].
func CompareHeader(s Side, name string, op Op, operand string) (*Query, error) {
	return compare(s.pick(ReqHeader, RespHeader), op, name, operand)
}

func compare(f Field, op Op, name, operand string) (*Query, error) {
	bad := utf8Fault(name + operand)
	var n *Node
	switch {
	case bad != nil:
	case !op.fits(f.spec().takes):
		bad = &fault{0, f.String() + " cannot be compared by " + op.String(), "use one of " + operatorsOf(f)}
	default:
		n, bad = leaf(f, op, name, operand, false)
	}
	if bad != nil {
		return nil, bad.in(operand, 0)
	}
	return newQuery(n), nil
}

func (s Side) pick(request, response Field) Field {
	if s == Request {
		return request
	}
	return response
}

// contains is what BodyContains says, for any field of text.
func contains(f Field, name, text string, matchCase bool) *Query {
	op := Cont
	text = strings.ToValidUTF8(text, "\ufffd")
	if matchCase {
		op, text = Regex, regexp.QuoteMeta(text)
	}
	n, bad := leaf(f, op, strings.ToValidUTF8(name, "\ufffd"), text, false)
	if bad != nil {
		panic("internal error: httpql: escaped text is no regex: " + bad.msg)
	}
	return newQuery(n)
}

// BodyContains is true where the decoded body contains text. With matchCase it
// is a regex of the escaped text, which is how the language says that; without,
// it is cont. What is not UTF-8 in text becomes U+FFFD, since no query can hold
// it.
func BodyContains(s Side, text string, matchCase bool) *Query {
	return contains(s.pick(ReqBody, RespBody), "", text, matchCase)
}

// RawContains is BodyContains for head and body.
func RawContains(s Side, text string, matchCase bool) *Query {
	return contains(s.pick(ReqRaw, RespRaw), "", text, matchCase)
}

// HeaderContains is BodyContains for the values of the headers of that name.
func HeaderContains(s Side, name, text string, matchCase bool) *Query {
	return contains(s.pick(ReqHeader, RespHeader), name, text, matchCase)
}

// BodyRegex is true where the pattern matches within the decoded body. Errors
// are as for [Compare].
func BodyRegex(s Side, pattern string) (*Query, error) {
	return Compare(s.pick(ReqBody, RespBody), Regex, pattern)
}

// AsksHeader reports whether the query asks about a header of that side that
// match accepts; it is called with names as they are written.
func (q *Query) AsksHeader(s Side, match func(name string) bool) bool {
	return q.Root().asks(s.pick(ReqHeader, RespHeader), match)
}

func (n *Node) asks(f Field, match func(string) bool) bool {
	if n.Kind == KindCompare {
		return n.Field == f && match(n.Name)
	}
	for _, m := range n.Nodes {
		if m.asks(f, match) {
			return true
		}
	}
	return false
}
