package derive

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/rule"
)

// maxExchanges is how many exchanges of a recording are looked at.
const maxExchanges = 2000

// Options say what a recording cannot. The zero value works.
type Options struct {
	Name string // of the macro; "" is "login"
	// Values are credentials by the name of their variable (USER, PASS, …):
	// each recorded value becomes that variable wherever it stands.
	Values map[string]string
	// Entries are the recorded exchanges to look at; none: all.
	Entries []int
	// KeepAll keeps every request that is not noise.
	KeepAll bool
	// Hide makes secret variables of what else looks like a token and comes from
	// nowhere, so that no request holds it.
	Hide bool
	// force are values that are known to differ from run to run; without are
	// entries that are known not to be needed, with the reason; before until
	// every request is kept.
	force   map[string]bool
	without map[int]string
	until   int
}

// ErrNothing is returned where a recording holds no request that a macro could
// be made of.
var ErrNothing = errors.New("the recording has no request to make a macro of")

// From makes a draft of recorded exchanges, in their order.
func From(exchanges []convert.Exchange, o Options) (*Draft, error) {
	if o.Name == "" {
		o.Name = "login"
	}
	d := &deriver{options: o, draft: &Draft{Name: o.Name}, variables: make(map[string]string), searched: make(map[int]map[string]bool)}
	for i := range exchanges {
		if len(o.Entries) > 0 && !slices.Contains(o.Entries, exchanges[i].Entry) {
			continue
		}
		if len(d.items) >= maxExchanges {
			d.draft.note("only the first %d requests were looked at", maxExchanges)
			break
		}
		d.items = append(d.items, newItem(&exchanges[i]))
	}
	if len(d.items) == 0 {
		return nil, ErrNothing
	}
	d.noise()
	d.credentials()
	d.cookies()
	for j := range d.items {
		if d.items[j].noise == "" || d.items[j].secret {
			d.derive(j)
		}
	}
	d.choose()
	d.emit()
	if len(d.draft.Steps) == 0 {
		return nil, ErrNothing
	}
	return d.draft, nil
}

// item is one exchange with what is known of it.
type item struct {
	x      *convert.Exchange
	req    *request
	answer *answer // nil: none
	noise  string  // why it is not looked at, or ""
	secret bool    // it carries a credential
	edits  []edit
	// sent are the cookies of the request; brought by which item.
	sent     []sentCookie
	sets     []string // cookies that the answer set
	used     []int    // places of edits that came from answers
	needed   bool
	goal     bool
	reason   string // why it is needed, or not
	location string // where a redirect leads, absolute
}

type sentCookie struct {
	name, value string
	from        int // the item whose answer set it; -1 nobody
}

// edit puts a variable in the place of a stretch of the request.
type edit struct {
	slot     *slot
	from, to int    // in the part's text
	variable string // a credential or the like; "" for a derived one
	source   *found
	encoding string // "", "url:" or "base64:"
}

// found is a place in an earlier answer.
type found struct {
	item   int
	source sourceOf
	token  string // once it was named
	places []string
}

func newItem(x *convert.Exchange) *item {
	it := &item{x: x, req: newRequest(x), answer: answerOf(x)}
	if x.Response != nil && x.Response.Status()/100 == 3 {
		if location, ok := x.Response.Get("Location"); ok {
			it.location = resolve(x.URL, string(location))
		}
	}
	return it
}

// deriver is the making of one draft.
type deriver struct {
	options   Options
	draft     *Draft
	items     []*item
	variables map[string]string // by name
	order     []Variable
	sources   []*found
	// searched is which values were looked for as raw text in vain, by item;
	// scanned is how many bytes that took in all.
	searched map[int]map[string]bool
	scanned  int
}

// maxScannedAll is how many bytes of bodies are searched for raw text in all: a
// long recording has many values, and none of most.
const maxScannedAll = 4 << 30

// cookies finds out which answer set which of the cookies that are sent, as a
// jar keeps them.
func (d *deriver) cookies() {
	j := jar.New(jar.Options{TrustLoopback: true}) // as the client's was
	type holder struct{ domain, path, name string }
	brought := make(map[holder]int)
	// A time for all: what a recording sets it does not outlive.
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, it := range d.items {
		u, ok := jarURL(it.x.URL)
		if !ok {
			continue
		}
		held := j.Cookies(u, now)
		for n := range it.x.Request.NumFields() {
			name, value := it.x.Request.Field(n)
			if !strings.EqualFold(string(name), "Cookie") {
				continue
			}
			for _, c := range jar.Pairs(string(value)) {
				sent := sentCookie{name: c.Name, value: c.Value, from: -1}
				for _, h := range held {
					if h.Name == c.Name {
						sent.from = brought[holder{h.Domain, h.Path, h.Name}]
						break
					}
				}
				it.sent = append(it.sent, sent)
			}
		}
		if it.x.Response == nil {
			continue
		}
		var set [][]byte
		for n := range it.x.Response.NumFields() {
			if name, value := it.x.Response.Field(n); strings.EqualFold(string(name), "Set-Cookie") {
				set = append(set, withoutDates(value))
			}
		}
		changes := j.SetFromResponse(u, set, now, uint64(i+1))
		for _, c := range changes {
			if c.Kind == jar.Added || c.Kind == jar.Updated || c.Kind == jar.Unchanged && c.Cookie.Value != "" {
				brought[holder{c.Cookie.Domain, c.Cookie.Path, c.Cookie.Name}] = i
				it.sets = append(it.sets, c.Cookie.Name)
			}
		}
		// A recording that lacks the Cookie fields, as a sanitized one does,
		// would look as if no cookie mattered.
		if len(it.sent) == 0 {
			for _, h := range held {
				it.sent = append(it.sent, sentCookie{name: h.Name, value: h.Value, from: brought[holder{h.Domain, h.Path, h.Name}]})
			}
		}
	}
}

// withoutDates drops Expires from a Set-Cookie that does not delete: recordings
// are looked at long after.
func withoutDates(field []byte) []byte {
	parts := strings.Split(string(field), ";")
	kept := parts[:1]
	for _, p := range parts[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "Expires") && !strings.Contains(value, "1970") && !strings.Contains(value, "1969") {
			continue
		}
		kept = append(kept, p)
	}
	return []byte(strings.Join(kept, ";"))
}

// derive finds out where the values of one request come from.
func (d *deriver) derive(j int) {
	it := d.items[j]
	for n := range it.req.slots {
		d.deriveSlot(j, &it.req.slots[n])
	}
	for _, c := range it.sent {
		if c.from >= 0 {
			continue
		}
		d.deriveCookie(j, c)
	}
}

// deriveSlot takes the whole of a place from an answer, or else parts of it.
func (d *deriver) deriveSlot(j int, s *slot) {
	it := d.items[j]
	if it.covered(s, 0, len(s.text)) {
		return
	}
	forced := d.options.force[s.text]
	// Of a segment such as page;jsessionid=… the parameter alone is meant.
	matrix := s.path && strings.Contains(s.text, ";")
	if free := !it.touched(s) && !matrix; free && (forced || looksMade(s.text) || s.name != "") && len(s.text) <= maxOffered {
		if f := d.lookup(j, s.text, s.name, s.label, forced); f != nil {
			it.put(edit{slot: s, source: f}, 0, len(s.text))
			return
		}
		if raw := s.raw; raw != s.text && looksMade(raw) && s.at != nil && strings.HasPrefix(s.label, "query:") {
			if f := d.lookup(j, raw, s.name, s.label, false); f != nil {
				it.put(edit{slot: s, source: f, encoding: "raw:"}, 0, len(s.text))
				return
			}
		}
		if plain, ok := unbase64(s.text); ok && len(plain) >= 6 && isText(plain) {
			if f := d.lookup(j, plain, s.name, s.label, false); f != nil && looksMade(plain) {
				it.put(edit{slot: s, source: f, encoding: "base64:"}, 0, len(s.text))
				return
			}
		}
	}
	if it.madeUp(s, d.items[j:]) {
		return
	}
	d.deriveParts(j, s)
}

// deriveParts looks for values of answers inside of a longer text, the longest
// first: a token behind "Bearer ", a state inside of a URL in a parameter.
func (d *deriver) deriveParts(j int, s *slot) {
	it := d.items[j]
	d.deriveOffered(j, s)
	for at := 0; at < len(s.text); {
		from, to := nextWord(s.text, at)
		if from < 0 {
			break
		}
		at = to
		word := s.text[from:to]
		if (from > 0 || to < len(s.text)) && !it.covered(s, from, to) && (looksMade(word) || d.options.force[word] && len(word) > 3) {
			if f := d.lookup(j, word, wordName(s.text, from, s.name), s.label, d.options.force[word]); f != nil {
				it.put(edit{slot: s, source: f}, from, to)
			}
		}
	}
}

// deriveOffered takes the parts of a text that are the whole of what an answer
// offers. These may hold bytes that end a word, such as the "/" of base64 or the
// "|" of a token that begins with a number.
func (d *deriver) deriveOffered(j int, s *slot) {
	it := d.items[j]
	for at := 0; at < len(s.text); {
		from, to := nextRun(s.text, at)
		if from < 0 {
			break
		}
		at = to
		if i := strings.IndexByte(s.text[from:to], '='); i > 0 && from+i+1 < to && !d.offered(j, s.text[from:to]) {
			from += i + 1 // name=value
		}
		run := s.text[from:to]
		if len(run) < len(s.text) && !it.covered(s, from, to) && looksMade(run) && d.offered(j, run) {
			if f := d.lookup(j, run, wordName(s.text, from, s.name), s.label, false); f != nil {
				it.put(edit{slot: s, source: f}, from, to)
			}
		}
	}
}

// offered reports whether an answer before the j-th request has a value at a
// place of its own.
func (d *deriver) offered(j int, value string) bool {
	return slices.ContainsFunc(d.items[:j], func(it *item) bool { return it.answer != nil && len(it.answer.byText[value]) > 0 })
}

// nextRun is the next run of bytes that neither space, quotes nor the separators
// of lists and parameters end.
func nextRun(text string, at int) (from, to int) {
	const ends = " \t\r\n\"'<>,;&?"
	for at < len(text) && strings.IndexByte(ends, text[at]) >= 0 {
		at++
	}
	if at >= len(text) {
		return -1, -1
	}
	to = at
	for to < len(text) && strings.IndexByte(ends, text[to]) < 0 {
		to++
	}
	return at, to
}

// nextWord is the next run of bytes that tokens are made of.
func nextWord(text string, at int) (from, to int) {
	isToken := func(c byte) bool {
		return isWord(c) || c == '-' || c == '.' || c == '~' || c == '+'
	}
	for at < len(text) && !isToken(text[at]) {
		at++
	}
	if at >= len(text) {
		return -1, -1
	}
	to = at
	for to < len(text) && isToken(text[to]) {
		to++
	}
	for to < len(text) && text[to] == '=' && (to+1 == len(text) || text[to+1] == '=') { // padding of base64
		to++
	}
	return at, to
}

// wordName is the name before a word inside of a text, as in name=word.
func wordName(text string, from int, otherwise string) string {
	end := from
	for end > 0 && strings.IndexByte(`="': `, text[end-1]) >= 0 {
		end--
	}
	begin := end
	for begin > 0 && (isWord(text[begin-1]) || text[begin-1] == '-') {
		begin--
	}
	if begin < end && end < from {
		return text[begin:end]
	}
	return otherwise
}

// deriveCookie treats a cookie that no answer set: a script did, from an earlier
// answer, or it was there before the recording began.
func (d *deriver) deriveCookie(j int, c sentCookie) {
	it := d.items[j]
	if looksMade(c.value) || d.options.force[c.value] {
		s := &slot{label: "cookie:" + c.name, name: c.name, part: -1, raw: c.value, text: c.value}
		if f := d.lookup(j, c.value, c.name, s.label, d.options.force[c.value]); f != nil {
			it.edits = append(it.edits, edit{slot: s, source: f})
			return
		}
		if plain, _ := unescape(c.value, true); plain != c.value {
			if f := d.lookup(j, plain, c.name, s.label, false); f != nil {
				it.edits = append(it.edits, edit{slot: s, source: f, encoding: "url:"})
				return
			}
		}
		d.draft.note("cookie %s was there before the recording began and is not sent; if the login needs it, record in a private window", c.name)
		return
	}
	it.edits = append(it.edits, edit{slot: &slot{label: "cookie:" + c.name, name: c.name, part: -1, raw: c.value, text: c.value}})
}

// lookup finds a value in the answers before the j-th request. named allows a
// value that only its name makes likely.
func (d *deriver) lookup(j int, value, name, label string, forced bool) *found {
	if d.isVariable(value) {
		return nil
	}
	var best *found
	bestRank := 0
	made := looksMade(value)
	for i := j - 1; i >= 0; i-- {
		a := d.items[i].answer
		if a == nil || d.items[i].x.Request == nil || len(d.options.without[d.items[i].x.Entry]) > 0 {
			continue
		}
		source, rank, called := a.find(value, name, !made && !forced)
		if source == nil {
			if !made && !forced || len(value) < 12 && !forced {
				continue
			}
			if source = d.search(i, value); source == nil {
				continue
			}
			rank, called = rankStray, name
		}
		// A value of a few letters stands in many places: only one that is
		// called the same is meant.
		if !made && !forced && !(sameName(called, name) && plausible(value, name, rank)) {
			continue
		}
		if d.items[i].noise != "" {
			rank += rankStray
		}
		if best == nil || rank < bestRank {
			best, bestRank = &found{item: i, source: sourceOf{*source, called}}, rank
		}
	}
	if best == nil {
		return nil
	}
	for _, f := range d.sources {
		if f.item == best.item && f.source.String() == best.source.String() {
			return f
		}
	}
	d.sources = append(d.sources, best)
	return best
}

// search looks for a value as raw text in the i-th answer. What was looked for
// there in vain is not looked for again.
func (d *deriver) search(i int, value string) *rule.Source {
	a := d.items[i].answer
	if d.searched[i] == nil {
		d.searched[i] = make(map[string]bool)
	}
	if d.searched[i][value] || len(a.body) == 0 {
		return nil
	}
	if d.scanned > maxScannedAll {
		d.draft.note("the recording is too long to look for every value everywhere; name its entries with the login")
		return nil
	}
	d.scanned += min(len(a.body), maxScanned) * 8 // encodings
	source, ok := a.search(value)
	if !ok {
		d.searched[i][value] = true
		return nil
	}
	return source
}

// plausible reports whether a value that does not look made may be one that an
// application hands out, having the same name in the answer.
func plausible(value, name string, rank int) bool {
	if rank > rankJSON || strings.Contains(value, "://") || strings.HasPrefix(value, "/") {
		return false // what is made in a URL is found by itself
	}
	switch plainName(name) {
	case "clientid", "responsetype", "redirecturi", "scope", "responsemode", "prompt", "locale", "lang", "language", "uilocales", "granttype",
		"codechallengemethod", "theme", "version", "page", "format", "method", "type", "remember", "rememberme", "submit", "action":
		return false
	}
	digits := strings.ContainsAny(value, "0123456789")
	return rank == rankNamed && (len(value) > 1 || digits) || digits && len(value) >= 3
}

func (it *item) put(e edit, from, to int) {
	e.from, e.to = e.slot.span(from, to)
	it.edits = append(it.edits, e)
}

// covered reports whether a stretch of a place has been replaced already.
func (it *item) covered(s *slot, from, to int) bool {
	if s.part < 0 {
		return false
	}
	a, b := s.span(from, to)
	return slices.ContainsFunc(it.edits, func(e edit) bool { return e.slot.part == s.part && e.from < b && a < e.to })
}

func (it *item) touched(s *slot) bool { return it.covered(s, 0, len(s.text)) }

func parseExpect(text string) (*httpql.Query, error) { return httpql.Parse(text) }
