package rule

import (
	"bytes"

	"github.com/holdfast-proxy/holdfast/wire"
)

func compileBody(s *Source) (extractor, error) {
	p, err := compilePattern(s.Regex, 1)
	if err != nil {
		return nil, within("regex", err)
	}
	headers := s.Headers
	return func(in *exchange, yield func(string) bool) { p.each(in.text(headers), in.limit, yield) }, nil
}

// text is the body, or the head and the body behind it.
func (in *exchange) text(headers bool) []byte {
	if !headers {
		return in.body
	}
	head := in.resp.Bytes()
	return append(head[:len(head):len(head)], in.body...)
}

// compileHeader looks at all fields of the name in order.
func compileHeader(s *Source) (extractor, error) {
	each, err := fieldsOf(s)
	if err != nil {
		return nil, err
	}
	return func(in *exchange, yield func(string) bool) { each(&in.resp.Head, in.limit, yield) }, nil
}

// fieldsOf compiles a source that looks at the fields of a name: at what the
// regex finds in each, or at the values without one.
func fieldsOf(s *Source) (func(h *wire.Head, limit int, yield func(string) bool), error) {
	if !isToken(s.Name) {
		return nil, &Error{Key: "name", Problem: "this is no name of a header", Next: "write it without the colon"}
	}
	var p *pattern
	if s.Regex != "" {
		var err error
		if p, err = compilePattern(s.Regex, 1); err != nil {
			return nil, within("regex", err)
		}
	}
	name := s.Name
	return func(h *wire.Head, limit int, yield func(string) bool) {
		more := true
		for i := 0; more && i < h.NumFields(); i++ {
			n, v := h.Field(i)
			switch {
			case !equalFold(n, name):
			case p == nil:
				more = yield(string(v))
			default:
				p.each(v, limit, func(value string) bool {
					more = yield(value)
					return more
				})
			}
		}
	}, nil
}

// compileBetween takes what stands between two literals, or at a place that is
// counted. Where it begins after a literal there may be several.
func compileBetween(s *Source) (extractor, error) {
	switch {
	case s.Start != "" && s.Offset != 0:
		return nil, &Error{Key: "offset", Problem: "the value begins after start or at an offset, not at both", Next: "leave one of them out"}
	case s.End != "" && s.Length != 0:
		return nil, &Error{Key: "length", Problem: "the value ends before end or after a length, not at both", Next: "leave one of them out"}
	case s.Start == "" && s.Offset == 0 && s.End == "" && s.Length == 0:
		return nil, &Error{Problem: "a Between source needs to know where the value begins or ends", Next: "add start or offset, and end or length"}
	case s.Offset < 0:
		return nil, &Error{Key: "offset", Problem: "the offset is negative", Next: "count bytes from the beginning"}
	case s.Length < 0:
		return nil, &Error{Key: "length", Problem: "the length is negative", Next: "write how many bytes"}
	}
	b := between{start: []byte(s.Start), end: []byte(s.End), offset: s.Offset, length: s.Length}
	headers, fold := s.Headers, s.IgnoreCase
	if fold {
		b.start, b.end = lowered(b.start), lowered(b.end)
	}
	return func(in *exchange, yield func(string) bool) {
		text := in.text(headers)
		searched := text
		if fold {
			searched = lowered(text)
		}
		b.each(searched, func(from, to int) bool { return yield(string(text[from:to])) })
	}, nil
}

// lowered is a copy with ASCII letters in lower case, of the same length.
func lowered(text []byte) []byte {
	out := make([]byte, len(text))
	for i, c := range text {
		out[i] = lower(c)
	}
	return out
}

type between struct {
	start, end     []byte
	offset, length int
}

// each gives yield where the values are. The search for the next one goes on
// behind the one before.
func (b *between) each(text []byte, yield func(from, to int) bool) {
	at := b.offset
	for {
		if at > len(text) {
			return
		}
		if len(b.start) > 0 {
			i := bytes.Index(text[at:], b.start)
			if i < 0 {
				return
			}
			at += i + len(b.start)
		}
		to := len(text)
		switch {
		case len(b.end) > 0:
			i := bytes.Index(text[at:], b.end)
			if i < 0 {
				return
			}
			to = at + i
		case b.length > len(text)-at:
			return
		case b.length > 0:
			to = at + b.length
		}
		if !yield(at, to) || len(b.start) == 0 {
			return
		}
		at = to
	}
}
