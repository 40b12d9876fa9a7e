package httpql

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// needle is a text to look for whatever the case.
//
// ASCII letters equal only one another, other letters what simple folding
// (unicode.SimpleFold) makes of them, save ASCII. So an ASCII needle is
// compared byte by byte, which is what nearly every search is.
type needle struct {
	low     []byte // of an ASCII needle, in lower case
	runes   []rune // of another one, folded
	longest int    // how many bytes a match can have

	// rare is the place in low of the byte that is likely to be the rarest in
	// messages, and rareUp that byte in upper case.
	rare            int
	rareLow, rareUp byte
	hash, power     uint32 // of low, as in rolling

	begin [256]bool // bytes that a match of runes can begin with
}

func newNeedle(text string) *needle {
	n := &needle{longest: len(text)}
	if isASCII(text) {
		n.low = []byte(text)
		lowerASCII(n.low)
		n.prepare()
		return n
	}
	for _, r := range text {
		n.runes = append(n.runes, fold(r))
	}
	n.longest = len(n.runes) * utf8.UTFMax
	first := n.runes[0]
	for r, again := first, false; !again; r, again = unicode.SimpleFold(r), unicode.SimpleFold(r) == first {
		n.begin[utf8.AppendRune(nil, r)[0]] = true
	}
	return n
}

// often has the bytes that are common in HTTP, HTML and JSON, most common
// first; all others are rarer.
const often = "e tainosrldc\"hpum=/-.:g<>,bfy1v2w03;\n\r4x5k8697_&'?%()q{}"

func (n *needle) prepare() {
	best := -1
	n.power = 1
	for i, c := range n.low {
		rank := strings.IndexByte(often, c)
		if rank < 0 {
			rank = len(often)
		}
		if rank > best {
			best, n.rare = rank, i
		}
		n.hash = n.hash*prime + uint32(c)
		n.power *= prime
	}
	if len(n.low) > 0 {
		n.rareLow = n.low[n.rare]
		n.rareUp = upper(n.rareLow)
	}
}

// in reports whether the needle is in v.
func (n *needle) in(v []byte) bool {
	switch {
	case n.runes != nil:
		return n.inRunes(v)
	case len(n.low) == 0:
		return true
	case len(n.low) > len(v):
		return false
	case n.rareLow == n.rareUp:
		return n.inCaseless(v)
	}
	// Where the rare byte can be. The next place of either case is kept, so
	// that each byte is looked at about twice.
	span := v[n.rare : len(v)-len(n.low)+n.rare+1]
	low, up := next(span, 0, n.rareLow), next(span, 0, n.rareUp)
	for misses := 0; ; misses++ {
		i := min(low, up)
		if i == len(span) {
			return false
		}
		if equalLow(v[i:i+len(n.low)], n.low) {
			return true
		}
		if misses > 16+i/8 {
			return n.rolling(v[i:])
		}
		if i == low {
			low = next(span, i+1, n.rareLow)
		} else {
			up = next(span, i+1, n.rareUp)
		}
	}
}

// inCaseless is in for a rare byte without case.
func (n *needle) inCaseless(v []byte) bool {
	span := v[n.rare : len(v)-len(n.low)+n.rare+1]
	misses := 0
	for i := next(span, 0, n.rareLow); i < len(span); i = next(span, i+1, n.rareLow) {
		if equalLow(v[i:i+len(n.low)], n.low) {
			return true
		}
		if misses++; misses > 16+i/8 {
			return n.rolling(v[i:])
		}
	}
	return false
}

func next(v []byte, i int, c byte) int {
	if n := bytes.IndexByte(v[i:], c); n >= 0 {
		return i + n
	}
	return len(v)
}

const prime = 16777619

// rolling is in by Rabin and Karp, for texts in which the rare byte is not
// rare: its time does not depend on the needle.
func (n *needle) rolling(v []byte) bool {
	m := len(n.low)
	if len(v) < m {
		return false
	}
	h := uint32(0)
	for _, c := range v[:m] {
		h = h*prime + uint32(lower(c))
	}
	for i := m; ; i++ {
		if h == n.hash && equalLow(v[i-m:i], n.low) {
			return true
		}
		if i == len(v) {
			return false
		}
		h = h*prime + uint32(lower(v[i])) - n.power*uint32(lower(v[i-m]))
	}
}

func (n *needle) inRunes(v []byte) bool {
	for i := 0; i < len(v); {
		if n.begin[v[i]] && n.at(v[i:]) {
			return true
		}
		i++
	}
	return false
}

// at reports whether v begins with the needle. Bytes that are not UTF-8 equal
// no character.
func (n *needle) at(v []byte) bool {
	for _, want := range n.runes {
		r, size := utf8.DecodeRune(v)
		if r == utf8.RuneError && size < 2 || fold(r) != want {
			return false
		}
		v = v[size:]
	}
	return true
}

// fold is the least of the characters that differ from r only in case, ASCII
// and others apart.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		return rune(lower(byte(r)))
	}
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if f >= utf8.RuneSelf && f < least {
			least = f
		}
	}
	return least
}

// like is SQLite's LIKE without escape character: pattern, its ASCII letters
// in lower case, against the whole of v.
func like(pattern, v []byte) bool {
	p, i := 0, 0
	star, again := -1, 0 // behind the last %, and where its run ends for now
	for i < len(v) {
		switch {
		case p < len(pattern) && pattern[p] == '%':
			p++
			star, again = p, i
			if p == len(pattern) {
				return true
			}
			continue
		case p < len(pattern) && pattern[p] == '_':
			i += runeSize(v[i:])
			p++
			continue
		case p < len(pattern) && pattern[p] == lower(v[i]):
			i++
			p++
			continue
		case star < 0:
			return false
		}
		again += runeSize(v[again:])
		p, i = star, again
	}
	for p < len(pattern) && pattern[p] == '%' {
		p++
	}
	return p == len(pattern)
}

func runeSize(v []byte) int {
	if v[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRune(v)
	return n
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

func lowerASCII(b []byte) {
	for i, c := range b {
		b[i] = lower(c)
	}
}

func equalLow(v, low []byte) bool {
	for i, c := range low {
		if lower(v[i]) != c {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
