package rule

import (
	"bytes"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
)

// Protecting is the index of the entry of Protect that the request is in, or -1.
// The URL is compared as it is written, and as origins may read it.
func (r *Rule) Protecting(f *flow.Flow) int {
	protecting := func() int {
		for i := range r.Protect {
			if r.Protect[i].Match(f) {
				return i
			}
		}
		return -1
	}
	at := protecting()
	if at >= 0 || f.Request == nil || f.Tool == flow.ToolMacro {
		return at
	}
	written := f.Request
	defer func() { f.Request = written }()
	for _, target := range readings(written.Target()) {
		normal := written.Clone()
		if normal.SetTarget(target) != nil {
			continue // it holds what no target can: nobody reads it so
		}
		// Only for the comparison: what is sent stays as it is written.
		f.Request = normal
		if at = protecting(); at >= 0 {
			return at
		}
	}
	return -1
}

// normalize has the entry's prefixes compared in normal form as well as they
// are written. What a regex or a condition asks is its author's business.
func (s *Scope) normalize() {
	for _, m := range s.include {
		if m.path == "" || strings.Contains(m.path, "*") {
			continue
		}
		path := string(normalTarget([]byte(m.path), false))
		if m.fold {
			path = lowerASCII(path)
		}
		if path != m.path {
			n := *m
			n.path = path
			s.include = append(s.include, &n)
		}
	}
}

// readings are what origins may take a target for, as far as that is not what
// is written: its normal form (RFC 3986 §6.2.2), and what servers do beyond it:
// decode everything once, take a backslash for a slash, merge slashes, and
// leave out the parameters of segments.
func readings(target []byte) (all [][]byte) {
	start := 0
	if len(target) == 0 || target[0] != '/' {
		if start = bytes.Index(target, []byte("://")); start < 0 {
			return nil
		}
		slash := bytes.IndexByte(target[start+3:], '/')
		if slash < 0 {
			return nil
		}
		start += 3 + slash
	}
	origin, rest := target[:start], target[start:]
	if !isOdd(rest) {
		return nil
	}
	for _, liberal := range [...]bool{false, true} {
		reading := append(origin[:len(origin):len(origin)], normalTarget(rest, liberal)...)
		if !bytes.Equal(reading, target) && (len(all) == 0 || !bytes.Equal(reading, all[0])) {
			all = append(all, reading)
		}
	}
	return all
}

// isOdd reports whether a path and query could be read in another way.
func isOdd(target []byte) bool {
	path, _, _ := bytes.Cut(target, []byte("?"))
	return bytes.IndexByte(target, '%') >= 0 || bytes.IndexByte(path, '\\') >= 0 || bytes.IndexByte(path, ';') >= 0 ||
		bytes.Contains(path, []byte("/.")) || bytes.Contains(path, []byte("//"))
}

// normalTarget is a path and query in one of the forms of readings.
func normalTarget(target []byte, liberal bool) []byte {
	path, query, hasQuery := bytes.Cut(target, []byte("?"))
	if path = decode(path, liberal); liberal {
		path = bytes.ReplaceAll(path, []byte(`\`), []byte("/"))
	}
	out := appendWithoutDots(make([]byte, 0, len(target)), path, liberal)
	if hasQuery {
		out = append(append(out, '?'), decode(query, false)...)
	}
	return out
}

// decode decodes percent-encoded unreserved characters and writes the others
// with capitals. With all it decodes whatever can stand in a path.
func decode(text []byte, all bool) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		high, low := -1, -1
		if text[i] == '%' && i+2 < len(text) {
			high, low = unhex(text[i+1]), unhex(text[i+2])
		}
		if high < 0 || low < 0 {
			out = append(out, text[i])
			continue
		}
		c := byte(high<<4 | low)
		if isUnreserved(c) || all && c > ' ' && c < 0x7f && c != '?' && c != '#' && c != '%' {
			out = append(out, c)
		} else {
			const digits = "0123456789ABCDEF"
			out = append(out, '%', digits[high], digits[low])
		}
		i += 2
	}
	return out
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// isUnreserved is RFC 3986 §2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// appendWithoutDots removes dot segments (RFC 3986 §5.2.4) of a path that
// begins with a slash; liberal leaves out empty segments and parameters, too.
func appendWithoutDots(out, path []byte, liberal bool) []byte {
	start := len(out)
	open := false // a slash is to follow
	for segment := range bytes.SplitSeq(bytes.TrimPrefix(path, []byte("/")), []byte("/")) {
		if liberal {
			segment, _, _ = bytes.Cut(segment, []byte(";"))
		}
		switch {
		case string(segment) == ".", liberal && len(segment) == 0:
			open = true
		case string(segment) == "..":
			out = out[:max(start, bytes.LastIndexByte(out, '/'))]
			open = true
		default:
			out = append(append(out, '/'), segment...)
			open = false
		}
	}
	if open || len(out) == start {
		out = append(out, '/')
	}
	return out
}
