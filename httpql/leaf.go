package httpql

import (
	"time"
	"unicode/utf8"
)

func all() *Node { return &Node{Kind: KindAll, height: 1} }

func compareNode(f Field, op Op) *Node {
	s := f.spec()
	return &Node{Kind: KindCompare, Field: f, Op: op, height: 1, access: s.access, of: s.of}
}

// leaf makes a comparison with a text operand: of text, of a date, or of the
// source. The offset of a fault is in the operand.
func leaf(f Field, op Op, name, text string, literal bool) (*Node, *fault) {
	n := compareNode(f, op)
	n.Name, n.Text, n.Literal = name, text, literal
	if f.spec().takes == takesDate {
		ms, ok := parseDate(text)
		if !ok {
			return nil, &fault{0, "the date cannot be read",
				`write it as "2026-01-31", "2026-01-31T12:10:10Z" or "Sat, 31 Jan 2026 12:10:10 GMT"`}
		}
		n.Number = ms
		return n, nil
	}
	var bad *fault
	n.text, bad = newMatcher(op, text)
	return n, bad
}

// parseDate reads a date in one of the published forms as milliseconds since
// 1970. Only zones that are numbers, Z, GMT, UTC and UT are read: what other
// abbreviations mean depends on who reads them.
func parseDate(s string) (int64, bool) {
	try := func(layouts ...string) (int64, bool) {
		for _, l := range layouts {
			if t, err := time.Parse(l, s); err == nil {
				return t.UnixMilli(), true
			}
		}
		return 0, false
	}
	// RFC 3339, ISO 8601 (calendar dates, extended and basic) and ISO 9075.
	if ms, ok := try("2006-01-02", "20060102", "20060102T150405", "20060102T150405Z0700"); ok {
		return ms, true
	}
	for _, day := range []string{"2006-01-02T", "2006-01-02t", "2006-01-02 "} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			if ms, ok := try(day+clock, day+clock+"Z07:00", day+clock+"Z0700", day+clock+"Z07", day+clock+"z", day+clock+" Z07:00"); ok {
				return ms, true
			}
		}
	}
	// RFC 2822 §3.3, and RFC 9110 §5.6.7 with its two obsolete forms.
	for _, day := range []string{"Mon, ", "Mon,", ""} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			l := day + "2 Jan 2006 " + clock
			if ms, ok := try(l+" -0700", l+" GMT", l+" UTC", l+" UT", l+" Z"); ok {
				return ms, true
			}
		}
	}
	return try("Monday, 02-Jan-06 15:04:05 GMT", "Mon Jan _2 15:04:05 2006")
}

// utf8Fault is about an operand that no string can hold.
func utf8Fault(s string) *fault {
	if utf8.ValidString(s) {
		return nil
	}
	return &fault{0, "the text is not UTF-8", "write it as UTF-8"}
}
