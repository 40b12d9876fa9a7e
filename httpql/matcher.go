package httpql

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// matcher compares one text. Everything that can be prepared is, so that
// matching allocates nothing.
type matcher struct {
	op      Op     // the operator without its denial
	deny    bool   // a negative operator
	exact   []byte // of Eq; of a regex that is a plain text, else nil
	needle  *needle
	pattern []byte // of Like, ASCII letters in lower case
	regex   *regexp.Regexp
	joined  sync.Pool // *[]byte: head and body in one piece
}

func newMatcher(op Op, text string) (*matcher, *fault) {
	m := &matcher{op: op, deny: op.negative()}
	if m.deny {
		m.op = op - 1 // each stands behind what it denies
	}
	switch m.op {
	case Eq:
		m.exact = []byte(text)
	case Cont:
		m.needle = newNeedle(text)
	case Like:
		m.pattern = []byte(text)
		lowerASCII(m.pattern)
	case Regex:
		re, f := compileRegex(text)
		if f != nil {
			return nil, f
		}
		m.regex = re
		if plain, complete := re.LiteralPrefix(); complete && !strings.ContainsRune(plain, utf8.RuneError) {
			m.exact = []byte(plain)
		}
	}
	return m, nil
}

// compare answers for one value. A value that is Pending is a beginning.
func (m *matcher) compare(v []byte, p Presence) Truth {
	switch {
	case p == Missing:
		return False
	case p == Pending && len(v) == 0:
		return Unknown // it may turn out to be missing
	}
	return m.denied(m.holds(v, p))
}

func (m *matcher) denied(t Truth) Truth {
	if m.deny {
		return t.not()
	}
	return t
}

// holds is compare without the denial, of a value that is not Missing.
func (m *matcher) holds(v []byte, p Presence) Truth {
	switch m.op {
	case Eq:
		if p == Pending {
			return certain(false, bytes.HasPrefix(m.exact, v))
		}
		return truth(bytes.Equal(v, m.exact))
	case Cont:
		return certain(m.needle.in(v), p == Pending)
	case Like:
		if p == Pending {
			return Unknown
		}
		return truth(like(m.pattern, v))
	}
	if m.exact != nil {
		return certain(bytes.Contains(v, m.exact), p == Pending)
	}
	if p == Pending {
		return Unknown
	}
	return truth(m.regex.Match(v))
}

// compare2 answers for a value in two pieces.
func (m *matcher) compare2(a, b []byte, p Presence) Truth {
	switch {
	case p == Missing:
		return False
	case len(b) == 0:
		return m.compare(a, p)
	case len(a) == 0:
		return m.compare(b, p)
	}
	return m.denied(m.holds2(a, b, p))
}

func (m *matcher) holds2(a, b []byte, p Presence) Truth {
	switch {
	case m.op == Eq:
		n := min(len(a), len(m.exact))
		if !bytes.Equal(a[:n], m.exact[:n]) || n < len(a) {
			return False
		}
		if p == Pending {
			return certain(false, bytes.HasPrefix(m.exact[n:], b))
		}
		return truth(bytes.Equal(m.exact[n:], b))
	case m.op == Cont || m.exact != nil:
		var space [512]byte
		found := m.contains(a) || m.contains(b) || m.contains(m.seam(space[:0], a, b))
		return certain(found, p == Pending)
	case p == Pending:
		return Unknown
	}
	buf, _ := m.joined.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	*buf = append(append((*buf)[:0], a...), b...)
	t := m.holds(*buf, p)
	if cap(*buf) <= keptBuffer {
		m.joined.Put(buf)
	}
	return t
}

// contains is for Cont and for a regex that is a plain text.
func (m *matcher) contains(v []byte) bool {
	if m.op == Cont {
		return m.needle.in(v)
	}
	return bytes.Contains(v, m.exact)
}

// seam appends what stands where a ends and b begins, as far as a match can
// lie across it.
func (m *matcher) seam(space, a, b []byte) []byte {
	n := len(m.exact) - 1
	if m.op == Cont {
		n = m.needle.longest - 1
	}
	n = max(n, 0)
	return append(append(space, a[max(0, len(a)-n):]...), b[:min(len(b), n)]...)
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// certain is True where it holds already; else it is Unknown while that is
// open.
func certain(holds, open bool) Truth {
	switch {
	case holds:
		return True
	case open:
		return Unknown
	}
	return False
}

func (t Truth) not() Truth {
	switch t {
	case False:
		return True
	case True:
		return False
	}
	return Unknown
}
