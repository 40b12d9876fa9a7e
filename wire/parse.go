package wire

import (
	"bytes"
	"fmt"
	"io"
)

// The limits that hold where a Limits field is zero, and the most a head may
// ever have.
const (
	DefaultHead   = 1 << 20  // bytes
	DefaultFields = 2000     // lines
	MaxHead       = 64 << 20 // bytes; Limits.Head above it is cut to it
	LargeHead     = 64 << 10 // bytes; a head above it may have to wait for a slot, see Slots

	maxEmptyLines = 16 // before a request line
)

// Limits bound what a reader takes before it refuses with status 431.
type Limits struct {
	Head   int // bytes from the start line to the blank line, 0: DefaultHead
	Fields int // lines after the start line, folded ones included, 0: DefaultFields
}

func (l Limits) orDefault() Limits {
	if l.Head <= 0 {
		l.Head = DefaultHead
	}
	if l.Fields <= 0 {
		l.Fields = DefaultFields
	}
	l.Head = min(l.Head, MaxHead)
	return l
}

// Slots bound how many heads above [LargeHead] are held at a time by all
// connections of one side: its capacity. Any goroutine may use them; nil is no
// bound.
type Slots chan struct{}

// Take takes a slot if one is free.
func (s Slots) Take() bool {
	if s == nil {
		return true
	}
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

// Give gives one back.
func (s Slots) Give() {
	if s != nil {
		<-s
	}
}

// A ParseError tells why bytes are refused.
type ParseError struct {
	Offset int    // bytes from the start of the head, or within the body
	Reason string // for people, without the peer's bytes
	Status int    // what to answer: 400 or 431 for a request, 502 for a response
}

// Error words the reason and the place.
func (e *ParseError) Error() string { return fmt.Sprintf("wire: %s (at byte %d)", e.Reason, e.Offset) }

// ParseRequest parses the complete head of a request, blank line included and
// nothing after it, into a copy.
func ParseRequest(raw []byte) (*Request, error) {
	r := new(Request)
	return r, parseWhole(&r.Head, raw, false)
}

// ParseResponse parses the complete head of a response like [ParseRequest].
func ParseResponse(raw []byte) (*Response, error) {
	r := new(Response)
	return r, parseWhole(&r.Head, raw, true)
}

func parseWhole(h *Head, raw []byte, response bool) error {
	p := headParser{head: h, limits: Limits{Head: MaxHead, Fields: MaxHead}, response: response}
	done, err := p.feed(raw)
	switch {
	case err != nil:
		return err
	case !done:
		return &ParseError{len(raw), "the head has no blank line at its end", p.status()}
	case p.pos < len(raw):
		return &ParseError{p.pos, "bytes after the blank line that ends the head", p.status()}
	}
	return nil
}

// A headParser takes a head line by line. It may be fed again with the same
// bytes and more after them, and looks at no byte twice: a peer which sends
// byte by byte costs no more than one which does not.
type headParser struct {
	head     *Head
	limits   Limits
	response bool
	pos      int // where the current line starts
	scanned  int // no LF from pos up to here
	lines    int
	crlf     int // lines ended by CRLF
}

func (p *headParser) status() int {
	if p.response {
		return 502
	}
	return 400
}

func (p *headParser) refuse(offset int, reason string) error {
	return &ParseError{offset, reason, p.status()}
}

// feed parses as many lines as data holds; data starts where the head does.
// Once it reports done, pos is the length of the head.
func (p *headParser) feed(data []byte) (done bool, err error) {
	if p.pos == 0 && len(data) > 0 && (data[0] <= ' ' || data[0] >= 0x7f) {
		// Said at once: a TLS hello on a plain port has no LF to wait for.
		return false, p.refuse(0, "the first byte cannot start a message")
	}
	for {
		i := bytes.IndexByte(data[p.scanned:], '\n')
		if i < 0 {
			p.scanned = len(data)
			return false, p.checkSize(p.scanned)
		}
		lo, lf := p.pos, p.scanned+i
		p.pos, p.scanned = lf+1, lf+1
		hi := lf
		if hi > lo && data[hi-1] == '\r' {
			hi--
			p.crlf++
		}
		switch {
		case lo == 0:
			err = p.startLine(data, hi)
		case hi == lo:
			return true, p.finish(data[:lf+1])
		default:
			err = p.fieldLine(data, lo, hi)
		}
		if err != nil {
			return false, err
		}
	}
}

func (p *headParser) checkSize(n int) error {
	if n <= p.limits.Head {
		return nil
	}
	err := &ParseError{p.limits.Head, fmt.Sprintf("the head is longer than %d bytes", p.limits.Head), 431}
	if p.response {
		err.Status = 502
	}
	return err
}

func (p *headParser) finish(data []byte) error {
	if err := p.checkSize(len(data)); err != nil {
		return err
	}
	h := p.head
	h.buf = append(h.buf[:0], data...)
	lines := 2 + p.lines // with the start line and the blank one
	if p.crlf != lines {
		h.odd |= NoteBareLF
	}
	if bytes.Count(data, []byte{'\r'}) != p.crlf {
		h.odd |= NoteBareCR
	}
	if bytes.IndexByte(data, 0) >= 0 {
		h.odd |= NoteNUL
	}
	return nil
}

// startLine finds the three words in data[:hi].
func (p *headParser) startLine(data []byte, hi int) error {
	h := p.head
	h.startHi = uint32(p.pos)
	line := data[:hi]
	for len(line) > 0 && isSpace(line[len(line)-1]) {
		line = line[:len(line)-1]
	}
	first := bytes.IndexByte(line, ' ')
	if first < 0 {
		if p.response && isHTTPWord(line) {
			return p.refuse(hi, "the status line has no status code")
		}
		return p.refuse(hi, "the first line is no HTTP start line")
	}
	h.part[0] = span{0, uint32(first)}
	rest := first + 1
	for rest < len(line) && line[rest] == ' ' {
		rest++
	}
	if p.response {
		return p.statusLine(line, data[:hi], rest)
	}
	// A request line of two words has a target and no version, whatever the
	// second looks like; an empty target stands between two spaces.
	end := len(line)
	h.part[2] = span{uint32(end), uint32(end)}
	last := bytes.LastIndexByte(line[rest-1:], ' ') + rest
	if last > first+1 && isHTTPWord(line[last:]) {
		h.part[2].lo = uint32(last)
		rest = min(rest, last-1)
		for end = last - 1; end > rest && line[end-1] == ' '; {
			end--
		}
	}
	h.part[1] = span{uint32(rest), uint32(end)}
	if bytes.IndexByte(line[rest:end], ' ') >= 0 || bytes.IndexByte(line[rest:end], '\t') >= 0 {
		h.odd |= NoteSpaceInTarget
	}
	return nil
}

// statusLine finds the status code at rest and the reason after it.
func (p *headParser) statusLine(line, full []byte, rest int) error {
	h := p.head
	if !isHTTPWord(line) {
		return p.refuse(0, "the first line is no HTTP status line")
	}
	end := rest
	for end < len(line) && '0' <= line[end] && line[end] <= '9' {
		end++
	}
	if end-rest != 3 || end < len(line) && !isSpace(line[end]) {
		return p.refuse(rest, "the status code has not three digits")
	}
	h.part[1] = span{uint32(rest), uint32(end)}
	reason := min(end+1, len(full))
	h.part[2] = span{uint32(reason), uint32(len(full))}
	return nil
}

// isHTTPWord tells whether b starts like an HTTP version, in any case.
func isHTTPWord(b []byte) bool { return len(b) >= 5 && equalFold(b[:5], "HTTP/") }

// usualFields is how many fields a head has room for before its list grows.
const usualFields = 16

// fieldLine takes data[lo:hi], a line without its end, as a field or as the
// continuation of the one before.
func (p *headParser) fieldLine(data []byte, lo, hi int) error {
	if p.lines++; p.lines > p.limits.Fields {
		err := &ParseError{lo, fmt.Sprintf("the head has more than %d lines", p.limits.Fields), 431}
		if p.response {
			err.Status = 502
		}
		return err
	}
	var flags FieldFlags
	if p.pos-hi != len("\r\n") {
		flags = BareLF
	}
	h, line := p.head, data[lo:hi]
	if h.fields == nil {
		h.fields = make([]field, 0, usualFields)
	}
	name := bytes.IndexByte(line, ':') // its length
	if name <= 0 || !isToken(line[0]) || !isToken(line[name-1]) {
		return p.oddLine(data, lo, hi, flags)
	}
	valLo, valHi := trimSpan(line, name+1, len(line))
	at := uint32(lo)
	h.fields = append(h.fields, field{at, at + uint32(name), at + uint32(valLo), at + uint32(valHi), uint32(p.pos), flags})
	return nil
}

// oddLine takes what does not look like a field at its edges.
func (p *headParser) oddLine(data []byte, lo, hi int, flags FieldFlags) error {
	h := p.head
	if isSpace(data[lo]) {
		if n := len(h.fields); n > 0 {
			fold(&h.fields[n-1], data, lo, hi, p.pos, flags)
			return nil
		}
		flags |= Folded // RFC 9112 §2.2: white space before the first field
	}
	nameHi := lo
	if flags&Folded == 0 {
		nameHi += max(bytes.IndexByte(data[lo:hi], ':'), 0)
	}
	valLo := nameHi + 1
	if nameHi == lo {
		flags |= NoColon
		valLo = lo
	} else {
		for isSpace(data[nameHi-1]) { // stops at lo, which is no space
			nameHi--
			flags |= SpaceBeforeColon
		}
		if !isToken(data[lo]) || !isToken(data[nameHi-1]) {
			flags |= OddName
		}
	}
	valLo, hi = trimSpan(data, valLo, hi)
	h.fields = append(h.fields, field{uint32(lo), uint32(nameHi), uint32(valLo), uint32(hi), uint32(p.pos), flags})
	return nil
}

// trimSpan takes spaces and tabs off both ends of data[lo:hi]. Of nothing but
// these it leaves the end.
func trimSpan(data []byte, lo, hi int) (int, int) {
	for lo < hi && isSpace(data[lo]) {
		lo++
	}
	for hi > lo && isSpace(data[hi-1]) {
		hi--
	}
	return lo, hi
}

// fold continues f by the line data[lo:hi] (RFC 9112 §5.2), which ends at end.
func fold(f *field, data []byte, lo, hi, end int, flags FieldFlags) {
	f.flags |= flags | Folded
	f.hi = uint32(end)
	if lo, hi = trimSpan(data, lo, hi); lo == hi {
		return
	}
	if f.valLo == f.valHi {
		f.valLo = uint32(lo)
	}
	f.valHi = uint32(hi)
}

// isToken tells whether c is a tchar of RFC 9110 §5.6.2.
func isToken(c byte) bool {
	const (
		low  = 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.' | (1<<10-1)<<'0'
		high = (1<<26-1)<<('A'-64) | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | (1<<26-1)<<('a'-64) | 1<<('|'-64) | 1<<('~'-64)
	)
	if letter := c | 0x20; 'a' <= letter && letter <= 'z' {
		return true
	}
	if c < 64 {
		return low>>c&1 != 0
	}
	return c < 128 && uint64(high)>>(c-64)&1 != 0
}

// skipEmptyLines counts the bytes of empty lines that data starts with. more
// means that a line end may be cut in half.
func skipEmptyLines(data []byte) (n, lines int, more bool) {
	for n < len(data) {
		switch {
		case data[n] == '\n':
			n++
		case data[n] == '\r' && n+1 == len(data):
			return n, lines, true
		case data[n] == '\r' && data[n+1] == '\n':
			n += 2
		default:
			return n, lines, false
		}
		lines++
	}
	return n, lines, false
}

// errShort is what a connection that ends inside a message comes to.
func errShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
