package wire

import (
	"bytes"
	"math"
	"strconv"
)

// FramingKind says how the end of a body is found.
type FramingKind uint8

// The kinds of framing.
const (
	None       FramingKind = iota // there is no body
	Length                        // Framing.Length bytes
	Chunked                       // RFC 9112 §7.1
	UntilClose                    // until the connection ends
	Stream                        // HTTP/2: until END_STREAM, as its codec tells
)

// String words the kind, as traces show it.
func (k FramingKind) String() string {
	switch k {
	case None:
		return "none"
	case Length:
		return "length"
	case Chunked:
		return "chunked"
	case UntilClose:
		return "until close"
	case Stream:
		return "stream"
	}
	return "FramingKind(" + strconv.Itoa(int(k)) + ")"
}

// Framing says where a body ends and what was odd on the way to knowing it.
type Framing struct {
	Kind   FramingKind
	Length int64 // in bytes, of kind Length and of a Stream that tells; else 0
	Notes  Notes
	// Ambiguous: another recipient may find the end elsewhere. Neither this
	// connection nor the one that the message is forwarded on may carry
	// another message.
	Ambiguous bool
	// Trailers are the fields behind a Stream: complete, and not to be edited,
	// once the body returned io.EOF. They survive whatever wraps a body, since
	// they travel with its framing. nil: there are none.
	Trailers *Head
	// LooseChunks lets LF alone end the lines of a chunked body. It is set for
	// responses and under Lenient and Raw.
	LooseChunks bool
	// AnyChunks has a body whose chunks cannot be read pass from there on until
	// the connection ends, instead of breaking off. It is set under Raw.
	AnyChunks bool
}

// add notes oddities.
func (f *Framing) add(n Notes) {
	f.Notes |= n
	f.Ambiguous = f.Ambiguous || n&ambiguousNotes != 0
}

// A Policy says what to do with messages whose framing recipients disagree on.
type Policy uint8

const (
	// Strict refuses requests with a *ParseError of status 400 when they have
	// white space before a colon or before the first field, no version,
	// different or invalid lengths, length and coding together, a transfer
	// coding that does not end in one plain "chunked", that is folded or in
	// HTTP/1.0. Of responses it refuses (502) different or invalid lengths
	// only; where chunked contradicts a length, chunked wins, ambiguously.
	Strict Policy = iota
	// Lenient forwards what RFC 9112 §6.3 gives one meaning and marks it
	// ambiguous: chunked wins over a length, spaces before a colon do not
	// count. It refuses what has none.
	Lenient
	// Raw refuses nothing. Where Lenient would, the first length that is a
	// number counts; without one, a body lasts until the connection ends.
	Raw
)

// policyWords are the policies as people write them.
func policyWords() [3]string { return [3]string{Strict: "strict", Lenient: "lenient", Raw: "raw"} }

// String is the policy as people write it: strict, lenient or raw.
func (p Policy) String() string {
	if words := policyWords(); int(p) < len(words) {
		return words[p]
	}
	return "Policy(" + strconv.Itoa(int(p)) + ")"
}

// ParsePolicy reads what String writes; "" is Strict.
func ParsePolicy(word string) (Policy, bool) {
	for i, w := range policyWords() {
		if word == w {
			return Policy(i), true
		}
	}
	return Strict, word == ""
}

// Forwarding is the most careful policy that forwards a request: what a person
// may choose whose request was refused.
func Forwarding(r *Request) Policy {
	for _, p := range [...]Policy{Strict, Lenient} {
		if _, err := p.Request(r); err == nil {
			return p
		}
	}
	return Raw
}

// RequestFraming is Strict.Request.
func RequestFraming(r *Request) (Framing, error) { return Strict.Request(r) }

// ResponseFraming is Strict.Response.
func ResponseFraming(r *Response, reqMethod []byte) (Framing, error) {
	return Strict.Response(r, reqMethod)
}

// Request decides where the body of a request ends: RFC 9112 §6.3. Errors are
// of type *ParseError.
func (p Policy) Request(r *Request) (Framing, error) {
	if r.proto == HTTP2 {
		return streamFraming(&r.Head), nil
	}
	s := scanFraming(&r.Head, r.Version())
	f := Framing{LooseChunks: p != Strict, AnyChunks: p == Raw}
	f.add(s.notes | s.codingNotes(false))
	if (s.coded || s.length > 0) && contentless(r.Method()) {
		f.add(NoteContentUnusual)
	}
	if p == Strict {
		if reason := s.refusal(len(r.Version()) == 0); reason != "" {
			return f, &ParseError{Reason: reason, Status: 400}
		}
	}
	switch {
	// ¶3, ¶4: a transfer coding overrides a length; chunked is the last.
	case s.chunked:
		f.Kind = Chunked
		return f, nil
	// ¶4: a request whose last coding is not chunked has no reliable length.
	case s.coded && !s.identity:
		if p == Raw {
			f.Kind = UntilClose
			return f, nil
		}
		return f, &ParseError{Reason: "chunked is not the last transfer coding of the request", Status: 400}
	}
	// ¶5, ¶6: lengths. ¶7: a request that says nothing has no body.
	return s.byLength(f, p, None, 400)
}

// Response decides where the body of a response ends: RFC 9112 §6.3.
// reqMethod is the method of the request it answers. Errors are of type
// *ParseError with status 502.
func (p Policy) Response(r *Response, reqMethod []byte) (Framing, error) {
	if r.proto == HTTP2 {
		return streamFraming(&r.Head), nil
	}
	s := scanFraming(&r.Head, r.Version())
	f := Framing{LooseChunks: true, AnyChunks: p == Raw}
	f.add(s.notes)
	status := r.Status()
	switch {
	// ¶1: no body whatever the fields say. To HEAD and with 304 they describe
	// the body that GET would get; elsewhere they should not be there.
	case string(reqMethod) == "HEAD" || status == 304:
		return f, nil
	// ¶2: after a 2xx to CONNECT the connection is a tunnel.
	case status/100 == 1 || status == 204 || status/100 == 2 && string(reqMethod) == "CONNECT":
		if s.coded || s.lengths > 0 && s.length != 0 {
			f.add(NoteBodyless)
		}
		return f, nil
	}
	f.add(s.codingNotes(true))
	switch {
	// ¶3, ¶4: chunked wins over a length.
	case s.chunked:
		f.Kind = Chunked
		return f, nil
	// ¶4: other codings end with the connection. "identity", which RFC 2616
	// §3.6 had for "none", still means that to everybody.
	case s.coded && !s.identity:
		f.Kind = UntilClose
		return f, nil
	}
	// ¶5, ¶6: lengths. ¶8: all else ends with the connection.
	return s.byLength(f, p, UntilClose, 502)
}

// contentless tells whether content has no meaning with a method (RFC 9110
// §9.3.1, §9.3.2, §9.3.6): there are origins which take it for the next
// request. DELETE has none either, but it is in wide use.
func contentless(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "CONNECT", "TRACE":
		return true
	}
	return false
}

// streamFraming is RFC 9113 §8.1: the frames end a body; a content-length is
// only a promise about them.
func streamFraming(h *Head) Framing {
	f := Framing{Kind: Stream}
	if v, ok := h.Get("content-length"); ok {
		f.Length, _ = parseLength(v)
	}
	return f
}

// framingFields is what a head says about its body.
type framingFields struct {
	notes Notes

	coded      bool // there is a Transfer-Encoding
	chunked    bool // its last coding is chunked
	identity   bool // its only coding is identity
	plain      bool // it is one field, just "chunked"
	tooOld     bool // HTTP/1.0
	foldedLine bool // a framing field is folded
	codings    int
	chunkeds   int // how many of the codings are chunked

	lengths int   // values of Content-Length
	length  int64 // the first valid one; -1 when there is none
	spaced  bool  // white space before the first field
}

func scanFraming(h *Head, version []byte) framingFields {
	s := framingFields{notes: h.odd, length: -1}
	var flags FieldFlags
	for i := range h.fields {
		f := &h.fields[i]
		flags |= f.flags
		switch f.nameHi - f.lo {
		case uint32(len("Content-Length")):
			if equalFold(h.buf[f.lo:f.nameHi], "Content-Length") {
				s.addLength(h.buf[f.valLo:f.valHi])
				s.foldedLine = s.foldedLine || f.flags&Folded != 0
			}
		case uint32(len("Transfer-Encoding")):
			if equalFold(h.buf[f.lo:f.nameHi], "Transfer-Encoding") {
				s.addCoding(h.buf[f.valLo:f.valHi])
				s.foldedLine = s.foldedLine || f.flags&Folded != 0
			}
		}
	}
	s.identity = s.identity && s.codings == 1
	s.notes |= fieldNotes(flags)
	s.spaced = len(h.fields) > 0 && h.fields[0].flags&(NoColon|Folded) == NoColon|Folded && isSpace(h.buf[h.fields[0].lo])
	s.tooOld = string(version) == "HTTP/1.0"
	if !isVersion1(version) {
		s.notes |= NoteVersion
	}
	if s.lengths > 1 && s.notes&(NoteLengthConflict|NoteLengthInvalid) == 0 {
		s.notes |= NoteLengthRepeated
	}
	return s
}

func fieldNotes(flags FieldFlags) (n Notes) {
	if flags == 0 {
		return 0
	}
	if flags&SpaceBeforeColon != 0 {
		n |= NoteSpaceBeforeColon
	}
	if flags&NoColon != 0 {
		n |= NoteNoColon
	}
	if flags&OddName != 0 {
		n |= NoteOddName
	}
	if flags&Folded != 0 {
		n |= NoteFolded
	}
	return n // BareLF is counted for the whole head
}

// addLength takes one Content-Length value, which may be a list (¶5).
func (s *framingFields) addLength(v []byte) {
	for more := true; more; {
		var word []byte
		more = bytes.IndexByte(v, ',') >= 0
		word, v = cutList(v)
		s.lengths++
		n, ok := parseLength(word)
		if len(word) > 1 && word[0] == '0' {
			s.notes |= NoteLengthPadded // octal, to some
		}
		switch {
		case !ok:
			s.notes |= NoteLengthInvalid
		case s.length >= 0 && s.length != n:
			s.notes |= NoteLengthConflict
		case s.length < 0:
			s.length = n
		}
	}
}

// parseLength is 1*DIGIT (RFC 9110 §8.6) that fits.
func parseLength(v []byte) (n int64, ok bool) {
	if len(v) == 0 {
		return 0, false
	}
	for _, c := range v {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// addCoding takes one Transfer-Encoding value, a list (RFC 9112 §6.1). Several
// fields make one list.
func (s *framingFields) addCoding(v []byte) {
	s.plain = !s.coded && equalFold(v, "chunked")
	s.coded = true
	for len(v) > 0 {
		var word []byte
		word, v = cutList(v)
		if len(word) == 0 { // RFC 9110 §5.6.1.2: empty elements do not count
			continue
		}
		s.codings++
		s.identity = equalFold(word, "identity")
		if s.chunked = equalFold(word, "chunked"); s.chunked {
			s.chunkeds++
		}
	}
}

// codingNotes are the notes about Transfer-Encoding.
func (s *framingFields) codingNotes(response bool) (n Notes) {
	if !s.coded {
		return 0
	}
	if !s.plain {
		n |= NoteCodingOdd
	}
	if s.tooOld {
		n |= NoteCodingTooOld
	}
	if s.lengths > 0 {
		n |= NoteLengthAndCoding
	}
	switch {
	case s.identity:
		n |= NoteCodingIdentity
	case !s.chunked && !response:
		n |= NoteCodingNotFinal
	}
	return n
}

// refusal is why Strict refuses the request, "" if it does not.
func (s *framingFields) refusal(noVersion bool) string {
	switch {
	case noVersion:
		return "the request line has no HTTP version"
	case s.spaced: // RFC 9112 §2.2
		return "white space before the first field of the request"
	case s.notes&NoteSpaceBeforeColon != 0: // RFC 9112 §5.1
		return "white space between a field name and its colon in a request"
	case s.foldedLine:
		return "Content-Length or Transfer-Encoding of the request is folded over lines"
	case s.coded && s.lengths > 0: // §6.3 ¶3: ought to be handled as an error
		return "the request has both Content-Length and Transfer-Encoding"
	case s.coded && s.tooOld: // §6.1
		return "Transfer-Encoding in an HTTP/1.0 request"
	case s.coded && !s.chunked: // §6.3 ¶4
		return "chunked is not the last transfer coding of the request"
	case s.chunkeds > 1: // §6.1: chunked must not be applied twice
		return "the request is said to be chunked more than once"
	}
	return ""
}

// byLength is §6.3 ¶5 to ¶8: no transfer coding counts. absent is what a
// message without length comes to.
func (s *framingFields) byLength(f Framing, p Policy, absent FramingKind, status int) (Framing, error) {
	bad := s.notes & (NoteLengthConflict | NoteLengthInvalid)
	switch {
	case s.lengths == 0:
		f.Kind = absent
	case p != Raw && bad&NoteLengthInvalid != 0:
		return f, &ParseError{Reason: "Content-Length is no number", Status: status}
	case p != Raw && bad != 0:
		return f, &ParseError{Reason: "Content-Length fields that differ", Status: status}
	case s.length < 0:
		f.Kind = UntilClose
	default:
		f.Kind, f.Length = Length, s.length
	}
	return f, nil
}
