package httpql

import (
	"fmt"
	"strconv"
)

// A Query is a condition about one flow. It never changes: any goroutine may
// use it. The zero value and nil match everything.
type Query struct {
	root  *Node
	needs Needs
}

// Needs says which parts of a flow a query reads.
type Needs uint16

// The parts. A query that reads a body needs its message too.
const (
	NeedRequest      Needs = 1 << iota // line, fields, host
	NeedRequestBody                    // the decoded body
	NeedResponse                       // status and fields
	NeedResponseBody                   // the decoded body
	NeedSession                        // state or generation of the session
	NeedTrace                          // what was done to the flow
	NeedEnd                            // the end of the flow
	NeedRow                            // the row that the flow is stored in
	NeedPresets                        // a preset that was not resolved yet
)

// A SyntaxError is what is wrong with the text of a query, and where.
type SyntaxError struct {
	Offset int    // in bytes from the beginning
	Line   int    // from 1
	Column int    // from 1, in characters
	Msg    string // what is wrong
	Hint   string // what to do about it
}

func (e *SyntaxError) Error() string {
	s := fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Msg)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// newQuery finishes a tree.
func newQuery(root *Node) *Query { return &Query{root: root, needs: root.reads()} }

// Needs says which parts of a flow the query reads.
func (q *Query) Needs() Needs {
	if q == nil {
		return 0
	}
	return q.needs
}

// Root is the tree of the query, for those who translate it; read it only.
func (q *Query) Root() *Node {
	if q == nil || q.root == nil {
		return all()
	}
	return q.root
}

func (n *Node) reads() Needs {
	switch n.Kind {
	case KindPreset:
		return NeedPresets
	case KindCompare:
		return n.Field.spec().needs
	}
	var needs Needs
	for _, m := range n.Nodes {
		needs |= m.reads()
	}
	return needs
}

// Resolve returns the query with the queries of presets in the place of their
// names; names and aliases are keys alike. The error, for a name that presets
// does not have and for a preset inside a preset, is a [*SyntaxError].
func (q *Query) Resolve(presets map[string]*Query) (*Query, error) {
	if q.Needs()&NeedPresets == 0 {
		return q, nil
	}
	root, bad := q.root.resolve(presets)
	if bad != nil {
		return nil, bad
	}
	return newQuery(root), nil
}

func (n *Node) resolve(presets map[string]*Query) (*Node, *SyntaxError) {
	if n.Kind == KindPreset {
		q, ok := presets[n.Name]
		switch {
		case !ok:
			return nil, n.refuse("there is no preset "+strconv.Quote(n.Name), "define it, or write its condition here")
		case q.Needs()&NeedPresets != 0:
			return nil, n.refuse("the preset "+strconv.Quote(n.Name)+" uses a preset itself", "write that one's condition into it")
		}
		return q.Root(), nil
	}
	if len(n.Nodes) == 0 {
		return n, nil
	}
	nodes := make([]*Node, len(n.Nodes))
	for i, m := range n.Nodes {
		var bad *SyntaxError
		if nodes[i], bad = m.resolve(presets); bad != nil {
			return nil, bad
		}
	}
	if n.Kind == KindNot {
		return notNode(nodes[0]), nil
	}
	return joinAll(n.Kind, nodes), nil
}

// refuse is an error at the place of the node.
func (n *Node) refuse(msg, hint string) *SyntaxError {
	e := SyntaxError{Line: 1, Column: 1}
	if n.at != nil {
		e = *n.at
	}
	e.Msg, e.Hint = msg, hint
	return &e
}
