package rule

import "strings"

// compileRedirect looks at Location of a 3xx answer. A parameter is looked for
// in the query, then in the fragment, where OAuth 2 has it too (RFC 6749
// §4.2.2), and comes decoded.
func compileRedirect(s *Source) (extractor, error) {
	if (s.Param == "") == (s.Regex == "") {
		return nil, &Error{Problem: "a RedirectURL source needs a param or a regex", Next: "add one of them"}
	}
	var p *pattern
	if s.Regex != "" {
		var err error
		if p, err = compilePattern(s.Regex, 1); err != nil {
			return nil, within("regex", err)
		}
	}
	name := s.Param
	return func(in *exchange, yield func(string) bool) {
		location, ok := in.resp.Get("Location")
		if !ok || in.resp.Status()/100 != 3 {
			return
		}
		if p != nil {
			p.each(location, in.limit, yield)
			return
		}
		place, fragment, _ := strings.Cut(string(location), "#")
		_, query, _ := strings.Cut(place, "?")
		for _, pairs := range []string{query, strings.TrimPrefix(fragment, "?")} {
			for pair := range strings.SplitSeq(pairs, "&") {
				key, value, _ := strings.Cut(pair, "=")
				if unescape(key, true) == name && !yield(unescape(value, true)) {
					return
				}
			}
		}
	}, nil
}

// compileRequestHeader looks at the request as it was sent, so that a value
// which Holdfast put there itself is never taken for the client's.
func compileRequestHeader(s *Source) (extractor, error) {
	each, err := fieldsOf(s)
	if err != nil {
		return nil, err
	}
	return func(in *exchange, yield func(string) bool) {
		if in.req != nil {
			each(&in.req.Head, in.limit, yield)
		}
	}, nil
}

func compileRequestCookie(s *Source) (extractor, error) {
	if !isToken(s.Name) {
		return nil, &Error{Key: "name", Problem: "this is no name of a cookie", Next: "write what stands before the = in Cookie"}
	}
	name := s.Name
	return func(in *exchange, yield func(string) bool) {
		if in.req == nil {
			return
		}
		if field, from, to := findCookie(in.req, name); field >= 0 {
			_, line := in.req.Field(field)
			yield(string(line[from:to]))
		}
	}, nil
}
