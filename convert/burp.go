package convert

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// burpItem is one item of the XML that Burp writes by "save items".
type burpItem struct {
	Time     string      `xml:"time"`
	URL      string      `xml:"url"`
	Request  burpMessage `xml:"request"`
	Response burpMessage `xml:"response"`
}

type burpMessage struct {
	Base64 bool   `xml:"base64,attr"`
	Text   string `xml:",chardata"`
}

func (m *burpMessage) bytes() ([]byte, error) {
	if !m.Base64 {
		return []byte(m.Text), nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(m.Text))
	if err != nil {
		return nil, errors.New("it is no base64")
	}
	return raw, nil
}

// ReadBurp reads the XML of Burp's "save items", with or without base64, one
// item at a time.
func ReadBurp(in io.Reader) (*Recording, error) {
	limited := &entryReader{in: in, left: MaxEntry}
	b := bufio.NewReader(limited)
	if err := skipDeclaration(b); err != nil {
		return nil, err
	}
	d := xml.NewDecoder(b)
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	out := &Recording{Format: FormatBurp}
	number := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			if number == 0 && out.Creator == "" {
				return nil, fmt.Errorf("%w: the XML has no items; save them in Burp by \"Save items\"", ErrFormat)
			}
			return out, nil
		}
		if err != nil {
			line, column := d.InputPos()
			return nil, fmt.Errorf("Burp's items cannot be read at %d:%d: %w", line, column, err)
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
		case start.Name.Local == "items":
			out.Creator = "Burp"
			for _, a := range start.Attr {
				if a.Name.Local == "burpVersion" {
					out.Creator += " " + a.Value
				}
			}
		case start.Name.Local == "item":
			number++
			limited.left = MaxEntry
			var item burpItem
			if err := d.DecodeElement(&item, &start); err != nil {
				return nil, fmt.Errorf("item %d of Burp's cannot be read: %w", number, err)
			}
			if !out.burpItem(number, &item) {
				return out, nil
			}
		}
	}
}

// skipDeclaration drops the XML declaration: Burp writes version 1.1 where
// messages stand as text, and that version is all that is read otherwise.
func skipDeclaration(b *bufio.Reader) error {
	first, _ := b.Peek(256)
	if i := bytes.Index(first, []byte("?>")); i >= 0 && bytes.Contains(first[:i], []byte("<?xml")) {
		_, err := b.Discard(i + 2)
		return err
	}
	return nil
}

func (r *Recording) burpItem(number int, item *burpItem) bool {
	raw, err := item.Request.bytes()
	if err == nil {
		var x Exchange
		if x, err = rawRequest(raw, strings.HasPrefix(item.URL, "https://")); err == nil {
			x.Entry = number
			x.Time, _ = time.Parse("Mon Jan 2 15:04:05 MST 2006", strings.TrimSpace(item.Time))
			if _, _, _, bad := partURL(strings.TrimSpace(item.URL)); bad == nil {
				// The Host field is the tester's to choose: the URL says where
				// the request went.
				x.URL = strings.TrimSpace(item.URL)
			}
			r.burpAnswer(&x, &item.Response)
			return r.add(x)
		}
	}
	r.lose(number, "left out: %v", err)
	return true
}

func (r *Recording) burpAnswer(x *Exchange, m *burpMessage) {
	if strings.TrimSpace(m.Text) == "" {
		r.lose(x.Entry, "no answer was recorded")
		return
	}
	raw, err := m.bytes()
	if err == nil {
		x.Response, x.ResponseBody, err = rawResponse(raw)
	}
	if err != nil {
		r.lose(x.Entry, "the answer: %v", err)
	}
}
