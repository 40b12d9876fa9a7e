package jar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Decode reads a file of cookies, by its look the JSON of [EncodeJSON] or a
// cookies.txt. Unlike DecodeJSON and DecodeNetscape it checks the cookies as
// well, so that [Jar.Import] refuses none of those that it returns. What is
// wrong is listed by line, without values.
func Decode(src []byte) ([]Cookie, []Problem) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	read := readNetscape
	if start := bytes.TrimLeft(src, " \t\r\n"); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		read = readJSON
	}
	found, problems := read(src)
	var cookies []Cookie
	for _, f := range found {
		if err := normalize(&f.cookie); err != nil {
			problems = append(problems, Problem{Line: f.line, Name: f.cookie.Name, Reason: err.Error()})
			continue
		}
		cookies = append(cookies, f.cookie)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	return cookies, problems
}

// placed is a cookie with the line of the file that it begins in.
type placed struct {
	cookie Cookie
	line   int
}

// readJSON is DecodeJSON with the places, and it goes on behind a mistake in
// one cookie.
func readJSON(src []byte) (found []placed, problems []Problem) {
	var f struct {
		Format  string            `json:"format"`
		Version int               `json:"version"`
		Cookies []json.RawMessage `json:"cookies"`
	}
	if err := unmarshal(src, &f); err != nil {
		return nil, []Problem{{Line: lineOf(src, jsonOffset(err, src)), Reason: jsonReason(err)}}
	}
	if f.Format != fileFormat || f.Version != fileVersion {
		return nil, []Problem{{Line: 1, Reason: fmt.Sprintf("format %q version %d is unknown; want %q version %d", f.Format, f.Version, fileFormat, fileVersion)}}
	}
	for _, e := range elements(src) {
		var c jsonCookie
		if err := unmarshal(e.raw, &c); err != nil {
			problems = append(problems, Problem{Line: lineOf(src, e.at+jsonOffset(err, nil)), Reason: jsonReason(err)})
			continue
		}
		found = append(found, placed{c.cookie(), lineOf(src, e.at)})
	}
	return found, problems
}

type element struct {
	raw json.RawMessage
	at  int64 // offset in the document
}

// elements are the cookies in a document whose form is known to be right.
func elements(src []byte) (all []element) {
	d := json.NewDecoder(bytes.NewReader(src))
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return all
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth != 2 || token != json.Delim('[') {
			continue
		}
		for d.More() {
			var raw json.RawMessage
			if d.Decode(&raw) != nil {
				return all
			}
			all = append(all, element{raw, d.InputOffset() - int64(len(raw))})
		}
	}
}

func lineOf(src []byte, offset int64) int {
	return 1 + bytes.Count(src[:min(max(offset, 0), int64(len(src)))], []byte("\n"))
}

// jsonOffset is where a mistake is found: for one that has no place, at the
// start.
func jsonOffset(err error, src []byte) int64 {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return syntax.Offset - 1 // it counts the byte that is wrong
	case errors.As(err, &kind):
		return kind.Offset
	case errors.Is(err, io.ErrUnexpectedEOF):
		return int64(len(src))
	}
	return 0
}

// jsonReason says what is wrong without what the file holds.
func jsonReason(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax), errors.Is(err, io.ErrUnexpectedEOF):
		return "is no JSON from here on"
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Sprintf("is not the JSON of %q: an object with format, version and cookies is wanted", fileFormat)
	case errors.As(err, &kind):
		return fmt.Sprintf("%s: this cannot be a JSON %s", kind.Field, kind.Value)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}
