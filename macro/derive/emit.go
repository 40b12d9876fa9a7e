package derive

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/rule"
)

// emit writes the steps of what is needed, and why the rest is not.
func (d *deriver) emit() {
	steps := make(map[*item]int)
	for _, it := range d.items {
		if it.needed {
			steps[it] = len(steps) + 1
			continue
		}
		d.draft.Dropped = append(d.draft.Dropped, Dropped{Entry: it.x.Entry, Method: it.req.method, URL: shown(it.x.URL), Reason: d.dropReason(it)})
	}
	d.origins()
	taken := make(map[string]bool)
	for name := range d.variables {
		taken[name] = true
	}
	for _, it := range d.items {
		if it.needed {
			d.nameTokens(it, taken)
		}
	}
	for _, it := range d.items {
		if it.needed {
			d.open(it, steps[it], taken)
			d.draft.Steps = append(d.draft.Steps, d.step(it, steps))
		}
	}
	d.products(steps, taken)
	for _, f := range d.sources {
		if n := steps[d.items[f.item]]; n > 0 && f.token != "" {
			s := &d.draft.Steps[n-1]
			if !slices.ContainsFunc(s.Extract, func(x Extraction) bool { return x.Token == f.token }) {
				s.Extract = append(s.Extract, Extraction{Token: f.token, Source: f.source.Source, Places: f.places})
			}
		}
	}
	used := make(map[string]bool)
	for _, s := range d.draft.Steps {
		for _, u := range s.Uses {
			used[u.Token] = true
		}
	}
	for _, v := range d.order {
		if used[v.Name] || v.Name == "BRACES" {
			d.draft.Variables = append(d.draft.Variables, v)
		}
	}
}

// origins makes a variable of each origin that a step goes to.
func (d *deriver) origins() {
	var all []Variable
	for _, it := range d.items {
		if !it.needed || slices.ContainsFunc(all, func(v Variable) bool { return v.Value == it.req.origin }) {
			continue
		}
		name := "BASE"
		if len(all) > 0 {
			name += strconv.Itoa(len(all) + 1)
		}
		all = append(all, Variable{Name: name, Value: it.req.origin, Why: "an origin"})
		d.variables[name] = it.req.origin
	}
	d.order = append(all, d.order...)
	longest := slices.SortedFunc(slices.Values(all), func(a, b Variable) int { return cmp.Compare(len(b.Value), len(a.Value)) })
	for _, it := range d.items {
		if !it.needed {
			continue
		}
		for n := range it.req.slots {
			for _, v := range longest {
				it.replaceOrigin(&it.req.slots[n], v)
			}
		}
	}
}

// replaceOrigin puts the variable where a text holds the origin as the beginning
// of a URL.
func (it *item) replaceOrigin(s *slot, v Variable) {
	for at := 0; ; {
		i := strings.Index(s.text[at:], v.Value)
		if i < 0 {
			return
		}
		from, to := at+i, at+i+len(v.Value)
		at = to
		ends := to == len(s.text) || strings.IndexByte("/?#&\"' ,;", s.text[to]) >= 0
		if ends && !it.covered(s, from, to) {
			it.put(edit{slot: s, variable: v.Name, encoding: pathEncoding(s)}, from, to)
		}
	}
}

func (d *deriver) nameTokens(it *item, taken map[string]bool) {
	for _, e := range it.edits {
		if e.source == nil || e.source.token != "" {
			continue
		}
		called := e.source.source.called
		if called == "" || called == "location" || called == "value" || called == "content" {
			called = e.slot.name
		}
		e.source.token = freeName(tokenName(called), taken)
	}
}

func freeName(name string, taken map[string]bool) string {
	free := name
	for n := 2; taken[free]; n++ {
		free = name + "_" + strconv.Itoa(n)
	}
	taken[free] = true
	return free
}

// step writes one request as a template.
func (d *deriver) step(it *item, steps map[*item]int) Step {
	s := Step{Entry: it.x.Entry, Name: it.req.method + " " + shown(it.req.target), Expect: d.expect(it), Cookies: it.sets, Secret: it.secret}
	if len(s.Name) > 80 {
		s.Name = strings.ToValidUTF8(s.Name[:80], "") + "…"
	}
	for _, e := range it.edits {
		switch {
		case e.variable != "":
			from := "variable"
			if slices.Contains(macro.MadeUp(), e.variable) {
				from = "made up for each run"
			}
			s.Uses = append(s.Uses, Use{Place: e.slot.label, Token: e.variable, From: from})
		case e.source != nil:
			from := stepOf(steps[d.items[e.source.item]])
			s.Uses = append(s.Uses, Use{Place: e.slot.label, Token: e.source.token, From: from + ", " + e.source.source.String()})
			e.source.places = append(e.source.places, stepOf(steps[it])+", "+e.slot.label)
		}
	}
	base := ""
	for name, value := range d.variables {
		if value == it.req.origin && strings.HasPrefix(name, "BASE") {
			base = name
		}
	}
	s.Uses = append(s.Uses, Use{Place: "origin", Token: base, From: "variable"})
	var b strings.Builder
	b.WriteString(it.req.method + " {{" + base + "}}" + d.apply(it, partTarget, it.req.target) + " HTTP/1.1\n")
	for n, line := range it.req.fields {
		b.WriteString(d.apply(it, partField+n, line) + "\n")
	}
	if cookies := d.cookieLine(it); cookies != "" {
		b.WriteString("Cookie: " + cookies + "\n")
	}
	switch {
	case it.req.binary:
		d.draft.note("entry %d: its body is no text and cannot stand in a macro; the step sends none", it.x.Entry)
	case it.req.body != "":
		b.WriteString("\n" + d.apply(it, partBody, it.req.body) + "\n")
	}
	s.Request = b.String()
	return s
}

// cookieLine are the cookies that a script set.
func (d *deriver) cookieLine(it *item) string {
	var all []string
	for _, e := range it.edits {
		if e.slot.part >= 0 {
			continue
		}
		value := d.literal(e.slot.raw)
		if e.source != nil {
			value = "{{" + e.encoding + e.source.token + "}}"
		}
		all = append(all, e.slot.name+"="+value)
	}
	return strings.Join(all, "; ")
}

// apply puts the variables into a part of the request.
func (d *deriver) apply(it *item, part int, text string) string {
	var edits []edit
	for _, e := range it.edits {
		if e.slot.part == part {
			edits = append(edits, e)
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, e := range edits {
		name := e.variable
		if e.source != nil {
			name = e.source.token
		}
		encoding := e.encoding
		if encoding == "" && e.source != nil {
			encoding = pathEncoding(e.slot)
		}
		b.WriteString(d.literal(text[at:e.from]) + "{{" + encoding + name + "}}")
		at = e.to
	}
	b.WriteString(d.literal(text[at:]))
	return b.String()
}

// literal is a recorded text as it stands in a template: one that looks like a
// variable there is taken apart.
func (d *deriver) literal(text string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	if t, err := rule.ParseTemplate(text); err == nil && len(t.Names()) == 0 {
		return text
	}
	d.variable("BRACES", "{{", false, "two braces that are text")
	return strings.ReplaceAll(text, "{{", "{{raw:BRACES}}")
}

// expect is what the answer must be like: as it was recorded, as far as it tells
// a login that worked from one that did not.
func (d *deriver) expect(it *item) string {
	if it.x.Response == nil {
		return ""
	}
	status := it.x.Response.Status()
	if status == 304 {
		return "resp.code.lt:400"
	}
	text := "resp.code.eq:" + strconv.Itoa(status)
	switch {
	case status/100 == 3 && it.location != "":
		u, err := url.Parse(it.location)
		if err != nil || u.Path == "" || u.Path == "/" || samePlace(withoutQuery(it.location), withoutQuery(it.x.URL)) {
			return text
		}
		path := u.EscapedPath()
		for i, segment := range strings.Split(path, "/") {
			if looksMade(segment) {
				path = strings.Join(strings.Split(path, "/")[:i], "/")
				break
			}
		}
		location, _ := it.x.Response.Get("Location")
		if path != "" && strings.Contains(string(location), path) {
			text += " AND resp.redirect.cont:" + quote(path)
		}
	case it.secret && status/100 == 2 && it.answer != nil && it.answer.html && !strings.Contains(strings.ToLower(string(it.answer.body)), `type="password"`):
		text += ` AND resp.body.ncont:"type=\"password\""`
	}
	return text
}

func quote(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		return `""` // a string can always be written
	}
	return string(raw)
}

// open lists what looks made in a request and comes from nowhere, and makes
// variables of it where that is wanted.
func (d *deriver) open(it *item, step int, taken map[string]bool) {
	for n := range it.req.slots {
		s := &it.req.slots[n]
		if constant(s.name) || s.label == "header:user-agent" {
			continue
		}
		listed := false
		if d.options.Hide && isTokenName(s.name) && s.text != "" && !it.touched(s) {
			d.hide(it, s, 0, len(s.text), taken)
			d.draft.Open = append(d.draft.Open, Open{Entry: it.x.Entry, Step: step, Place: s.label, Why: "no earlier answer brought it"})
		}
		for at := 0; at < len(s.text); {
			from, to := nextWord(s.text, at)
			if from < 0 {
				break
			}
			at = to
			word := s.text[from:to]
			if !looksMade(word) || it.covered(s, from, to) {
				continue
			}
			why := "no earlier answer brought it; a script may have made it, or it is a constant"
			if seconds, err := strconv.ParseInt(word[:min(len(word), 10)], 10, 64); err == nil && (len(word) == 10 || len(word) == 13) && !it.x.Time.IsZero() {
				if difference := it.x.Time.Unix() - seconds; difference > -86400 && difference < 86400 {
					why = "it looks like the time of the recording"
				}
			}
			if !listed {
				d.draft.Open = append(d.draft.Open, Open{Entry: it.x.Entry, Step: step, Place: s.label, Why: why})
				listed = true
			}
			if !d.options.Hide {
				break
			}
			d.hide(it, s, from, to, taken)
		}
	}
}

// hide makes a secret variable of a stretch of a place.
func (d *deriver) hide(it *item, s *slot, from, to int, taken map[string]bool) {
	value := s.text[from:to]
	for _, v := range d.order {
		if v.Value == value && v.Secret {
			it.put(edit{slot: s, variable: v.Name, encoding: pathEncoding(s)}, from, to)
			return
		}
	}
	name := freeName("RECORDED_"+tokenName(s.name), taken)
	d.variable(name, value, true, "as it was recorded")
	it.put(edit{slot: s, variable: name, encoding: pathEncoding(s)}, from, to)
}

// constant are names whose values belong to the client and not to the session.
func constant(name string) bool {
	switch plainName(name) {
	case "clientid", "redirecturi", "scope", "responsetype", "returnurl", "returnto", "next", "service", "realm", "audience", "resource", "appid", "referer", "origin":
		return true
	}
	return false
}

// products are the tokens that the login brought for later requests: those that
// later requests of the recording carry, and those whose names say so.
func (d *deriver) products(steps map[*item]int, taken map[string]bool) {
	first, _ := d.logins()
	last := -1
	for j, it := range d.items {
		if it.needed {
			last = j
		}
	}
	for _, it := range d.items[last+1:] {
		if it.noise != "" {
			continue
		}
		for _, e := range it.edits {
			if e.source == nil || steps[d.items[e.source.item]] == 0 || e.source.item < first {
				continue
			}
			if e.source.token == "" {
				e.source.token = freeName(tokenName(e.source.source.called), taken)
			}
			d.product(Product{Token: e.source.token, Step: steps[d.items[e.source.item]], Source: e.source.source.String(),
				Place: e.slot.label, Template: templateOf(&e)})
		}
	}
	for j, it := range d.items {
		if !it.needed || it.answer == nil || j < first {
			continue
		}
		for i := range it.answer.offers {
			o := &it.answer.offers[i]
			if o.rank != rankJSON || len(o.source.Decode) > 0 || !isTokenName(o.name) || !looksMade(o.value) {
				continue
			}
			f := d.sourceAt(j, o)
			if f == nil {
				continue
			}
			if f.token == "" {
				f.token = freeName(tokenName(o.name), taken)
			}
			d.product(Product{Token: f.token, Step: steps[it], Source: f.source.String()})
		}
	}
}

// sourceAt is the source of an offer, which may be in use already.
func (d *deriver) sourceAt(j int, o *offer) *found {
	source, ok := d.items[j].answer.check(o.source, o.value)
	if !ok {
		return nil
	}
	for _, f := range d.sources {
		if f.item == j && f.source.String() == source.String() {
			return f
		}
	}
	f := &found{item: j, source: sourceOf{source, o.name}}
	d.sources = append(d.sources, f)
	return f
}

func (d *deriver) product(p Product) {
	for i := range d.draft.Products {
		if known := &d.draft.Products[i]; known.Token == p.Token && (known.Place == p.Place || p.Place == "") {
			return
		}
	}
	d.draft.Products = append(d.draft.Products, p)
}

// templateOf is the text of a place with its token for the value.
func templateOf(e *edit) string {
	if e.slot.part < 0 {
		return fmt.Sprintf("{{%s%s}}", e.encoding, e.source.token)
	}
	from, to := e.from-e.slot.from, e.to-e.slot.from
	return e.slot.raw[:from] + "{{" + e.encoding + e.source.token + "}}" + e.slot.raw[to:]
}
