package index

import (
	"regexp/syntax"
	"strings"
	"unicode"
)

// Bounds of what is read out of a regex. Beyond them less is known of what it
// matches, and the bound is wider.
const (
	maxExact     = 24  // texts of which one must be there
	maxExactLen  = 256 // bytes of one of them
	maxClass     = 8   // characters of a class that are told apart
	maxRegexWork = 1 << 14
)

// any is a byte that stands in a text for characters that are not known or not
// ASCII: no trigram goes across it.
const anyChar = "\xff"

// regexTexts are the texts without which a pattern of Go's regexp matches
// nothing.
func regexTexts(pattern string) texts {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return texts{}
	}
	w := walker{left: maxRegexWork}
	return w.walk(re.Simplify()).all()
}

// matched is what is known of what a part of a regex matches: it is one of
// exact, or, where that is nil, must is true of it.
type matched struct {
	exact []string
	must  texts
}

// all is a condition on what was matched.
func (m matched) all() texts {
	if m.exact == nil {
		return m.must
	}
	of := make([]texts, len(m.exact))
	for i, s := range m.exact {
		of[i] = texts{kind: blocksHas, text: s}
	}
	return joinTexts(blocksOr, of)
}

func joinTexts(kind blocksKind, of []texts) texts {
	if len(of) == 1 {
		return of[0]
	}
	if len(of) == 0 && kind == blocksAnd {
		return texts{}
	}
	return texts{kind: kind, of: of}
}

type walker struct{ left int }

func (w *walker) walk(re *syntax.Regexp) matched {
	if w.left--; w.left < 0 {
		return matched{}
	}
	switch re.Op {
	case syntax.OpNoMatch:
		return matched{must: texts{kind: blocksNone}}
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return matched{exact: []string{""}}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return matched{exact: []string{anyChar}}
	case syntax.OpLiteral:
		return literal(re.Rune, re.Flags&syntax.FoldCase != 0)
	case syntax.OpCharClass:
		return class(re.Rune)
	case syntax.OpCapture:
		return w.walk(re.Sub[0])
	case syntax.OpQuest:
		if m := w.walk(re.Sub[0]); m.exact != nil && len(m.exact) < maxExact {
			return matched{exact: append(m.exact, "")}
		}
	case syntax.OpPlus:
		return matched{must: w.walk(re.Sub[0]).all()}
	case syntax.OpRepeat:
		if re.Min > 0 {
			return matched{must: w.walk(re.Sub[0]).all()}
		}
	case syntax.OpConcat:
		return w.concat(re.Sub)
	case syntax.OpAlternate:
		return w.alternate(re.Sub)
	}
	return matched{}
}

// literal is a text. Where case does not matter, a letter may be another one
// that is not ASCII (ſ for s).
func literal(runes []rune, fold bool) matched {
	if len(runes) > maxExactLen {
		return matched{must: texts{kind: blocksHas, text: literal(runes[:maxExactLen], fold).exact[0]}}
	}
	var b strings.Builder
	for _, r := range runes {
		if r >= unicode.MaxASCII || fold && foldsOut(r) {
			b.WriteString(anyChar)
			continue
		}
		b.WriteRune(r)
	}
	return matched{exact: []string{b.String()}}
}

// foldsOut reports whether an ASCII character equals one that is not, whatever
// the case.
func foldsOut(r rune) bool {
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if f > unicode.MaxASCII {
			return true
		}
	}
	return false
}

// class is one character of several.
func class(ranges []rune) matched {
	var exact []string
	other := false
	for i := 0; i+1 < len(ranges); i += 2 {
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if r > unicode.MaxASCII {
				other = true
				break
			}
			if s := string(unicode.ToLower(r)); !contains(exact, s) {
				exact = append(exact, s)
			}
			if len(exact) > maxClass {
				return matched{exact: []string{anyChar}}
			}
		}
	}
	if other {
		exact = append(exact, anyChar)
	}
	if len(exact) == 0 {
		return matched{must: texts{kind: blocksNone}}
	}
	return matched{exact: exact}
}

func contains(list []string, s string) bool {
	for _, t := range list {
		if t == s {
			return true
		}
	}
	return false
}

// concat is one part after the other: what is exact grows together.
func (w *walker) concat(parts []*syntax.Regexp) matched {
	exact := []string{""}
	whole := true
	var must []texts
	flush := func() {
		must = append(must, matched{exact: exact}.all())
		exact, whole = []string{""}, false
	}
	for _, part := range parts {
		m := w.walk(part)
		if m.exact == nil {
			flush()
			must = append(must, m.must)
			continue
		}
		if !fits(exact, m.exact) {
			flush()
			if !fits(exact, m.exact) {
				must = append(must, m.all())
				continue
			}
		}
		grown := make([]string, 0, len(exact)*len(m.exact))
		for _, a := range exact {
			for _, b := range m.exact {
				grown = append(grown, a+b)
			}
		}
		exact = grown
	}
	if whole {
		return matched{exact: exact}
	}
	flush()
	return matched{must: joinTexts(blocksAnd, must)}
}

// fits reports whether each of a followed by each of b stays within bounds.
func fits(a, b []string) bool {
	longest := func(list []string) (n int) {
		for _, s := range list {
			n = max(n, len(s))
		}
		return n
	}
	return len(a)*len(b) <= maxExact && longest(a)+longest(b) <= maxExactLen
}

func (w *walker) alternate(parts []*syntax.Regexp) matched {
	var exact []string
	var must []texts
	for _, part := range parts {
		m := w.walk(part)
		must = append(must, m.all())
		if m.exact != nil && must != nil {
			exact = append(exact, m.exact...)
		}
		if m.exact == nil || len(exact) > maxExact {
			exact = nil
			w.left -= maxExact
			for _, rest := range parts[len(must):] {
				must = append(must, w.walk(rest).all())
			}
			break
		}
	}
	if exact != nil {
		return matched{exact: exact}
	}
	return matched{must: joinTexts(blocksOr, must)}
}
