package config

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/rule"
)

// hideSecrets marks what no excerpt may show: the value of every variable, of
// every key that the format does not know (it may be a misspelt one), of every
// anchor (an alias may take it anywhere), keys that look like a key and a value
// run together, what stands in macro requests behind the first line, and
// comments. It looks at the tree before anything is decoded, so that a mistake
// anywhere in the file cannot bring a password out.
func hideSecrets(t *text, root *yaml.Node) {
	h := hider{text: t, known: knownKeys()}
	h.collect(root, false, "")
	for n, line := range t.lines {
		if at := commentIn(line); at >= 0 {
			t.hide(place{n + 1, utf8.RuneCountInString(line[:at]) + 1}, place{n + 2, 1})
		}
	}
	for i, s := range h.scalars {
		if !s.secret && !s.request {
			continue
		}
		end := place{len(t.lines) + 1, 1}
		if i+1 < len(h.scalars) {
			end = place{h.scalars[i+1].n.Line, h.scalars[i+1].n.Column}
		}
		if s.secret {
			t.hide(place{s.n.Line, s.n.Column}, end)
		} else {
			t.hideRequest(s.n, end)
		}
	}
}

// knownKeys are those whose values may be shown. A proxy's URL may hold its
// password.
func knownKeys() map[string]bool {
	known := make(map[string]bool)
	for _, keys := range tables() {
		for _, key := range keys {
			known[key.name] = !slices.Contains([]string{"variables", "identities", "proxy", "password", "proxy_password"}, key.name)
		}
	}
	return known
}

// containers are keys that hold mappings. A text right below one is something
// that went wrong: `- request:POST …` without the blank is one text.
func containers() []string {
	return []string{"", "macros", "steps", "extract", "rules", "scope", "validation", "check_type", "confirm", "probe", "proactive",
		"token_updates", "actions", "set_header", "set_param", "check_session", "use_cookies", "if_invalid", "source", "params", "lockout", "limits", "listen",
		"cookie_jar", "upstream", "resolve", "origins", "certificate", "timeouts", "throttle", "history"}
}

// commentIn is where a comment may begin, -1 when none does. A # inside of
// quotes is taken for one too: then a little more is hidden.
func commentIn(line string) int {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return i
		}
	}
	return -1
}

// keyLike reports whether a key can be shown: `{PASS hunter2}` is a key without
// a value.
func keyLike(key string) bool {
	for _, c := range []byte(key) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			return false
		}
	}
	return key != "" && len(key) <= 64
}

// keyItself is said of a key instead of the key that it is below of.
const keyItself = "a key"

type hider struct {
	text    *text
	known   map[string]bool
	scalars []hidden // every key, value, mapping and list in the order of the file
}

type hidden struct {
	n               *yaml.Node
	secret, request bool
}

func (h *hider) collect(n *yaml.Node, secret bool, key string) {
	secret = secret || n.Anchor != ""
	leaf := n.Kind == yaml.ScalarNode || n.Kind == yaml.AliasNode
	if slices.Contains(containers(), key) && leaf {
		secret = true
	}
	h.scalars = append(h.scalars, hidden{n: n, secret: leaf && secret, request: leaf && !secret && key == "request"})
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			h.collect(c, secret, key)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		h.collect(k, k.Kind != yaml.ScalarNode || !keyLike(k.Value), keyItself)
		hides := k.Value == "value" && (key == rule.ActionSetHeader || key == rule.ActionSetParam)
		h.collect(v, secret || hides || !h.known[k.Value] && key != "params", k.Value)
	}
}

// hide hides from one place to another, the end and the punctuation in front
// of it excluded.
func (t *text) hide(from, to place) {
	for line := from.line; line <= min(to.line, len(t.lines)); line++ {
		s := stretch{0, utf8.RuneCountInString(t.line(line))}
		if line == from.line {
			s.from = from.column - 1
		}
		if line == to.line {
			runes := []rune(t.line(line))
			s.to = beforePunctuation(runes, s.from, to.column-1)
		}
		if s.to > s.from {
			t.secret[line] = append(t.secret[line], s)
		}
	}
}

// beforePunctuation is where what ends in front of to ends without the YAML
// punctuation there.
func beforePunctuation(runes []rune, from, to int) int {
	to = min(to, len(runes))
	for to > from && strings.ContainsRune(" \t,:-}{][", runes[to-1]) {
		to--
	}
	return to
}

// plainTarget is how many characters of a request line can be shown: up to a
// query, to credentials in front of an @, and to anything else that paths
// seldom hold.
func plainTarget(line string) int {
	if scheme, _, ok := strings.Cut(line, "://"); ok && strings.Contains(line, "@") {
		return utf8.RuneCountInString(scheme)
	}
	n := strings.IndexFunc(line, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" /:.-_{}\t", r))
	})
	if n < 0 {
		return utf8.RuneCountInString(line)
	}
	return n // all in front of it is ASCII
}

// hideRequest hides a request except the beginning of its first line. The
// variables in it are not secret, so they stay: a mistake is mostly there.
func (t *text) hideRequest(n *yaml.Node, to place) {
	from := place{n.Line, n.Column}
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		from = place{n.Line + 1, 1}
	}
	first := []rune(t.line(from.line))
	begin := min(max(from.column-1, 0), len(first))
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		begin = min(begin+1, len(first))
	}
	visible := begin + plainTarget(string(first[begin:]))
	t.hideAround(place{from.line, visible + 1}, to)
}

// hideAround hides from one place to another except {{…}}, with the
// indentation of each line.
func (t *text) hideAround(from, to place) {
	for line := from.line; line <= min(to.line, len(t.lines)); line++ {
		runes := []rune(t.line(line))
		start, end := 0, len(runes)
		if line == from.line {
			start = from.column - 1
		}
		if line == to.line {
			end = beforePunctuation(runes, start, to.column-1)
		}
		for start < end && (runes[start] == ' ' || runes[start] == '\t') {
			start++
		}
		for start < end {
			open, after := variableIn(runes, start, end)
			if open > start {
				t.secret[line] = append(t.secret[line], stretch{start, open})
			}
			start = after
		}
	}
}

// variableText is {{NAME}} with anything that could be meant as a name.
var variableText = regexp.MustCompile(`\{\{[A-Za-z0-9_.: \t-]*\}\}`)

// variableIn is where the next variable begins and ends; both are end when
// there is none.
func variableIn(runes []rune, from, end int) (open, after int) {
	s := string(runes[from:end])
	at := variableText.FindStringIndex(s)
	if at == nil {
		return end, end
	}
	return from + utf8.RuneCountInString(s[:at[0]]), from + utf8.RuneCountInString(s[:at[1]])
}
