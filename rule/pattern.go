package rule

import (
	"fmt"
	"regexp"
	"time"

	"github.com/dlclark/regexp2/v2"
)

// The limits of the backtracking engine: responses are the target's to choose,
// and some pattern takes forever on some text.
const (
	slowTimeout = 200 * time.Millisecond
	slowText    = 1 << 20 // bytes that it looks at
)

// pattern is a regex: of Go's syntax, else of the backtracking engine's.
type pattern struct {
	fast *regexp.Regexp
	slow *regexp2.Regexp
}

// compilePattern compiles a regex. groups is how many capture groups it must
// have, -1 for any number.
func compilePattern(src string, groups int) (*pattern, error) {
	p := new(pattern)
	fast, err := regexp.Compile(src)
	got := 0
	if err == nil {
		p.fast, got = fast, fast.NumSubexp()
	} else {
		slow, slowErr := regexp2.Compile(src)
		if slowErr != nil {
			return nil, &Error{Problem: fmt.Sprintf("the regex cannot be read: %v", err), Next: "mend it; docs: regexp/syntax of Go"}
		}
		slow.MatchTimeout = slowTimeout
		p.slow, got = slow, len(slow.GetGroupNumbers())-1
	}
	if groups >= 0 && got != groups {
		return nil, &Error{Problem: fmt.Sprintf("the regex has %d capture groups, it needs %d", got, groups),
			Next: "put parentheses around the value, and write the others (?:…)"}
	}
	return p, nil
}

// match reports whether the regex is found in the text.
func (p *pattern) match(text []byte) bool {
	if p.fast != nil {
		return p.fast.Match(text)
	}
	ok, err := p.slow.MatchString(string(text[:min(len(text), slowText)]))
	return ok && err == nil
}

// each gives yield what the first capture group caught in each of the first
// limit matches.
func (p *pattern) each(text []byte, limit int, yield func(string) bool) {
	p.spans(text, limit, func(from, to int) bool { return yield(string(text[from:to])) })
}

// span is where the first capture group stands in the first match.
func (p *pattern) span(text []byte) (from, to int, ok bool) {
	p.spans(text, 1, func(f, t int) bool {
		from, to, ok = f, t, true
		return false
	})
	return from, to, ok
}

// spans gives yield where the first capture group stands in each of the first
// limit matches that it took part in.
func (p *pattern) spans(text []byte, limit int, yield func(from, to int) bool) {
	if p.fast != nil {
		for _, m := range p.fast.FindAllSubmatchIndex(text, limit) {
			if m[2] >= 0 && !yield(m[2], m[3]) {
				return
			}
		}
		return
	}
	s := string(text[:min(len(text), slowText)])
	m, err := p.slow.FindStringMatch(s)
	for n := 1; err == nil && m != nil; n++ {
		if g := m.GroupByNumber(1); g != nil && len(g.Captures) > 0 {
			// The engine counts runes and turns bytes that are no UTF-8 into
			// U+FFFD; the value is cut out of the text itself, so its bytes
			// are the message's.
			if !yield(byteOffset(s, g.RuneIndex), byteOffset(s, g.RuneIndex+g.RuneLength)) {
				return
			}
		}
		if n >= min(limit, MaxSlowMatches) {
			return
		}
		m, err = p.slow.FindNextMatch(m)
	}
}

// byteOffset is where the n-th rune of s begins.
func byteOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}
