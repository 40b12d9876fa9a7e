package rule

import (
	"bytes"
	"net/url"
	"strings"

	"golang.org/x/net/html"

	"github.com/holdfast-proxy/holdfast/wire"
)

// Offers are the parameters that an answer offers for later requests: fields of
// its forms, queries of its links, and the query of the place that it redirects
// to. A field leads to its form's action. Offers never change; any goroutine
// may use them.
type Offers struct {
	list []offer
	more bool // there were more than maxOffers
}

type offer struct {
	name, value string
	place       string // see Place; "" leads nowhere
}

// maxOffers bounds what is taken of one answer, and maxOfferForms the forms.
const (
	maxOffers     = 1024
	maxOfferForms = 256
)

// Place is a URL as offers are compared: without query and fragment, its host
// in lower case, the port left out where it is the scheme's own.
func Place(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	default:
		return ""
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return u.Scheme + "://" + host + path
}

// OffersOf reads an answer. at is the URL that it answers, body its decoded
// body.
func OffersOf(at string, resp *wire.Response, body []byte) *Offers {
	r := offerReader{offers: new(Offers)}
	r.base, _ = url.Parse(at)
	if r.base == nil {
		r.base = new(url.URL)
	}
	if location, ok := resp.Get("Location"); ok && resp.Status()/100 == 3 {
		r.link(string(location))
	}
	if bytes.IndexByte(body, '<') >= 0 {
		r.page(body)
	}
	return r.offers
}

// Names are what is offered, each once, in order.
func (o *Offers) Names() []string {
	if o == nil {
		return nil
	}
	seen := make(map[string]bool, len(o.list))
	var names []string
	for i := range o.list {
		if name := o.list[i].name; !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// Find is the first value of the name that leads to the place; where that is
// tolerated, else the first that leads anywhere.
func (o *Offers) Find(name, place string, tolerate bool) (string, bool) {
	other := -1
	for i := range o.list {
		switch f := &o.list[i]; {
		case f.name != name:
		case f.place == place && place != "":
			return f.value, true
		case other < 0:
			other = i
		}
	}
	if !tolerate || other < 0 {
		return "", false
	}
	return o.list[other].value, true
}

// offerReader reads one answer.
type offerReader struct {
	offers *Offers
	base   *url.URL
	forms  []offerForm
	within int // of forms; -1 outside
}

type offerForm struct{ id, place string }

func (r *offerReader) add(name, value, place string) {
	if name == "" {
		return
	}
	if len(r.offers.list) >= maxOffers {
		r.offers.more = true
		return
	}
	r.offers.list = append(r.offers.list, offer{name, value, place})
}

// link takes the query of a URL.
func (r *offerReader) link(ref string) string {
	u, err := r.base.Parse(strings.TrimSpace(ref))
	if err != nil {
		return ""
	}
	place := Place(u)
	if place == "" {
		return ""
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		r.add(unescape(name, true), unescape(value, true), place)
	}
	return place
}

// page reads HTML as a browser's tokenizer does: markup in comments and scripts
// is none.
func (r *offerReader) page(body []byte) {
	r.within = -1
	var choice struct { // the select that is open
		name, place string
		first, said bool
		value       string
	}
	owners := make(map[int]string) // offers whose form is named by id
	z := html.NewTokenizer(bytes.NewReader(body))
	for {
		switch z.Next() {
		case html.ErrorToken:
			r.settle(owners)
			return
		case html.EndTagToken:
			switch name, _ := z.TagName(); string(name) {
			case "form":
				r.within = -1
			case "select":
				if choice.said {
					r.add(choice.name, choice.value, choice.place)
				}
				choice.name, choice.said = "", false
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			attr := func(key string) (string, bool) { return attribute(&t, key) }
			name, _ := attr("name")
			switch t.Data {
			case "base":
				if href, ok := attr("href"); ok {
					if u, err := r.base.Parse(href); err == nil {
						r.base = u
					}
				}
			case "a", "area", "iframe", "frame":
				href, ok := attr("href")
				if !ok {
					href, ok = attr("src")
				}
				if ok {
					r.link(href)
				}
			case "form":
				r.form(attr)
			case "meta":
				if content, ok := attr("content"); ok {
					r.add(name, content, "")
				}
			case "input":
				value, _ := attr("value")
				if sentByItself(attr) {
					r.field(name, value, attr, owners)
				}
			case "textarea":
				value := ""
				if t.Type == html.StartTagToken && z.Next() == html.TextToken {
					value = strings.TrimPrefix(string(z.Text()), "\n")
				}
				r.field(name, value, attr, owners)
			case "select":
				choice.name, choice.place, choice.first, choice.said = name, r.action(), true, false
			case "option":
				_, selected := attr("selected")
				value, _ := attr("value")
				if choice.name != "" && (choice.first || selected) {
					choice.value, choice.first, choice.said = value, false, true
				}
			}
		}
	}
}

// attribute is the first of the name, which counts in browsers.
func attribute(t *html.Token, key string) (string, bool) {
	for i := range t.Attr {
		if t.Attr[i].Key == key {
			return t.Attr[i].Val, true
		}
	}
	return "", false
}

// sentByItself reports whether a browser sends the input without anybody having
// touched it.
func sentByItself(attr func(string) (string, bool)) bool {
	kind, _ := attr("type")
	_, checked := attr("checked")
	switch strings.ToLower(kind) {
	case "checkbox", "radio":
		return checked
	case "submit", "button", "image", "reset", "file":
		return false
	}
	return true
}

func (r *offerReader) form(attr func(string) (string, bool)) {
	if len(r.forms) >= maxOfferForms {
		r.within = -1
		r.offers.more = true
		return
	}
	id, _ := attr("id")
	action, _ := attr("action")
	place := r.link(action) // the query of an action is sent too, where the form is posted
	r.forms = append(r.forms, offerForm{id: id, place: place})
	r.within = len(r.forms) - 1
}

// action is the place that fields lead to here.
func (r *offerReader) action() string {
	if r.within < 0 {
		return ""
	}
	return r.forms[r.within].place
}

func (r *offerReader) field(name, value string, attr func(string) (string, bool), owners map[int]string) {
	before := len(r.offers.list)
	r.add(name, value, r.action())
	if id, ok := attr("form"); ok && len(r.offers.list) > before {
		owners[before] = id
	}
}

// settle gives fields that name their form its place.
func (r *offerReader) settle(owners map[int]string) {
	for at, id := range owners {
		for _, f := range r.forms {
			if f.id == id {
				r.offers.list[at].place = f.place
				break
			}
		}
	}
}
