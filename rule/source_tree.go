package rule

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/andybalholm/cascadia"
	"golang.org/x/net/html"
)

// compileCSS takes an attribute of what a selector selects; without one, the
// value of an input, the content of a meta element, else the text inside.
func compileCSS(s *Source) (extractor, error) {
	selector, err := cascadia.ParseGroup(s.Selector)
	if err != nil {
		return nil, &Error{Key: "selector", Problem: "the selector cannot be read: " + err.Error(), Next: "write it as for querySelector, such as meta[name=csrf-token]"}
	}
	attribute := strings.ToLower(s.Attribute)
	return func(in *exchange, yield func(string) bool) {
		if !bytes.Contains(in.body, []byte("<")) {
			return
		}
		for n := range htmlTree(in.body).Descendants() {
			if n.Type == html.ElementNode && selector.Match(n) && !yield(elementValue(n, attribute)) {
				return
			}
		}
	}, nil
}

func elementValue(n *html.Node, attribute string) string {
	if attribute == "" {
		switch n.Data {
		case "input":
			attribute = "value"
		case "meta":
			attribute = "content"
		default:
			return strings.TrimSpace(textOf(n))
		}
	}
	for _, a := range n.Attr {
		if a.Key == attribute {
			return a.Val
		}
	}
	return ""
}

// compileXPath looks at a body as XML where it says that it is, else as HTML.
func compileXPath(s *Source) (extractor, error) {
	e, err := compilePath(s.XPath)
	if err != nil {
		return nil, within("xpath", err)
	}
	return func(in *exchange, yield func(string) bool) {
		if !bytes.Contains(in.body, []byte("<")) {
			return
		}
		var root *html.Node
		if isXML(in) {
			tree, err := parseXML(in.body)
			if err != nil {
				return
			}
			root = tree.root
		} else {
			root = htmlTree(in.body)
		}
		selectNodes(e, root, func(n *navigator, text string) bool {
			if n != nil {
				text = strings.TrimSpace(n.Value())
			}
			return yield(text)
		})
	}, nil
}

// isXML trusts the declaration, then the media type (RFC 7303); XHTML that is
// served as such is read as XML.
func isXML(in *exchange) bool {
	if bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(in.body, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("<?xml")) {
		return true
	}
	media := mediaType(&in.resp.Head)
	return media == "application/xml" || media == "text/xml" || strings.HasSuffix(media, "+xml")
}

// formatNumber writes a number as XPath does (XPath 1.0 §4.2): a whole one
// without a point.
func formatNumber(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
