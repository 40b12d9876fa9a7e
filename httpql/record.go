package httpql

// Truth is the answer to a condition in Kleene's three-valued logic.
type Truth int8

// The three answers. Unknown means that the record does not hold enough yet;
// what is True or False stays so whatever arrives later.
const (
	False Truth = iota
	True
	Unknown
)

// String is "false", "true" or "unknown".
func (t Truth) String() string {
	switch t {
	case False:
		return "false"
	case True:
		return "true"
	}
	return "unknown"
}

// Presence says whether a record holds a value.
type Presence int8

const (
	// Missing: there is none and there will be none, such as the status of a
	// response that never came. Every comparison with it is False, negative
	// ones too. A part that a message merely lacks (no query, no body, no
	// such header) is not Missing but empty.
	Missing Presence = iota
	// Pending: it has not arrived, or only its beginning, which comes with it.
	Pending
	// Known: it is all there.
	Known
)

// Side is one of the two messages of a flow.
type Side uint8

// The two messages.
const (
	Request Side = iota
	Response
)

// A Record is what a query is asked about. It is read by one goroutine at a
// time; the package never changes or keeps what it gets.
//
// Which method is asked about which field is said at the [Field] constants.
type Record interface {
	// Bytes is a field of text. With Pending it is as much of the beginning
	// as has arrived. It may be overwritten by the next call of Bytes or Item.
	Bytes(f Field) ([]byte, Presence)
	// Int is a field that is a number; of a field with several values, how
	// many it has (with Pending: so far).
	Int(f Field) (int64, Presence)
	// Item is the value i, from 0, of a field with several values; name is
	// the header's name, nil for other fields.
	Item(f Field, i int) (name, value []byte)
}

// A Sizer is a Record whose texts are not those of the messages, and that knows
// how long those are all the same.
type Sizer interface {
	Record
	// Size is the length of a message, head and decoded body, in bytes; the
	// field is that of its head. With Pending it is as much as has arrived.
	Size(head Field) (int64, Presence)
}

// Size is the length of a message of a record; the field is that of its head.
func Size(r Record, head Field) (int64, Presence) {
	if s, ok := r.(Sizer); ok {
		return s.Size(head)
	}
	h, b, p := whole(r, head)
	return int64(len(h) + len(b)), p
}
