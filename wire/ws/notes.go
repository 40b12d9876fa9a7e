package ws

// Notes is a set of what was odd.
type Notes uint32

// What can be odd, with its section of RFC 6455 or RFC 7692.
const (
	NoteUnmasked       Notes = 1 << iota // a client's frame is not masked (§5.1)
	NoteMasked                           // an origin's frame is masked (§5.1)
	NoteReservedBits                     // a reserved bit is set that no extension defines (§5.2)
	NoteReservedOpcode                   // §5.2
	NoteLongForm                         // a length takes more bytes than it needs (§5.2)
	NoteControlSplit                     // a control frame is fragmented (§5.5)
	NoteControlLong                      // a control frame has more than 125 bytes (§5.5)
	NoteContinuation                     // a fragment continues nothing (§5.4)
	NoteInterrupted                      // a message begins within another (§5.4)
	NoteUTF8                             // a text or the reason of a close is no UTF-8 (§5.6, §5.5.1)
	NoteCloseCode                        // a close has half a code, or one that nobody may send (§7.4)
	NoteAfterClose                       // a frame follows the close (§5.5.1)
	NoteInflate                          // a compressed message could not be inflated (RFC 7692 §7.2.2)
	NoteTooLarge                         // a compressed message is beyond the limits
	NoteCut                              // the stream ended within a frame or a message

	allNotes = iota
)

// strange are the notes of which many mean that the stream is no WebSocket.
const strange = NoteReservedBits | NoteReservedOpcode | NoteControlSplit | NoteControlLong | NoteContinuation | NoteInterrupted

func (n Notes) text() string {
	switch n {
	case NoteUnmasked:
		return "a frame of the client is not masked"
	case NoteMasked:
		return "a frame of the origin is masked"
	case NoteReservedBits:
		return "a reserved bit is set"
	case NoteReservedOpcode:
		return "an opcode is reserved"
	case NoteLongForm:
		return "a length takes more bytes than it needs"
	case NoteControlSplit:
		return "a control frame is fragmented"
	case NoteControlLong:
		return "a control frame is longer than 125 bytes"
	case NoteContinuation:
		return "a fragment continues no message"
	case NoteInterrupted:
		return "a message begins before the one before has ended"
	case NoteUTF8:
		return "a text is no UTF-8"
	case NoteCloseCode:
		return "a close has no valid code"
	case NoteAfterClose:
		return "a frame follows the close"
	case NoteInflate:
		return "a compressed message cannot be inflated"
	case NoteTooLarge:
		return "a compressed message is too large to be inflated"
	case NoteCut:
		return "the stream ends within a message"
	}
	return "unknown note"
}

// Strings says each note as part of a sentence.
func (n Notes) Strings() []string {
	var list []string
	for i := range allNotes {
		if one := Notes(1) << i; n&one != 0 {
			list = append(list, one.text())
		}
	}
	return list
}
