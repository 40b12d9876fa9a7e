package wire

import (
	"math/bits"
	"strings"
)

// Notes is a set of oddities of one message, for traces and for decisions. The
// zero value is a message without any.
type Notes uint32

// The oddities. Those that two recipients are known to read differently make
// the [Framing] ambiguous.
const (
	NoteSpaceBeforeColon Notes = 1 << iota // RFC 9112 §5.1
	NoteNoColon                            // a line that is no field
	NoteOddName                            // a name begins or ends with a byte no token may hold
	NoteFolded                             // RFC 9112 §5.2
	NoteBareLF                             // RFC 9112 §2.2
	NoteBareCR                             // RFC 9112 §2.2
	NoteNUL                                // RFC 9110 §5.5
	NoteEmptyLines                         // before the request line; not part of the head
	NoteSpaceInTarget                      // RFC 9112 §3
	NoteVersion                            // not HTTP/1.x, or none
	NoteLengthRepeated                     // Content-Length several times, all the same
	NoteLengthConflict                     // … not all the same
	NoteLengthInvalid                      // Content-Length is no number
	NoteLengthAndCoding                    // Content-Length and Transfer-Encoding together
	NoteCodingOdd                          // Transfer-Encoding is not plainly "chunked"
	NoteCodingNotFinal                     // chunked is not the last transfer coding
	NoteCodingIdentity                     // "identity" taken as no transfer coding
	NoteCodingTooOld                       // Transfer-Encoding in HTTP/1.0, RFC 9112 §6.1
	NoteBodyless                           // a length or coding where no body can be
	NoteLooseChunk                         // a chunk line ended by LF alone
	NoteOddChunk                           // a chunk size that is padded, or one that is none
	NoteLengthPadded                       // Content-Length with leading zeros
	NoteContentUnusual                     // content with a method that gives it no meaning
	noteCount            = iota
)

// ambiguousNotes are the oddities after which a connection is not safe to be
// used again: another recipient may have found other message borders.
const ambiguousNotes = NoteSpaceBeforeColon | NoteNoColon | NoteOddName | NoteFolded | NoteBareCR | NoteNUL |
	NoteSpaceInTarget | NoteVersion | NoteLengthConflict | NoteLengthInvalid | NoteLengthAndCoding |
	NoteCodingOdd | NoteCodingNotFinal | NoteCodingIdentity | NoteCodingTooOld | NoteBodyless | NoteLooseChunk |
	NoteBareLF | NoteLengthRepeated | NoteOddChunk | NoteLengthPadded | NoteContentUnusual

// BodyNotes are the oddities that show only while a body is read.
const BodyNotes = NoteLooseChunk | NoteOddChunk

// Strings words the notes, in a fixed order; nil when there are none.
func (n Notes) Strings() []string {
	words := [noteCount]string{
		"white space before a colon",
		"a line that is no field",
		"a field name with an odd byte at its edge",
		"a folded field",
		"a line ended by LF alone",
		"a CR that ends no line",
		"a NUL byte",
		"empty lines before the request line, left out",
		"white space in the target",
		"the version is not HTTP/1.x",
		"Content-Length repeated",
		"Content-Length repeated with different values",
		"Content-Length is no number",
		"Content-Length and Transfer-Encoding together",
		`Transfer-Encoding is not plainly "chunked"`,
		"chunked is not the last transfer coding",
		`Transfer-Encoding "identity" taken as none`,
		"Transfer-Encoding in HTTP/1.0",
		"a length or transfer coding on a message without a body",
		"a chunk line ended by LF alone",
		"a chunk size that is padded or unreadable",
		"Content-Length with leading zeros",
		"content with a method that gives it no meaning",
	}
	var list []string
	for ; n != 0; n &= n - 1 {
		if i := bits.TrailingZeros32(uint32(n)); i < len(words) {
			list = append(list, words[i])
		}
	}
	return list
}

// String joins the notes by "; ".
func (n Notes) String() string { return strings.Join(n.Strings(), "; ") }
