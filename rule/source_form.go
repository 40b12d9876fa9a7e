package rule

import (
	"bytes"

	"golang.org/x/net/html"
)

// compileFormField takes the values that are not empty of an input (its
// value), a meta element (its content) or a textarea (its text) of the name.
// The body is read as a browser's tokenizer reads it: markup in comments and
// scripts is none, entities are decoded, attributes come in any order.
func compileFormField(s *Source) (extractor, error) {
	name := s.Name
	return func(in *exchange, yield func(string) bool) {
		if !bytes.Contains(in.body, []byte("<")) {
			return
		}
		z := html.NewTokenizer(bytes.NewReader(in.body))
		for {
			switch z.Next() {
			case html.ErrorToken:
				return
			case html.StartTagToken, html.SelfClosingTagToken:
				if value, ok := fieldValue(z, name); ok && !yield(value) {
					return
				}
			}
		}
	}, nil
}

// fieldValue looks at the tag that the tokenizer has just read.
func fieldValue(z *html.Tokenizer, name string) (string, bool) {
	tag, more := z.TagName()
	var from string
	switch string(tag) {
	case "input":
		from = "value"
	case "meta":
		from = "content"
	case "textarea":
	default:
		return "", false
	}
	textarea := from == ""
	var value string
	var named, seen, valued bool
	for more {
		var key, v []byte
		key, v, more = z.TagAttr()
		switch k := string(key); {
		case k == "name" && !seen: // the first of an attribute counts, as in browsers
			seen, named = true, string(v) == name
		case k == from && !valued && !textarea:
			valued, value = true, string(v)
		}
	}
	if !named {
		return "", false
	}
	if textarea && z.Next() == html.TextToken {
		text := bytes.TrimPrefix(z.Text(), []byte("\n")) // the HTML standard drops one leading line end
		value = string(text)
	}
	return value, value != ""
}
