package rule

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Bounds of the trees that selectors and XPath look at. What is beyond them of
// an HTML body is not there; an XML body beyond them is no tree.
const (
	maxTreeText  = 4 << 20 // bytes
	maxTreeNodes = 20_000
	maxTreeDepth = 256
)

// htmlTree reads an HTML body. It does not use the parser of x/net/html: that
// repeats formatting elements as browsers do, so that a body of a few hundred
// kilobytes becomes gigabytes. Here a tag is one node. End tags that HTML lets
// authors leave out are understood, and a tbody is there where browsers put
// one, since that is where selectors are copied from.
func htmlTree(body []byte) *html.Node {
	b := &htmlBuilder{root: &html.Node{Type: html.DocumentNode}}
	b.at = b.root
	z := html.NewTokenizer(bytes.NewReader(body[:min(len(body), maxTreeText)]))
	for b.nodes < maxTreeNodes {
		switch z.Next() {
		case html.ErrorToken:
			return b.root
		case html.TextToken:
			b.add(&html.Node{Type: html.TextNode, Data: string(z.Text())})
		case html.StartTagToken:
			b.open(z.Token(), false)
		case html.SelfClosingTagToken:
			b.open(z.Token(), true)
		case html.EndTagToken:
			name, _ := z.TagName()
			b.close(string(name))
		}
	}
	return b.root
}

type htmlBuilder struct {
	root, at     *html.Node
	depth, nodes int
}

func (b *htmlBuilder) add(n *html.Node) {
	b.at.AppendChild(n)
	b.nodes++
}

// into makes an element the place where the next nodes go.
func (b *htmlBuilder) into(n *html.Node) {
	b.add(n)
	if b.depth < maxTreeDepth {
		b.at = n
		b.depth++
	}
}

func (b *htmlBuilder) open(t html.Token, selfClosing bool) {
	for b.at != b.root && endsBefore(b.at.Data, t.Data) {
		b.up()
	}
	if t.DataAtom == atom.Tr && b.at.DataAtom == atom.Table {
		b.into(&html.Node{Type: html.ElementNode, DataAtom: atom.Tbody, Data: "tbody"})
	}
	n := &html.Node{Type: html.ElementNode, DataAtom: t.DataAtom, Data: t.Data, Attr: t.Attr}
	if isVoid(t.DataAtom) || selfClosing && t.DataAtom == 0 {
		b.add(n)
		return
	}
	b.into(n)
}

func (b *htmlBuilder) up() {
	b.at = b.at.Parent
	b.depth--
}

// close ends the nearest element of the name with all in it; an end tag of
// none is left out.
func (b *htmlBuilder) close(name string) {
	for n := b.at; n != b.root; n = n.Parent {
		if n.Data != name {
			continue
		}
		for b.at != n {
			b.up()
		}
		b.up()
		return
	}
}

func isVoid(a atom.Atom) bool {
	switch a {
	case atom.Area, atom.Base, atom.Br, atom.Col, atom.Embed, atom.Hr, atom.Img, atom.Input, atom.Link, atom.Meta,
		atom.Param, atom.Source, atom.Track, atom.Wbr:
		return true
	}
	return false
}

// endsBefore reports whether an open element ends where a tag begins, as far as
// authors leave end tags out.
func endsBefore(open, next string) bool {
	within := func(list ...string) bool { return slices.Contains(list, next) }
	switch open {
	case "head":
		return next == "body"
	case "p":
		return within("p", "div", "ul", "ol", "dl", "table", "form", "section", "article", "header", "footer", "main", "nav",
			"aside", "fieldset", "pre", "blockquote", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "li", "dt", "dd", "tr", "td", "th")
	case "li":
		return next == "li"
	case "dt", "dd":
		return within("dt", "dd")
	case "option":
		return within("option", "optgroup")
	case "optgroup":
		return next == "optgroup"
	case "td", "th":
		return within("td", "th", "tr", "tbody", "thead", "tfoot")
	case "tr":
		return within("tr", "tbody", "thead", "tfoot")
	case "tbody", "thead", "tfoot":
		return within("tbody", "thead", "tfoot")
	}
	return false
}

// textOf is all text in a node.
func textOf(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return b.String()
}

// span is where something stands in a text.
type span struct{ from, to int }

// xmlTree is an XML body with the places of its nodes in it.
type xmlTree struct {
	root  *html.Node
	tags  map[*html.Node]span // start tags
	inner map[*html.Node]span // what is between start and end tag; of a text node itself
}

var errNoTree = errors.New("the body is no XML, or has more than is looked at")

// parseXML reads an XML body. Names are kept as they are written, with their
// prefixes; nothing is looked up or expanded, and no document type is read.
func parseXML(body []byte) (*xmlTree, error) {
	if len(body) > maxTreeText {
		return nil, errNoTree
	}
	t := &xmlTree{root: &html.Node{Type: html.DocumentNode}, tags: make(map[*html.Node]span), inner: make(map[*html.Node]span)}
	d := xml.NewDecoder(bytes.NewReader(body))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	at, depth, nodes := t.root, 0, 0
	for {
		from := int(d.InputOffset())
		token, err := d.RawToken()
		to := int(d.InputOffset())
		if err == io.EOF && at == t.root && nodes > 0 {
			return t, nil
		}
		if err != nil || nodes >= maxTreeNodes || depth > maxTreeDepth {
			return nil, errNoTree
		}
		switch token := token.(type) {
		case xml.StartElement:
			n := &html.Node{Type: html.ElementNode, Data: rawName(token.Name)}
			for _, a := range token.Attr {
				n.Attr = append(n.Attr, html.Attribute{Key: rawName(a.Name), Val: a.Value})
			}
			at.AppendChild(n)
			t.tags[n], t.inner[n] = span{from, to}, span{to, to}
			at = n
			depth++
			nodes += 1 + len(token.Attr)
		case xml.EndElement:
			if at == t.root || at.Data != rawName(token.Name) {
				return nil, errNoTree
			}
			t.inner[at] = span{t.inner[at].from, from}
			at = at.Parent
			depth--
		case xml.CharData:
			if at == t.root {
				break
			}
			n := &html.Node{Type: html.TextNode, Data: string(token)}
			at.AppendChild(n)
			t.inner[n] = span{from, to}
			nodes++
		}
	}
}

func rawName(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}
