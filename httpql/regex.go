package httpql

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// compileRegex compiles a pattern of Rust's regex crate, which the published
// language names, with Go's regexp. The two agree in nearly everything; where
// they do not, the pattern is rewritten or refused.
func compileRegex(pattern string) (*regexp.Regexp, *fault) {
	t := translator{src: pattern, unicode: true}
	if f := t.translate(); f != nil {
		return nil, f
	}
	re, err := regexp.Compile(t.out.String())
	if err == nil {
		return re, nil
	}
	f := &fault{0, "the regex cannot be read: " + err.Error(), "regular expressions are as at https://pkg.go.dev/regexp/syntax"}
	if e, ok := err.(*syntax.Error); ok {
		f.msg = fmt.Sprintf("the regex cannot be read: %s: %q", e.Code, e.Expr)
		f.at = max(0, strings.Index(pattern, e.Expr))
	}
	return nil, f
}

// translator rewrites a pattern. unicode is the flag u, which groups enclose.
type translator struct {
	src     string
	pos     int
	out     strings.Builder
	unicode bool
	outer   []bool
}

func (t *translator) fault(msg, hint string) *fault { return &fault{t.pos, msg, hint} }

// copy passes n bytes on.
func (t *translator) copy(n int) {
	t.out.WriteString(t.src[t.pos : t.pos+n])
	t.pos += n
}

func (t *translator) translate() (f *fault) {
	for f == nil && t.pos < len(t.src) {
		switch t.src[t.pos] {
		case '\\':
			f = t.escape(false)
		case '[':
			f = t.class()
		case '(':
			t.outer = append(t.outer, t.unicode)
			f = t.open()
		case ')':
			if n := len(t.outer); n > 0 {
				t.unicode, t.outer = t.outer[n-1], t.outer[:n-1]
			}
			t.copy(1)
		case '{':
			t.copy(1)
			if strings.HasPrefix(t.src[t.pos:], ",") && isCount(t.src[t.pos+1:]) {
				t.out.WriteByte('0') // {,n} is {0,n}; Go takes it as plain text
			}
		default:
			t.copy(1)
		}
	}
	return f
}

// isCount reports digits and a brace.
func isCount(s string) bool {
	digits := strings.TrimLeft(s, "0123456789")
	return len(digits) < len(s) && strings.HasPrefix(digits, "}")
}

// open reads an opening parenthesis with its flags.
func (t *translator) open() *fault {
	rest := t.src[t.pos:]
	for _, look := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
		if strings.HasPrefix(rest, look) {
			return t.fault("a regex has no look-around", "join two clauses: … AND … .nregex:/…/")
		}
	}
	if !strings.HasPrefix(rest, "(?") || strings.HasPrefix(rest, "(?P<") || strings.HasPrefix(rest, "(?<") {
		t.copy(1)
		return nil
	}
	end := strings.IndexAny(rest, ":)")
	if end < 0 {
		return t.fault("the group has no end", "close it with )")
	}
	flags, on := "", true
	for _, c := range rest[2:end] {
		switch c {
		case '-':
			on = false
			flags += "-"
		case 'u':
			t.unicode = on
		case 'x', 'R':
			return t.fault("a regex has no flag "+string(c), "take it away; write the pattern without blanks and comments")
		default:
			flags += string(c)
		}
	}
	flags = strings.TrimSuffix(flags, "-")
	t.pos += end + 1
	if rest[end] == ':' {
		t.out.WriteString("(?" + flags + ":")
		return nil
	}
	// Flags for the rest of the group that stands around: no group of its own.
	if flags != "" {
		t.out.WriteString("(?" + flags + ")")
	}
	t.outer = t.outer[:len(t.outer)-1]
	return nil
}

// The classes \w and \s as Rust has them: Alphabetic, M, Nd, Pc and
// Join_Control; White_Space (UTS #18, annex C).
const (
	classWord = `\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}\x{200c}\x{200d}`
	classGap  = `\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`
)

// escape reads what begins with a backslash, inside a class or outside.
func (t *translator) escape(inside bool) *fault {
	if t.pos+1 == len(t.src) {
		return t.fault("the regex ends in a backslash", `write \\ for a backslash`)
	}
	c := t.src[t.pos+1]
	switch {
	case c >= utf8.RuneSelf:
		return t.fault("a character is escaped that needs no escape", "take the backslash away")
	case '0' <= c && c <= '9':
		return t.fault("a regex has no back-reference", `write \x{…} for a character by its number`)
	}
	switch c {
	case 'd', 'D', 'w', 'W', 's', 'S':
		if t.unicode {
			t.out.WriteString(shorthand(c, inside))
			t.pos += 2
			return nil
		}
	case 'u', 'U', 'x':
		return t.number(c)
	case 'Q', 'E', 'C':
		return t.fault(`a regex has no \`+string(c), "escape the characters one by one")
	case '<', '>':
		return t.fault(`\`+string(c)+" is the edge of a word in Rust and a plain character in Go", `write \b or `+string(c))
	case 'b':
		if strings.HasPrefix(t.src[t.pos+2:], "{") {
			return t.fault(`a regex has no \b{…}`, `write \b`)
		}
	}
	t.copy(2)
	return nil
}

func shorthand(c byte, inside bool) string {
	s := `\p{Nd}`
	switch c {
	case 'D':
		return `\P{Nd}`
	case 'w', 'W':
		s = classWord
	case 's', 'S':
		s = classGap
	}
	switch deny := c < 'a'; {
	case inside && deny:
		return complement(s)
	case inside:
		return s
	case deny:
		return "[^" + s + "]"
	}
	return "[" + s + "]"
}

// complement writes the characters that are not in the class as ranges, since
// a class cannot hold a denied one.
func complement(class string) string {
	re, err := syntax.Parse("[^"+class+"]", syntax.Perl)
	if err != nil {
		panic("internal error: httpql: class " + class + ": " + err.Error())
	}
	var b strings.Builder
	for i := 0; i+1 < len(re.Rune); i += 2 {
		fmt.Fprintf(&b, `\x{%x}-\x{%x}`, re.Rune[i], re.Rune[i+1])
	}
	return b.String()
}

// number reads \x, \u or \U with its digits, in braces or two, four or eight.
func (t *translator) number(c byte) *fault {
	digits := t.src[t.pos+2:]
	n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	length := 2 + n
	if strings.HasPrefix(digits, "{") {
		n = strings.IndexByte(digits, '}') - 1
		digits = digits[1:]
		length = 2 + n + 2
	}
	if n < 1 || n > len(digits) {
		return t.fault(`\`+string(c)+" needs hexadecimal digits", `write for example \x{e9}`)
	}
	v, err := strconv.ParseUint(digits[:n], 16, 32)
	if err != nil || v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
		return t.fault(`\`+string(c)+" names no character", `write for example \x{e9}`)
	}
	if !t.unicode && v >= utf8.RuneSelf {
		return t.fault("a regex cannot look for a single byte above 7f", "take the flag -u away")
	}
	fmt.Fprintf(&t.out, `\x{%x}`, v)
	t.pos += length
	return nil
}

// class reads […].
func (t *translator) class() *fault {
	open := t.pos
	t.copy(1)
	if strings.HasPrefix(t.src[t.pos:], "^") {
		t.copy(1)
	}
	if strings.HasPrefix(t.src[t.pos:], "]") {
		t.copy(1) // right after the opening it is plain
	}
	for t.pos < len(t.src) {
		rest := t.src[t.pos:]
		switch c := rest[0]; {
		case c == ']':
			t.copy(1)
			return nil
		case c == '\\':
			if f := t.escape(true); f != nil {
				return f
			}
		case c == '[':
			end := strings.Index(rest, ":]")
			if !strings.HasPrefix(rest, "[:") || end < 0 {
				return t.fault("a class stands inside a class", `write \[ for the bracket itself, or the characters in one class`)
			}
			t.copy(end + 2)
		case strings.HasPrefix(rest, "&&") || strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "~~"):
			return t.fault("classes cannot be combined by "+rest[:2], `write the characters out, or \`+rest[:1]+" for the character itself")
		default:
			t.copy(1)
		}
	}
	t.pos = open
	return t.fault("the class has no end", `close it with ], or write \[ for the bracket itself`)
}
