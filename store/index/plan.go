package index

import (
	"math"
	"strings"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// maxClauses bounds the comparisons in a condition on columns: SQLite takes
// expressions of a depth of 1000.
const maxClauses = 200

// A Plan is what is known of a query before the contents of flows are looked
// at.
type Plan struct {
	// Where is an SQL condition on the columns of the table flows, never
	// empty, with ? for each of Args.
	Where string
	Args  []any
	// From and To bound the column at, in microseconds: from From on, before To.
	// Where says it, too.
	From, To int64
	// Blocks is the condition on the signatures.
	Blocks Blocks
	// None reports that the query is true of no flow.
	None bool
}

// NewPlan bounds the flows that a query is true of.
func NewPlan(t *Table, q *httpql.Query) Plan {
	return (&planner{table: t, left: maxClauses}).plan(q)
}

// NewBlindPlan is a plan for a query that is asked about other contents than
// those of the flows. What it asks about contents bounds nothing: neither what is
// found nor how long that takes depends on those that are not asked about.
func NewBlindPlan(t *Table, q *httpql.Query) Plan {
	return (&planner{table: t, left: maxClauses, blind: true}).plan(q)
}

func (p *planner) plan(q *httpql.Query) Plan {
	c, b := p.bound(q.Root(), true)
	plan := Plan{Where: c.sql, Args: c.args, Blocks: b, None: c.kind == condNever || b.kind == blocksNone}
	plan.From, plan.To = times(q.Root(), math.MinInt64, math.MaxInt64)
	switch c.kind {
	case condAlways:
		plan.Where = "1 = 1"
	case condNever:
		plan.Where = "1 = 0"
	}
	return plan
}

// times are those between which a flow must begin.
func times(n *httpql.Node, from, to int64) (int64, int64) {
	switch {
	case n.Kind == httpql.KindAnd:
		for _, m := range n.Nodes {
			from, to = times(m, from, to)
		}
	case n.Kind == httpql.KindCompare && n.Field == httpql.ReqCreatedAt && n.Op == httpql.Lt:
		to = min(to, n.Number*1000)
	case n.Kind == httpql.KindCompare && n.Field == httpql.ReqCreatedAt && n.Op == httpql.Gt:
		from = max(from, (n.Number+1)*1000)
	}
	return from, to
}

type planner struct {
	table *Table
	left  int // comparisons that may still be written
	blind bool
}

// bound is where a node may be true, or, with want false, where it may be
// false. Both, since unknown is neither, and NOT turns one into the other.
func (p *planner) bound(n *httpql.Node, want bool) (cond, Blocks) {
	switch n.Kind {
	case httpql.KindNot:
		return p.bound(n.Nodes[0], !want)
	case httpql.KindAnd, httpql.KindOr:
		conds, blocks := make([]cond, len(n.Nodes)), make([]Blocks, len(n.Nodes))
		for i, m := range n.Nodes {
			conds[i], blocks[i] = p.bound(m, want)
		}
		if n.Kind == httpql.KindAnd == want {
			return joinConds(condAnd, conds), joinBlocks(blocksAnd, blocks)
		}
		return joinConds(condOr, conds), joinBlocks(blocksOr, blocks)
	case httpql.KindAll:
		if want {
			return cond{}, Blocks{}
		}
	case httpql.KindCompare:
		if p.blind && n.Field.Content() {
			return cond{}, Blocks{}
		}
		c := p.column(n, want)
		if !want {
			return c, Blocks{}
		}
		return c, p.content(n)
	}
	// Never: the denial of everything, and a preset that was not resolved.
	return cond{kind: condNever}, Blocks{kind: blocksNone}
}

// content is what must be found in the messages of a flow for a comparison to
// be true.
func (p *planner) content(n *httpql.Node) Blocks {
	if n.Field == httpql.RespCode {
		return p.table.codes(n)
	}
	side, ok := sideOf(n.Field)
	if !ok {
		return Blocks{}
	}
	b := p.table.blocks(side, operand(n))
	if n.Name != "" && positive(n.Op) {
		name := p.table.blocks(side, texts{kind: blocksHas, text: n.Name})
		b = joinBlocks(blocksAnd, []Blocks{name, b})
	}
	return b
}

// sideOf is the message that a text is in.
func sideOf(f httpql.Field) (httpql.Side, bool) {
	switch f {
	case httpql.ReqBody, httpql.ReqRaw, httpql.ReqHost, httpql.ReqMethod, httpql.ReqPath, httpql.ReqQuery, httpql.ReqExt,
		httpql.ReqHeader, httpql.ReqHeaderName, httpql.ReqHeaderValue:
		return httpql.Request, true
	case httpql.RespBody, httpql.RespRaw, httpql.RespHeader, httpql.RespHeaderName, httpql.RespHeaderValue, httpql.RespRedirect:
		return httpql.Response, true
	}
	return 0, false
}

func positive(op httpql.Op) bool {
	return op == httpql.Eq || op == httpql.Cont || op == httpql.Like || op == httpql.Regex
}

// operand is what a comparison of text must find.
func operand(n *httpql.Node) texts {
	switch n.Op {
	case httpql.Eq, httpql.Cont:
		return texts{kind: blocksHas, text: n.Text}
	case httpql.Like:
		// A wildcard stands for what is not known, as in a regex.
		return texts{kind: blocksHas, text: strings.NewReplacer("%", anyChar, "_", anyChar).Replace(n.Text)}
	case httpql.Regex:
		return regexTexts(n.Pattern())
	}
	return texts{}
}

// cond is an SQL condition that is never NULL. The zero value is true.
type cond struct {
	kind condKind
	sql  string
	args []any
}

type condKind uint8

const (
	condAlways condKind = iota
	condNever
	condSQL
	condAnd // for joinConds only
	condOr
)

func (c cond) not() cond {
	switch c.kind {
	case condAlways:
		return cond{kind: condNever}
	case condNever:
		return cond{}
	}
	return cond{condSQL, "NOT " + c.sql, c.args}
}

// joinConds is an AND, or an OR, of conditions.
func joinConds(kind condKind, of []cond) cond {
	nothing, decides, word := condAlways, condNever, " AND "
	if kind == condOr {
		nothing, decides, word = decides, nothing, " OR "
	}
	var parts []string
	var args []any
	for _, c := range of {
		switch c.kind {
		case decides:
			return cond{kind: decides}
		case nothing:
		default:
			parts = append(parts, c.sql)
			args = append(args, c.args...)
		}
	}
	switch len(parts) {
	case 0:
		return cond{kind: nothing}
	case 1:
		return cond{condSQL, parts[0], args}
	}
	return cond{condSQL, "(" + strings.Join(parts, word) + ")", args}
}
