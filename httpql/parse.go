package httpql

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parse reads a query. The error is a [*SyntaxError].
func Parse(src string) (*Query, error) {
	p := parser{src: src}
	root, f := p.query()
	if f == nil && len(src) > MaxSource/16 {
		// The canonical form is at most some ten times as long.
		if len((&Query{root: root}).String()) > MaxSource {
			f = tooLong(0)
		}
	}
	if f != nil {
		return nil, f.in(src, 0)
	}
	return newQuery(root), nil
}

func tooLong(at int) *fault {
	return &fault{at, fmt.Sprintf("the query is longer than %d bytes", MaxSource),
		"a regex such as req.host.regex:/^(a|b|c)$/ is shorter than many clauses"}
}

// parser reads by precedence (Pratt): a clause, then what binds tighter than
// the operator before it.
type parser struct {
	src  string
	pos  int
	deep int
}

// How tightly the words bind.
const (
	bindOr = iota + 1
	bindAnd
	bindNot
)

func (p *parser) query() (*Node, *fault) {
	if len(p.src) > MaxSource {
		return nil, tooLong(MaxSource)
	}
	for i := 0; i < len(p.src); {
		r, n := utf8.DecodeRuneInString(p.src[i:])
		if r == utf8.RuneError && n == 1 {
			return nil, &fault{i, "the query is not UTF-8", "save it as UTF-8"}
		}
		i += n
	}
	if f := p.blank(); f != nil {
		return nil, f
	}
	if p.pos == len(p.src) {
		return all(), nil
	}
	n, f := p.expression(0)
	if f == nil && p.pos < len(p.src) {
		f = p.leftover()
	}
	return n, f
}

// expression reads clauses joined by words that bind tighter than least.
func (p *parser) expression(least int) (*Node, *fault) {
	left, f := p.clause()
	for f == nil {
		if f = p.blank(); f != nil {
			break
		}
		at, kind, bind := p.pos, KindAnd, bindAnd
		switch w := word(p.src, p.pos); w {
		case "AND", "and":
		case "OR", "or":
			kind, bind = KindOr, bindOr
		default:
			return left, nil
		}
		if bind <= least {
			return left, nil
		}
		w := word(p.src, p.pos)
		p.pos += len(w)
		if f = p.blank(); f != nil {
			break
		}
		if p.pos == len(p.src) {
			return nil, &fault{p.pos, "the query ends after " + w, "write a clause behind it, or take it away"}
		}
		var right *Node
		if right, f = p.expression(bind); f != nil {
			break
		}
		left = join(kind, left, right)
		if left.height > MaxDepth {
			f = tooDeep(at)
		}
	}
	return nil, f
}

func tooDeep(at int) *fault {
	return &fault{at, fmt.Sprintf("the query nests deeper than %d", MaxDepth), "take parentheses away"}
}

func (p *parser) blank() (f *fault) {
	p.pos, f = blank(p.src, p.pos)
	return f
}

// clause reads what can stand on either side of AND.
func (p *parser) clause() (*Node, *fault) {
	if f := p.blank(); f != nil {
		return nil, f
	}
	if p.pos == len(p.src) {
		return nil, &fault{p.pos, "a clause is missing", `write one such as resp.code.eq:401`}
	}
	switch c := p.src[p.pos]; {
	case c == '"':
		return p.anywhere()
	case c == '(':
		return p.group()
	case !isWord(c):
		return nil, p.notAClause()
	}
	switch w := word(p.src, p.pos); w {
	case "NOT", "not":
		return p.not(len(w))
	case "preset":
		return p.preset()
	}
	return p.compare()
}

// anywhere reads a bare string.
func (p *parser) anywhere() (*Node, *fault) {
	at := p.pos
	text, end, f := unquote(p.src, at)
	if f != nil {
		return nil, f
	}
	p.pos = end
	req, f := leaf(ReqRaw, Cont, "", text, false)
	if f != nil {
		return nil, f
	}
	resp, f := leaf(RespRaw, Cont, "", text, false)
	return join(KindOr, req, resp), f
}

func (p *parser) enter() *fault {
	if p.deep++; p.deep > MaxDepth {
		return tooDeep(p.pos)
	}
	return nil
}

func (p *parser) group() (*Node, *fault) {
	open := p.pos
	if f := p.enter(); f != nil {
		return nil, f
	}
	p.pos++
	if f := p.blank(); f != nil {
		return nil, f
	}
	n := all()
	if p.pos < len(p.src) && p.src[p.pos] != ')' {
		var f *fault
		if n, f = p.expression(0); f != nil {
			return nil, f
		}
	}
	if p.pos == len(p.src) {
		return nil, &fault{open, "the parenthesis has no end", "close it with )"}
	}
	if p.src[p.pos] != ')' {
		return nil, p.leftover()
	}
	p.pos++
	p.deep--
	return n, nil
}

func (p *parser) not(length int) (*Node, *fault) {
	at := p.pos
	if f := p.enter(); f != nil {
		return nil, f
	}
	p.pos += length
	n, f := p.expression(bindNot)
	if f != nil {
		return nil, f
	}
	p.deep--
	if n.height >= MaxDepth {
		return nil, tooDeep(at)
	}
	return notNode(n), nil
}

func (p *parser) preset() (*Node, *fault) {
	n := &Node{Kind: KindPreset, at: (&fault{}).in(p.src, p.pos), height: 1}
	p.pos += len("preset")
	f := p.expect(':', `write preset:"name" or preset:alias`)
	if f != nil {
		return nil, f
	}
	if p.peek() == '"' {
		n.Name, p.pos, f = unquote(p.src, p.pos)
		return n, f
	}
	end := p.pos
	for end < len(p.src) && isAlias(p.src[end]) {
		end++
	}
	if end == p.pos {
		return nil, &fault{p.pos, "the preset has no name", `write preset:"name" or preset:alias`}
	}
	n.Name, n.Literal, p.pos = p.src[p.pos:end], true, end
	return n, nil
}

func isAlias(c byte) bool {
	return c == '-' || c == '_' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
}

// peek is the byte at hand, 0 at the end.
func (p *parser) peek() byte {
	if p.pos == len(p.src) {
		return 0
	}
	return p.src[p.pos]
}

func (p *parser) expect(c byte, hint string) *fault {
	if p.peek() == c {
		p.pos++
		return nil
	}
	return p.missing(strconv.QuoteRune(rune(c)), hint)
}

// missing is about what does not stand at hand.
func (p *parser) missing(what, hint string) *fault {
	msg := what + " is missing"
	if p.pos < len(p.src) && strings.IndexByte(" \t\r\n/", p.src[p.pos]) >= 0 {
		msg += ": no blank and no comment may stand inside a clause"
	}
	return &fault{p.pos, msg, hint}
}

// compare reads field, operator and operand.
func (p *parser) compare() (*Node, *fault) {
	f, name, bad := p.field()
	if bad != nil {
		return nil, bad
	}
	op := Eq
	takes := f.spec().takes
	if takes == takesName {
		if bad := p.expect(':', `write source:"intercept"`); bad != nil {
			return nil, bad
		}
		return p.text(f, op, name)
	}
	if op, bad = p.operator(f); bad != nil {
		return nil, bad
	}
	switch takes {
	case takesNumber, takesBool:
		return p.number(f, op)
	}
	return p.text(f, op, name)
}

// field reads up to the dot before the operator, or the colon of source.
func (p *parser) field() (Field, string, *fault) {
	first := word(p.src, p.pos)
	if first == "source" {
		p.pos += len(first)
		return Source, "", nil
	}
	if !slices.Contains(namespaces(), first) {
		return 0, "", p.noNamespace(first)
	}
	start := p.pos
	p.pos += len(first)
	hint := "write a field such as " + fieldsOf(first)[0]
	if f := p.expect('.', hint); f != nil {
		return 0, "", f
	}
	part := word(p.src, p.pos)
	named, headers := fieldNamed(first + ".header")
	headers = headers && part == "header"
	p.pos += len(part)
	switch {
	case headers && p.peek() == '[':
		name, bad := p.bracketed()
		if bad != nil {
			return 0, "", bad
		}
		return named, name, p.expect('.', "write an operator: "+operatorsOf(named))
	case headers:
		if f := p.expect('.', `write header["Name"], header.name or header.value`); f != nil {
			return 0, "", f
		}
		p.pos += len(word(p.src, p.pos))
	}
	f, ok := fieldNamed(p.src[start:p.pos])
	if !ok {
		return 0, "", p.noField(start, first)
	}
	return f, "", p.expect('.', "write an operator: "+operatorsOf(f))
}

// bracketed reads ["name"].
func (p *parser) bracketed() (string, *fault) {
	const hint = `write header["Content-Type"]`
	p.pos++
	if p.peek() != '"' {
		return "", &fault{p.pos, "the name of the header is missing", hint}
	}
	name, end, bad := unquote(p.src, p.pos)
	if bad != nil {
		return "", bad
	}
	p.pos = end
	return name, p.expect(']', hint)
}

func (p *parser) operator(f Field) (Op, *fault) {
	at, w := p.pos, word(p.src, p.pos)
	for op := Eq; op <= Nregex; op++ {
		if op.String() != w {
			continue
		}
		if !op.fits(f.spec().takes) {
			return 0, &fault{at, f.String() + " cannot be compared by " + w, "write one of " + operatorsOf(f)}
		}
		p.pos += len(w)
		return op, p.expect(':', "write "+f.written()+"."+w+":"+sampleOf(f))
	}
	if w == "" {
		return 0, &fault{at, "the operator is missing", "write one of " + operatorsOf(f)}
	}
	return 0, &fault{at, "there is no operator " + w, "write one of " + operatorsOf(f)}
}

// text reads a string, or a regex between slashes.
func (p *parser) text(f Field, op Op, name string) (*Node, *fault) {
	at := p.pos
	pattern := op == Regex || op == Nregex
	switch {
	case p.peek() == '"':
		text, end, bad := unquote(p.src, at)
		if bad != nil {
			return nil, bad
		}
		p.pos = end
		n, bad := leaf(f, op, name, text, false)
		if bad != nil {
			bad.at = at + quotedOffset(p.src[at:], bad.at)
		}
		return n, bad
	case p.peek() == '/' && pattern:
		end := slashed(p.src, at)
		if end < 0 {
			return nil, &fault{at, "the regex has no end", "close it with /"}
		}
		p.pos = end
		n, bad := leaf(f, op, name, p.src[at+1:end-1], true)
		if bad != nil {
			bad.at += at + 1
		}
		return n, bad
	case pattern:
		return nil, &fault{at, "a regex is missing", `write it between slashes: /\d+/`}
	}
	return nil, &fault{at, "a string is missing", "write the text in double quotes"}
}

// slashed is the offset behind the regex that begins with the slash at i, or
// -1. A backslash takes what follows it along.
func slashed(src string, i int) int {
	for i++; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '/':
			return i + 1
		}
	}
	return -1
}

func (p *parser) number(f Field, op Op) (*Node, *fault) {
	n := compareNode(f, op)
	at := p.pos
	if f.spec().takes == takesBool {
		for i, w := range []string{"false", "true"} {
			if strings.HasPrefix(p.src[at:], w) {
				n.Number, p.pos = int64(i), at+len(w)
				return n, nil
			}
		}
		return nil, &fault{at, "true or false is missing", "write " + f.String() + "." + op.String() + ":true"}
	}
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		if n.Number > (1<<63-10)/10 {
			return nil, &fault{at, "the number is too large", "write one below 2^63"}
		}
		n.Number = n.Number*10 + int64(c-'0')
		p.pos++
	}
	if p.pos == at {
		return nil, &fault{at, "a number is missing", "write digits only, without sign, quotes or unit"}
	}
	return n, nil
}
