package httpql

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// fault is a mistake at an offset in some text; the parser knows where that
// text stands.
type fault struct {
	at        int
	msg, hint string
}

func (f *fault) in(src string, offset int) *SyntaxError {
	at := min(offset+f.at, len(src))
	e := &SyntaxError{Offset: at, Line: 1, Msg: f.msg, Hint: f.hint}
	before := src[:at]
	e.Line += strings.Count(before, "\n")
	e.Column = 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	return e
}

// blank returns the offset after blanks and comments.
func blank(src string, i int) (int, *fault) {
	for i < len(src) {
		switch {
		case strings.IndexByte(" \t\r\n", src[i]) >= 0:
			i++
		case strings.HasPrefix(src[i:], "//"):
			n := strings.IndexAny(src[i:], "\r\n")
			if n < 0 {
				return len(src), nil
			}
			i += n
		case strings.HasPrefix(src[i:], "/*"):
			n := strings.Index(src[i+2:], "*/")
			if n < 0 {
				return i, &fault{i, "the comment has no end", "close it with */"}
			}
			i += n + 4
		default:
			return i, nil
		}
	}
	return i, nil
}

// word is the run of letters, digits and underscores at i.
func word(src string, i int) string {
	n := i
	for n < len(src) && (isWord(src[n])) {
		n++
	}
	return src[i:n]
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// unquote reads the JSON string (RFC 8259 §7) at i and returns its value and
// the offset behind it.
func unquote(src string, i int) (string, int, *fault) {
	start := i
	i++
	var b strings.Builder
	for i < len(src) {
		switch c := src[i]; {
		case c == '"':
			return b.String(), i + 1, nil
		case c < 0x20:
			return "", 0, &fault{i, "a control character stands in a string", "write it as \\n, \\t or \\u00" + strconv.FormatInt(int64(c)+0x100, 16)[1:]}
		case c == '\\':
			r, n, f := unescape(src, i)
			if f != nil {
				return "", 0, f
			}
			b.WriteRune(r)
			i += n
		default:
			b.WriteByte(c)
			i++
		}
	}
	return "", 0, &fault{start, "the string has no end", `close it with "`}
}

func unescape(src string, i int) (rune, int, *fault) {
	if i+1 == len(src) {
		return 0, 0, &fault{i, "the string has no end", `close it with "`}
	}
	switch c := src[i+1]; c {
	case '"', '\\', '/':
		return rune(c), 2, nil
	case 'b':
		return '\b', 2, nil
	case 'f':
		return '\f', 2, nil
	case 'n':
		return '\n', 2, nil
	case 'r':
		return '\r', 2, nil
	case 't':
		return '\t', 2, nil
	case 'u':
		return unescapeHex(src, i)
	}
	_, n := utf8.DecodeRuneInString(src[i+1:])
	return 0, 0, &fault{i, "a string has no escape " + src[i:i+1+n], `write \\ for a backslash; a regex may stand between slashes instead: /\s+/`}
}

// unescapeHex reads \uXXXX, or the two of a surrogate pair.
func unescapeHex(src string, i int) (rune, int, *fault) {
	hi, ok := hex4(src, i+2)
	switch {
	case !ok:
		return 0, 0, &fault{i, `\u needs four hexadecimal digits`, `write for example \u00e9`}
	case hi < 0xd800 || hi > 0xdfff:
		return hi, 6, nil
	case hi < 0xdc00 && strings.HasPrefix(src[i+6:], `\u`):
		if lo, ok := hex4(src, i+8); ok && lo >= 0xdc00 && lo <= 0xdfff {
			return (hi-0xd800)<<10 + (lo - 0xdc00) + 0x10000, 12, nil
		}
	}
	return 0, 0, &fault{i, "half a surrogate pair", "write the character itself"}
}

func hex4(src string, i int) (rune, bool) {
	if i+4 > len(src) {
		return 0, false
	}
	v := rune(0)
	for _, c := range []byte(src[i : i+4]) {
		d := strings.IndexByte("0123456789abcdef", c|0x20)
		if d < 0 || c < '0' {
			return 0, false
		}
		v = v<<4 | rune(d)
	}
	return v, true
}

// quote writes s as unquote reads it.
func quote(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c >= 0x20:
			b.WriteByte(c)
		case strings.IndexByte("\b\f\n\r\t", c) >= 0:
			b.WriteByte('\\')
			b.WriteByte("btn_fr"[c-'\b'])
		default:
			b.WriteString(`\u00`)
			b.WriteString(strconv.FormatInt(int64(c)+0x100, 16)[1:])
		}
	}
	b.WriteByte('"')
}

// quotedOffset is where in the JSON string that begins src its value's byte
// at stands.
func quotedOffset(src string, at int) int {
	i, done := 1, 0
	for done < at && i < len(src) && src[i] != '"' {
		if src[i] != '\\' {
			done++
			i++
			continue
		}
		r, n, f := unescape(src, i)
		if f != nil {
			return i
		}
		done += utf8.RuneLen(r)
		i += n
	}
	return i
}
