package rule

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// A need is something without which a condition cannot be met: one of the
// texts stands in the request line's URL (or in the Host field, for conditions
// in HTTPQL), whatever their case, or the method is one of the methods. One of
// the two lists is empty.
type need struct {
	texts, methods []string
}

// Bounds on what is taken from one condition: it only narrows, so less will do.
const (
	maxNeeds    = 16
	maxNeedAny  = 16 // alternatives
	maxNeedDeep = 32 // of nodes inside each other
)

// needsOfRegex lists what every text has that the regex is found in. A regex
// that is not of Go's syntax tells nothing.
func needsOfRegex(source string) []need {
	re, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil
	}
	return needsOf(re, 0)
}

func needsOf(re *syntax.Regexp, depth int) (all []need) {
	if depth > maxNeedDeep {
		return nil
	}
	switch re.Op {
	case syntax.OpLiteral:
		return needsOfText(string(re.Rune), re.Flags&syntax.FoldCase != 0)
	case syntax.OpCapture, syntax.OpPlus:
		return needsOf(re.Sub[0], depth+1)
	case syntax.OpRepeat:
		if re.Min > 0 {
			return needsOf(re.Sub[0], depth+1)
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			all = append(all, needsOf(sub, depth+1)...)
		}
	case syntax.OpAlternate:
		var subs [][]need
		for _, sub := range re.Sub {
			subs = append(subs, needsOf(sub, depth+1))
		}
		return anyOf(subs)
	}
	return all[:min(len(all), maxNeeds)]
}

// needsOfText cuts a text where its bytes cannot be told: at characters beyond
// ASCII and, where case does not matter, at letters that fold to such.
func needsOfText(text string, fold bool) (all []need) {
	for _, run := range strings.FieldsFunc(text, func(r rune) bool {
		return r >= utf8.RuneSelf || fold && strings.ContainsRune("kKsS", r)
	}) {
		all = append(all, need{texts: []string{lowerASCII(run)}})
	}
	return all
}

// anyOf is what alternatives need together: of each one its longest text, or
// its methods.
func anyOf(alternatives [][]need) []need {
	if len(alternatives) > maxNeedAny {
		return nil
	}
	var texts, methods need
	hasTexts, hasMethods := true, true
	for _, needs := range alternatives {
		var best need
		shortest := 0
		methodsHere := false
		for _, n := range needs {
			if len(n.methods) > 0 {
				if !methodsHere {
					methods.methods = append(methods.methods, n.methods...)
				}
				methodsHere = true
			} else if s := shortestOf(n.texts); s > shortest {
				best, shortest = n, s
			}
		}
		texts.texts = append(texts.texts, best.texts...)
		hasTexts, hasMethods = hasTexts && shortest > 0, hasMethods && methodsHere
	}
	var all []need
	if hasTexts && len(texts.texts) <= maxNeedAny {
		all = append(all, texts)
	}
	if hasMethods && len(methods.methods) <= maxNeedAny {
		all = append(all, methods)
	}
	return all
}

func shortestOf(texts []string) int {
	least := 0
	for i, t := range texts {
		if i == 0 || len(t) < least {
			least = len(t)
		}
	}
	return least
}

// needsOfCondition is what a condition in HTTPQL needs to be true.
func needsOfCondition(n *httpql.Node, depth int) (all []need) {
	if depth > maxNeedDeep {
		return nil
	}
	switch n.Kind {
	case httpql.KindAnd:
		for _, sub := range n.Nodes {
			all = append(all, needsOfCondition(sub, depth+1)...)
		}
		return all[:min(len(all), maxNeeds)]
	case httpql.KindOr:
		var subs [][]need
		for _, sub := range n.Nodes {
			subs = append(subs, needsOfCondition(sub, depth+1))
		}
		return anyOf(subs)
	case httpql.KindCompare:
	default:
		return nil
	}
	switch n.Field {
	case httpql.ReqMethod:
		if n.Op == httpql.Eq && n.Text != "" {
			return []need{{methods: []string{n.Text}}}
		}
	case httpql.ReqPath, httpql.ReqQuery, httpql.ReqHost:
		switch n.Op {
		case httpql.Eq, httpql.Cont:
			return needsOfText(n.Text, false)
		case httpql.Like:
			for _, part := range strings.FieldsFunc(n.Text, func(r rune) bool { return r == '%' || r == '_' }) {
				all = append(all, needsOfText(part, false)...)
			}
		}
	}
	return all
}

// needsOfEntry is what an entry needs of the URL beside its host.
func needsOfEntry(m *matcher) []need {
	var all []need
	switch {
	case m.regex != nil:
		return needsOfRegex(m.source)
	case m.file != nil:
		all = needsOfRegex(anyCase + m.fileText)
	}
	path := []string{m.path}
	if !m.fold {
		path = strings.Split(m.path, "*")
	}
	for _, part := range path {
		if part != "" {
			all = append(all, need{texts: []string{lowerASCII(part)}})
		}
	}
	return all
}

// needsOfScope is what a scope needs whatever its URLs are.
func needsOfScope(s *Scope) []need {
	var all []need
	if s.Condition != nil {
		all = needsOfCondition(s.Condition.Root(), 0)
	}
	if len(s.Methods) > 0 {
		all = append(all, need{methods: slices.Clone(s.Methods)})
	}
	return all
}

// gram is four bytes of a URL in lower case.
type gram uint32

// addByte is the gram that ends with c.
func (g gram) addByte(c byte) gram { return g<<8 | gram(lower(c)) }

const gramSize = 4

// grams are those of a text that do not stand in every URL.
func grams(text string) (all []gram) {
	for i := 0; i+gramSize <= len(text); i++ {
		if part := text[i : i+gramSize]; !strings.Contains("https://", part) && !strings.Contains("http://", part) {
			all = append(all, gramOf(part))
		}
	}
	return all
}

func gramOf(text string) (g gram) {
	for i := range gramSize {
		g = g.addByte(text[i])
	}
	return g
}
