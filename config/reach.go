package config

import "github.com/holdfast-proxy/holdfast/httpql"

// reaching says of how many responses a condition is true.
type reaching uint8

const (
	sometimes reaching = iota
	never
	always
)

// The status codes that a server can send: three digits (RFC 9110 §15).
const (
	lowestCode  = 100
	highestCode = 999
)

// reach asks the condition about a response of every status code of which
// nothing else is known. In three-valued logic an answer that is already
// certain does not depend on anything else: false for every code means that no
// response can make it true.
func reach(q *httpql.Query) reaching {
	couldFire, couldRest := false, false
	for code := int64(lowestCode); code <= highestCode; code++ {
		switch q.Match(codeOnly(code)) {
		case httpql.True:
			couldFire = true
		case httpql.False:
			couldRest = true
		default:
			return sometimes
		}
	}
	switch {
	case !couldFire:
		return never
	case !couldRest:
		return always
	}
	return sometimes
}

// codeOnly is a record of which only the response's status code has arrived.
type codeOnly int64

// Bytes knows no text.
func (codeOnly) Bytes(httpql.Field) ([]byte, httpql.Presence) { return nil, httpql.Pending }

// Int knows the status code.
func (c codeOnly) Int(f httpql.Field) (int64, httpql.Presence) {
	if f == httpql.RespCode {
		return int64(c), httpql.Known
	}
	return 0, httpql.Pending
}

// Item knows no header.
func (codeOnly) Item(httpql.Field, int) (name, value []byte) { return nil, nil }
