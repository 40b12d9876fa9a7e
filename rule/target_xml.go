package rule

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
)

func xmlPlace() targetPlace {
	return targetPlace{
		prefix: "xml:",
		key:    "xpath",
		body:   true,
		fixed:  true,
		loose:  true,
		check: func(t *Target) (err error) {
			t.path, err = compilePath(t.XPath)
			return err
		},
		find: func(m *Message, t *Target) ([]byte, bool) {
			at, ok := locateXML(m.Body, t)
			return m.Body[at.from:at.to], ok
		},
		put: func(m *Message, t *Target, text []byte) (bool, error) {
			at, ok := locateXML(m.Body, t)
			if !ok {
				return false, nil
			}
			if at.closed { // <a/> becomes <a>text</a>
				tag := at.to - len("/>")
				text = append(append([]byte(">"), text...), "</"+at.name+">"...)
				m.Body = splice(m.Body, tag, at.to, text)
				return true, nil
			}
			m.Body = splice(m.Body, at.from, at.to, text)
			return true, nil
		},
		render: renderXML,
		plain:  plainXML,
		refuse: func(_ *Message, text []byte) string {
			for _, c := range text {
				if c < ' ' && c != '\t' && c != '\n' && c != '\r' {
					return fmt.Sprintf("%q, which XML does not have", c)
				}
			}
			if !utf8.Valid(text) {
				return "bytes that are no UTF-8"
			}
			if bytes.ContainsAny(text, `<"`) || bytes.Contains(text, []byte("]]>")) { // what only {{raw:…}} can bring
				return "a sign of markup"
			}
			return ""
		},
	}
}

// xmlSpan is where a text or an attribute's value stands.
type xmlSpan struct {
	span
	closed bool   // an empty element of one tag, which ends at to
	name   string // of it
}

// locateXML finds what a target's XPath selects first that can hold a value:
// an attribute, a text, or an element without elements inside.
func locateXML(body []byte, t *Target) (at xmlSpan, ok bool) {
	tree, err := parseXML(body)
	if err != nil {
		return at, false
	}
	selectNodes(t.path, tree.root, func(n *navigator, _ string) bool {
		if n != nil {
			at, ok = tree.locate(body, n)
		}
		return n != nil && !ok
	})
	return at, ok
}

func (t *xmlTree) locate(body []byte, n *navigator) (at xmlSpan, ok bool) {
	tag, isElement := t.tags[n.at]
	inner := t.inner[n.at]
	switch {
	case n.attr >= 0:
		at.span, ok = attributeAt(body[tag.from:tag.to], n.name())
		at.from, at.to = at.from+tag.from, at.to+tag.from
		return at, ok
	case !isElement:
		return xmlSpan{span: inner}, n.at.Type == html.TextNode
	}
	for c := range n.at.ChildNodes() {
		if c.Type == html.ElementNode {
			return at, false
		}
	}
	if bytes.HasSuffix(body[tag.from:tag.to], []byte("/>")) {
		return xmlSpan{span: span{tag.to, tag.to}, closed: true, name: n.at.Data}, true
	}
	return xmlSpan{span: inner}, true
}

// attributeAt is where the value of an attribute stands in a start tag, without
// its quotes.
func attributeAt(tag []byte, name string) (span, bool) {
	for i := 1; i < len(tag); {
		equals := bytes.IndexByte(tag[i:], '=')
		if equals < 0 {
			break
		}
		words := bytes.Fields(tag[i : i+equals])
		for i += equals + 1; i < len(tag) && isSpace(tag[i]); i++ {
		}
		if len(words) == 0 || i >= len(tag) || tag[i] != '"' && tag[i] != '\'' {
			break
		}
		end := bytes.IndexByte(tag[i+1:], tag[i])
		if end < 0 {
			break
		}
		if string(words[len(words)-1]) == name {
			return span{i + 1, i + 1 + end}, true
		}
		i += end + 2
	}
	return span{}, false
}

// renderXML writes a value so that it can stand in a text and in an attribute.
func renderXML(_ *Message, dst []byte, e Encoding, value string) []byte {
	if e == EncodeRaw {
		return append(dst, value...)
	}
	for _, c := range e.Append(nil, value) {
		switch c {
		case '&':
			dst = append(dst, "&amp;"...)
		case '<':
			dst = append(dst, "&lt;"...)
		case '>':
			dst = append(dst, "&gt;"...)
		case '"':
			dst = append(dst, "&quot;"...)
		case '\'':
			dst = append(dst, "&#39;"...)
		case '\t', '\n', '\r': // XML would make spaces and single line feeds of them
			dst = fmt.Appendf(dst, "&#%d;", c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// plainXML is the text that stands between tags, or in an attribute.
func plainXML(_ *Message, text string) string {
	d := xml.NewDecoder(strings.NewReader(text))
	d.Strict = false
	var b strings.Builder
	for {
		token, err := d.RawToken()
		if data, ok := token.(xml.CharData); ok {
			b.Write(data)
		}
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			return text
		}
	}
}
