package httpql_test

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/httpql/httpqltest"
)

// split is an exchange whose response is text, cut into head and body.
func split(text string, at int) *httpqltest.Exchange {
	return &httpqltest.Exchange{Response: append([]byte{}, text[:at]...), ResponseBody: []byte(text[at:])}
}

// slowly is cont as it is described: fold both, then look.
func slowly(text, needle string) bool {
	fold := func(s string) string {
		var b strings.Builder
		for i := 0; i < len(s); {
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				b.WriteByte(s[i])
			case r < utf8.RuneSelf:
				b.WriteRune(unicode.ToLower(r))
			default:
				least := r
				for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
					if f >= utf8.RuneSelf {
						least = min(least, f)
					}
				}
				b.WriteRune(least)
			}
			i += n
		}
		return b.String()
	}
	return strings.Contains(fold(text), fold(needle))
}

// likeRegex is a LIKE pattern as a regex.
func likeRegex(pattern string) *regexp.Regexp {
	var b strings.Builder
	for _, r := range pattern {
		switch {
		case r == '%':
			b.WriteString(`(?s:.*)`)
		case r == '_':
			b.WriteString(`(?s:.)`)
		case r < utf8.RuneSelf && unicode.IsLetter(r):
			b.WriteString("[" + string(unicode.ToLower(r)) + string(unicode.ToUpper(r)) + "]")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return regexp.MustCompile(`^(?:` + b.String() + `)$`)
}

// TestSearchesAgreeWithTheirDefinition asks about random texts from small
// alphabets, which have many near matches, cut at every place.
func TestSearchesAgreeWithTheirDefinition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	draw := func(alphabet string, n int) string {
		runes := []rune(alphabet)
		var b strings.Builder
		for range n {
			b.WriteRune(runes[rnd.IntN(len(runes))])
		}
		return b.String()
	}
	ok := must(t)
	for _, alphabet := range []string{"aA", "abAB{", "a é É", "kK\u212a", "sSſß", "σςΣx", "{}\"", "a%_"} {
		for range 400 {
			text, part := draw(alphabet, rnd.IntN(40)), draw(alphabet, rnd.IntN(5))
			if rnd.IntN(4) == 0 {
				text = text[:rnd.IntN(len(text)+1)] // may cut a character
			}
			pattern := part
			if rnd.IntN(2) == 0 {
				pattern = "%" + draw(alphabet+"%_", rnd.IntN(5)) + "%"
			}
			asks := []struct {
				q    *httpql.Query
				want bool
			}{
				{ok(httpql.Compare(httpql.RespRaw, httpql.Cont, part)), slowly(text, part)},
				{ok(httpql.Compare(httpql.RespRaw, httpql.Ncont, part)), !slowly(text, part)},
				{httpql.RawContains(httpql.Response, part, true), strings.Contains(text, part)},
				{ok(httpql.Compare(httpql.RespRaw, httpql.Like, pattern)), likeRegex(pattern).MatchString(text)},
				{ok(httpql.Compare(httpql.RespRaw, httpql.Eq, part)), text == part},
				{ok(httpql.Compare(httpql.RespRaw, httpql.Regex, "^"+regexp.QuoteMeta(part))), strings.HasPrefix(text, part)},
			}
			for at := 0; at <= len(text); at += 1 + rnd.IntN(5) {
				for _, c := range asks {
					got := c.q.Match(split(text, at))
					if (got == httpql.True) != c.want {
						t.Fatalf("%s of %q and %q is %v, want %v", c.q, text[:at], text[at:], got, c.want)
					}
					// A beginning may only say what stays true.
					x := split(text, at)
					x.ResponseBody, x.ResponseCut = x.ResponseBody[:rnd.IntN(len(x.ResponseBody)+1)], true
					if early := c.q.Match(x); early != httpql.Unknown && early != got {
						t.Fatalf("%s of %q is %v early, and %v in the end", c.q, text, early, got)
					}
				}
			}
		}
	}
}

// TestSearchInHostileText holds the time of a search to the text's length: one
// where the needle nearly matches everywhere takes seconds otherwise.
func TestSearchInHostileText(t *testing.T) {
	for _, c := range []struct{ text, near, last string }{
		{"ab", "aB", "bb"}, // the rare byte has two cases
		{"{}", "{}", "}}"}, // or one
		{"a", "A", "b"},    // or does not occur
	} {
		text, needle := strings.Repeat(c.text, 1<<19), strings.Repeat(c.near, 15_000)+c.last
		x := split(text+strings.ToLower(needle[:len(needle)-1]), 1000)
		if got := must(t)(httpql.Compare(httpql.RespRaw, httpql.Cont, needle)).Match(x); got != httpql.False {
			t.Errorf("a needle of %d is found where it is not: %v", len(needle), got)
		}
		x = split(text+needle, len(text)+100)
		if got := must(t)(httpql.Compare(httpql.RespRaw, httpql.Cont, needle)).Match(x); got != httpql.True {
			t.Errorf("a needle of %d is not found at the end: %v", len(needle), got)
		}
	}
}
