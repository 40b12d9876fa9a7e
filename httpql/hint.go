package httpql

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// namespaces are the words that a comparison can begin with.
func namespaces() []string {
	return []string{"req", "resp", "row", "source", "flow", "session", "trace"}
}

// fieldsOf are the fields of a namespace, as they are written.
func fieldsOf(namespace string) []string {
	var names []string
	for f := range numFields {
		s := f.spec()
		if s.takes != takesNothing && strings.HasPrefix(s.name, namespace+".") {
			names = append(names, f.written())
		}
	}
	return names
}

// written is the field as it stands in a query.
func (f Field) written() string {
	if s := f.spec(); s.takes == takesNamed {
		return s.name + `["Name"]`
	}
	return f.String()
}

func fieldNamed(name string) (Field, bool) {
	for f, s := range specs() {
		if s.takes != takesNothing && s.name == name {
			return Field(f), true
		}
	}
	return 0, false
}

func operatorsOf(f Field) string {
	var names []string
	for op := Eq; op <= Nregex; op++ {
		if op.fits(f.spec().takes) {
			names = append(names, op.String())
		}
	}
	return strings.Join(names, ", ")
}

func sampleOf(f Field) string {
	switch f.spec().takes {
	case takesNumber:
		return "200"
	case takesBool:
		return "true"
	case takesDate:
		return `"2026-01-31"`
	}
	return `"text"`
}

// noNamespace is about a word that begins no comparison.
func (p *parser) noNamespace(w string) *fault {
	meant := ""
	switch strings.ToLower(w) {
	case "and", "or", "not":
		if slices.Contains([]string{"AND", "OR", "and", "or"}, w) {
			return &fault{p.pos, "a clause is missing before " + w, "write one such as resp.code.eq:401"}
		}
		return &fault{p.pos, "there is no word " + w, "write " + strings.ToUpper(w) + " or " + strings.ToLower(w)}
	case "res", "response", "resp":
		meant = "resp"
	case "req", "request":
		meant = "req"
	case "row", "flow", "session", "trace", "source", "preset":
		meant = strings.ToLower(w)
	}
	if meant != "" {
		return &fault{p.pos, "there is no field that begins with " + w, "write " + meant}
	}
	return &fault{p.pos, w + " is no clause", "text to look for stands in double quotes; a field begins with " +
		strings.Join(namespaces(), ", ")}
}

// noField is about an unknown name after a namespace that exists.
func (p *parser) noField(start int, namespace string) *fault {
	got := p.src[start:p.pos]
	if w := got[len(namespace)+1:]; w == "" {
		return p.missing("the name of a field", "write one of "+strings.Join(fieldsOf(namespace), ", "))
	}
	hint := "write one of " + strings.Join(fieldsOf(namespace), ", ")
	switch got {
	case "resp.status":
		hint = "write resp.code"
	case "req.url":
		hint = "write req.host, req.path or req.query"
	case "req.header.eq", "resp.header.eq":
		hint = "write " + namespace + `.header["Name"], .header.name or .header.value`
	}
	return &fault{start, "there is no field " + got, hint}
}

// notAClause is about a character that no clause begins with.
func (p *parser) notAClause() *fault {
	r, _ := utf8.DecodeRuneInString(p.src[p.pos:])
	f := &fault{p.pos, "a clause cannot begin with " + string(r), `write one such as resp.code.eq:401 or "text"`}
	switch r {
	case ')':
		f.msg, f.hint = "a clause is missing before )", "write one such as resp.code.eq:401, or take the ) away"
	case '!', '-':
		f.hint = "write NOT before a clause"
	case '\'':
		f.hint = "write double quotes"
	case '&', '|':
		f.hint = "write AND or OR between two clauses"
	}
	return f
}

// leftover is about what stands behind a whole clause and does not join it.
func (p *parser) leftover() *fault {
	f := &fault{p.pos, "AND or OR is missing", "write one of them between two clauses"}
	rest := p.src[p.pos:]
	w := word(rest, 0)
	switch {
	case rest[0] == ')':
		return &fault{p.pos, "the parenthesis was never opened", "take it away, or open one before"}
	case strings.HasPrefix(rest, "&&"):
		f.hint = "write AND for &&"
	case strings.HasPrefix(rest, "||"):
		f.hint = "write OR for ||"
	case strings.EqualFold(w, "and") || strings.EqualFold(w, "or"):
		return p.noNamespace(w)
	}
	return f
}
