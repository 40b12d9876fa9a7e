package rule

import (
	"strings"

	"github.com/antchfx/xpath"
	"golang.org/x/net/html"
)

// maxMoves bounds what one XPath costs: steps in the tree, and bytes of text
// that are compared. An expression that a body makes dearer finds nothing more.
const maxMoves = 1 << 23

// navigator shows a tree to the XPath library. Each copy has its own place, and
// all of an evaluation share one budget.
type navigator struct {
	root, at *html.Node
	attr     int // of at.Attr; -1 is the node itself
	budget   *int
}

func newNavigator(root *html.Node) *navigator {
	budget := maxMoves
	return &navigator{root: root, at: root, attr: -1, budget: &budget}
}

func (n *navigator) pay(cost int) bool {
	*n.budget -= cost
	return *n.budget > 0
}

// NodeType is part of xpath.NodeNavigator, like all methods below.
func (n *navigator) NodeType() xpath.NodeType {
	switch {
	case n.attr >= 0:
		return xpath.AttributeNode
	case n.at.Type == html.ElementNode:
		return xpath.ElementNode
	case n.at.Type == html.TextNode:
		return xpath.TextNode
	case n.at.Type == html.CommentNode:
		return xpath.CommentNode
	}
	return xpath.RootNode
}

func (n *navigator) name() string {
	if n.attr >= 0 {
		return n.at.Attr[n.attr].Key
	}
	if n.at.Type != html.ElementNode {
		return ""
	}
	return n.at.Data
}

func (n *navigator) LocalName() string {
	name := n.name()
	return name[strings.IndexByte(name, ':')+1:]
}

func (n *navigator) Prefix() string {
	prefix, _, ok := strings.Cut(n.name(), ":")
	if !ok {
		return ""
	}
	return prefix
}

func (n *navigator) Value() string {
	if !n.pay(1) {
		return ""
	}
	if n.attr >= 0 {
		return n.at.Attr[n.attr].Val
	}
	text := textOf(n.at)
	n.pay(len(text))
	return text
}

func (n *navigator) Copy() xpath.NodeNavigator {
	c := *n
	return &c
}

func (n *navigator) MoveToRoot() { n.at, n.attr = n.root, -1 }

// to moves to a node, if there is one and the budget allows it.
func (n *navigator) to(node *html.Node) bool {
	if node == nil || !n.pay(1) {
		return false
	}
	n.at, n.attr = node, -1
	return true
}

func (n *navigator) MoveToParent() bool {
	if n.attr >= 0 {
		n.attr = -1
		return true
	}
	return n.at != n.root && n.to(n.at.Parent)
}

func (n *navigator) MoveToNextAttribute() bool {
	if n.at.Type != html.ElementNode || n.attr+1 >= len(n.at.Attr) || !n.pay(1) {
		return false
	}
	n.attr++
	return true
}

func (n *navigator) MoveToChild() bool { return n.attr < 0 && n.to(n.at.FirstChild) }

func (n *navigator) MoveToFirst() bool {
	return n.attr < 0 && n.at != n.root && n.at.PrevSibling != nil && n.to(n.at.Parent.FirstChild)
}

func (n *navigator) MoveToNext() bool {
	return n.attr < 0 && n.at != n.root && n.to(n.at.NextSibling)
}

func (n *navigator) MoveToPrevious() bool {
	return n.attr < 0 && n.at != n.root && n.to(n.at.PrevSibling)
}

func (n *navigator) MoveTo(other xpath.NodeNavigator) bool {
	o, ok := other.(*navigator)
	if !ok || o.root != n.root {
		return false
	}
	n.at, n.attr = o.at, o.attr
	return true
}

// compilePath compiles an XPath.
func compilePath(src string) (*xpath.Expr, error) {
	e, err := xpath.Compile(src)
	if err != nil {
		return nil, &Error{Problem: "the XPath cannot be read: " + err.Error(), Next: "mend it; XPath 1.0 is understood"}
	}
	return e, nil
}

// selectNodes gives yield the nodes that an expression selects; an expression
// that is a text, number or truth is given as text. The library panics on some
// expressions that make no sense of a document; they select nothing.
func selectNodes(e *xpath.Expr, root *html.Node, yield func(n *navigator, text string) bool) {
	defer func() { _ = recover() }()
	start := newNavigator(root)
	switch v := e.Evaluate(start).(type) {
	case *xpath.NodeIterator:
		for v.MoveNext() && *start.budget > 0 {
			n, ok := v.Current().(*navigator)
			if !ok || !yield(n, "") {
				return
			}
		}
	case string:
		yield(nil, v)
	case float64:
		yield(nil, formatNumber(v))
	case bool:
		if v {
			yield(nil, "true")
		}
	}
}
