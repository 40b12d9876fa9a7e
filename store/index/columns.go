package index

import (
	"strings"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// column is a condition on columns that a flow fulfils for which a comparison is
// true, or, with want false, for which it is false.
func (p *planner) column(n *httpql.Node, want bool) cond {
	is, odd, known := columnOf(n)
	if !known || p.left <= 0 {
		return cond{}
	}
	p.left--
	if !want {
		is = is.not()
	}
	return joinConds(condOr, []cond{odd, is})
}

// columnOf is the condition for a comparison to be true, as exact as its denial;
// odd is where neither says anything: the content has to be asked.
func columnOf(n *httpql.Node) (is, odd cond, known bool) {
	exact := cond{kind: condNever}
	switch n.Field {
	case httpql.RowID:
		return number("id", n), exact, true
	case httpql.ReqPort:
		return number("port", n), exact, true
	case httpql.ReqTLS:
		return number("tls", n), exact, true
	case httpql.SessionGeneration:
		return number("generation", n), exact, true
	case httpql.RespCode:
		return whereAnswered(number("status", n)), exact, true
	case httpql.RespRoundtrip:
		unknown := where("(sent = 0 OR answered = 0)")
		return whereAnswered(number("((answered - sent) / 1000)", n)), whereAnswered(unknown), true
	case httpql.FlowDuration:
		return number("((ended - at) / 1000)", n), exact, true
	case httpql.ReqCreatedAt:
		return created(n), exact, true
	case httpql.SessionState:
		is, _, known = text("state", n)
		return is, exact, known
	case httpql.FlowNode:
		is, _, known = text("node", n)
		return is, exact, known
	case httpql.FlowTool:
		return text("tool", n)
	case httpql.FlowIdentity:
		return text("identity", n)
	case httpql.ReqMethod:
		return text("method", n)
	case httpql.ReqHost:
		return text("host", n)
	case httpql.Source:
		return source(n.Text), where("tool IS NULL"), true
	}
	if side, ok := sideOf(n.Field); n.Field == httpql.RespLen || ok && side == httpql.Response {
		// Whatever is asked of a response, without one it is false.
		return cond{kind: condNever}, where(answered), true
	}
	return cond{}, cond{}, false
}

// answered is the condition that there is a response: without one, no
// comparison about it is true.
const answered = "status IS NOT NULL"

func where(sql string, args ...any) cond { return cond{condSQL, sql, args} }

func whereAnswered(c cond) cond { return where("("+answered+" AND "+c.sql+")", c.args...) }

func number(column string, n *httpql.Node) cond {
	op := map[httpql.Op]string{httpql.Eq: "=", httpql.Ne: "<>", httpql.Gt: ">", httpql.Gte: ">=", httpql.Lt: "<", httpql.Lte: "<="}[n.Op]
	return where("("+column+" "+op+" ?)", n.Number)
}

// created compares the time in microseconds with one in milliseconds.
func created(n *httpql.Node) cond {
	if n.Op == httpql.Lt {
		return where("(at < ?)", n.Number*1000)
	}
	return where("(at >= ?)", (n.Number+1)*1000)
}

// text compares a column of text that is NULL where the text is odd. Only bytes
// are compared: what ignores case, databases do each in its own way.
func text(column string, n *httpql.Node) (is, odd cond, known bool) {
	odd = where(column + " IS NULL")
	switch {
	case n.Op != httpql.Eq && n.Op != httpql.Ne:
		return cond{}, odd, false
	case strings.ContainsRune(n.Text, 0): // which PostgreSQL does not take
		is = cond{kind: condNever}
	default:
		is = where("("+column+" IS NOT NULL AND "+column+" = ?)", n.Text)
	}
	if n.Op == httpql.Ne {
		is = is.not()
	}
	return is, odd, true
}

// source names tools by their published names.
func source(name string) cond {
	const is = "(tool IS NOT NULL AND tool "
	switch name {
	case "replay":
		return where(is + "= 'replay')")
	case "automate":
		return where(is + "= 'fuzz')")
	case "plugin":
		return where(is + "= 'authz')")
	case "workflow":
		return where(is + "IN ('macro', 'script'))")
	case "intercept":
		return where(is + "NOT IN ('replay', 'fuzz', 'authz', 'macro', 'script'))")
	}
	return cond{kind: condNever}
}
