package httpql

import "bytes"

// Match answers the query about r. A query with presets that were not
// resolved is Unknown where they matter.
func (q *Query) Match(r Record) Truth {
	if q == nil || q.root == nil {
		return True
	}
	return q.root.ask(r)
}

// ask answers for a node. AND and OR stop at the first operand that decides.
func (n *Node) ask(r Record) Truth {
	switch n.Kind {
	case KindAnd, KindOr:
		return n.askAll(r)
	case KindNot:
		return n.Nodes[0].ask(r).not()
	case KindCompare:
		return n.compare(r)
	case KindPreset:
		return Unknown
	}
	return True
}

func (n *Node) askAll(r Record) Truth {
	decides, answer := False, True
	if n.Kind == KindOr {
		decides, answer = True, False
	}
	for _, m := range n.Nodes {
		switch m.ask(r) {
		case decides:
			return decides
		case Unknown:
			answer = Unknown
		}
	}
	return answer
}

func (n *Node) compare(r Record) Truth {
	switch n.access {
	case asBytes:
		return n.text.compare(r.Bytes(n.of))
	case asInt:
		v, p := r.Int(n.of)
		switch p {
		case Missing:
			return False
		case Pending:
			return Unknown
		}
		return truth(n.number(v))
	case asRaw:
		head, body, p := whole(r, n.of)
		return n.text.compare2(head, body, p)
	case asLen:
		return n.length(Size(r, n.of))
	case asExt:
		path, p := r.Bytes(n.of)
		if p == Pending {
			return Unknown
		}
		return n.text.compare(extension(path), p)
	case asRedirect:
		return n.redirect(r)
	case asSource:
		tool, p := r.Bytes(n.of)
		if p != Known {
			return n.text.compare(nil, p)
		}
		return truth(publishedSource(string(tool)) == n.Text)
	}
	return n.items(r)
}

// whole is a message: its head, and its body, whose field is the next one.
func whole(r Record, head Field) (h, b []byte, p Presence) {
	h, p = r.Bytes(head)
	if p != Known {
		return h, nil, p
	}
	b, p = r.Bytes(head + 1)
	if p == Missing {
		p = Known
	}
	return h, b, p
}

func (n *Node) number(v int64) bool {
	switch n.Op {
	case Eq:
		return v == n.Number
	case Ne:
		return v != n.Number
	case Gt:
		return v > n.Number
	case Gte:
		return v >= n.Number
	case Lt:
		return v < n.Number
	}
	return v <= n.Number
}

// length compares the length of a message. One that still grows is at least
// as long as it is now.
func (n *Node) length(v int64, p Presence) Truth {
	switch {
	case p == Missing:
		return False
	case p == Known:
		return truth(n.number(v))
	case v == 0:
		return Unknown // it may turn out to be missing
	case v > n.Number || v == n.Number && (n.Op == Gte || n.Op == Lt):
		// No longer message changes the answer for this one.
		return truth(n.number(v))
	}
	return Unknown
}

// items compares the values of a field that has several: one that matches is
// enough, and a negative operator denies that there is one.
func (n *Node) items(r Record) Truth {
	count, p := r.Int(n.of)
	if p == Missing {
		return False
	}
	for i := range int(count) {
		name, value := r.Item(n.of, i)
		switch {
		case n.access == asNames:
			value = name
		case n.access == asNamed && !equalFold(name, n.Name):
			continue
		}
		if n.text.holds(value, Known) == True {
			return n.text.denied(True)
		}
	}
	return n.text.denied(certain(false, p == Pending))
}

func (n *Node) redirect(r Record) Truth {
	code, p := r.Int(RespCode)
	if p != Known {
		return n.text.compare(nil, p)
	}
	if code < 300 || code > 399 {
		return n.text.compare(nil, Known)
	}
	count, p := r.Int(n.of)
	for i := range int(count) {
		if name, value := r.Item(n.of, i); equalFold(name, "location") {
			return n.text.compare(value, Known)
		}
	}
	return n.text.compare(nil, p)
}

// equalFold compares header names (RFC 9110 §5.1): ASCII without case.
func equalFold(name []byte, s string) bool {
	if len(name) != len(s) {
		return false
	}
	for i, c := range name {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

// extension is what follows the last dot of the last segment, with the dot.
func extension(path []byte) []byte {
	segment := path[bytes.LastIndexByte(path, '/')+1:]
	if dot := bytes.LastIndexByte(segment, '.'); dot >= 0 {
		return segment[dot:]
	}
	return nil
}

// publishedSource is the published name for what our tools do.
func publishedSource(tool string) string {
	switch tool {
	case "replay":
		return "replay"
	case "fuzz":
		return "automate"
	case "authz":
		return "plugin"
	case "macro", "script":
		return "workflow"
	}
	return "intercept"
}
