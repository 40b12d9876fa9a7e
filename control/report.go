package control

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/wire"
)

// maxShown is how much of a body a report shows, in bytes.
const maxShown = 4 << 10

// MacroReport is what a run of a macro sent, got and took: the JSON shape of
// version 1.
type MacroReport struct {
	Version  int               `json:"v"`
	Macro    string            `json:"macro"`
	Identity string            `json:"identity,omitempty"`
	OK       bool              `json:"ok"`
	Failed   *MacroFailure     `json:"failed,omitempty"`
	Requests []MacroExchange   `json:"requests"`
	Values   map[string]string `json:"values"` // that the macro brought
}

// MacroFailure is the step that failed.
type MacroFailure struct {
	Step    int    `json:"step"`
	Kind    string `json:"kind"`
	Want    string `json:"want"`
	Got     string `json:"got"`
	Message string `json:"message"`
}

// MacroExchange is one request of a macro and its answer.
type MacroExchange struct {
	Step      int               `json:"step"`
	URL       string            `json:"url"` // without its query
	Sent      string            `json:"sent" foreign:"text"`
	Got       string            `json:"got" foreign:"text"`
	BodyBytes int               `json:"body_bytes"`
	Millis    float64           `json:"ms"`
	Cookies   []string          `json:"cookies"` // sent
	Sets      []string          `json:"sets_cookies"`
	Extracted map[string]string `json:"extracted"`
}

// ReportMacro says what a run of a macro sent, got and took. What it was given and
// what it brought is secret, and so is what looks like it, or is called so: it is
// shown as ***, unless reveal is set. known are the values of variables and tokens
// that it had, steps those that were answered; failed is nil where none failed.
func ReportMacro(known []string, name, identity string, inputs map[string]string, steps []macro.StepResult, failed *macro.StepError, reveal bool) *MacroReport {
	h := &hider{reveal: reveal}
	r := &MacroReport{Version: 1, Macro: name, Identity: identity, OK: failed == nil, Requests: []MacroExchange{}, Values: map[string]string{}}
	for _, value := range known {
		if !strings.Contains(value, "://") { // an origin's address is no secret
			h.secret(value)
		}
	}
	for _, value := range inputs {
		h.secret(value)
	}
	for i := range steps {
		h.learn(&steps[i])
	}
	for i := range steps {
		x := h.exchange(&steps[i])
		for token, value := range x.Extracted {
			r.Values[token] = value
		}
		r.Requests = append(r.Requests, x)
	}
	if failed != nil {
		r.Failed = &MacroFailure{failed.Step, failed.Kind.String(), failed.Want, h.report(failed.Got), h.report(failed.Error())}
	}
	return r
}

// hider takes secrets out of what is shown.
type hider struct {
	reveal   bool
	values   []string
	replacer *strings.Replacer // of values; nil: not made yet
}

func (h *hider) secret(value string) {
	if len(value) < 3 {
		return
	}
	for _, form := range []string{value, url.QueryEscape(value), url.PathEscape(value), strings.ReplaceAll(url.QueryEscape(value), "+", "%20"),
		base64.StdEncoding.EncodeToString([]byte(value))} {
		if !slices.Contains(h.values, form) {
			h.values, h.replacer = append(h.values, form), nil
		}
	}
}

// learn notes the tokens and cookies of a step.
func (h *hider) learn(s *macro.StepResult) {
	for _, value := range s.Values {
		h.secret(value)
	}
	each(&s.Flow.Request.Head, "Cookie", func(value string) {
		for _, c := range jar.Pairs(value) {
			h.secret(c.Value)
		}
	})
	each(&s.Response.Head, "Set-Cookie", func(value string) {
		pair, _, _ := strings.Cut(value, ";")
		_, content, _ := strings.Cut(pair, "=")
		h.secret(strings.TrimSpace(content))
	})
}

func each(head *wire.Head, name string, do func(value string)) {
	for i := range head.NumFields() {
		if n, v := head.Field(i); strings.EqualFold(string(n), name) {
			do(string(v))
		}
	}
}

func (h *hider) hide(text string) string {
	if h.reveal {
		return text
	}
	return withoutTokens(h.replace(text))
}

// report is hide for a text of an application: what is called a credential in it
// is one, such as what a person was asked for.
func (h *hider) report(text string) string {
	if h.reveal {
		return text
	}
	return h.hide(withoutNamed(text))
}

// replace hides the values that are known. The longest goes first: it may begin
// with another.
func (h *hider) replace(text string) string {
	if len(h.values) == 0 {
		return text
	}
	if h.replacer == nil {
		values := slices.Clone(h.values)
		slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
		pairs := make([]string, 0, 2*len(values))
		for _, v := range values {
			pairs = append(pairs, v, hiddenValue)
		}
		h.replacer = strings.NewReplacer(pairs...)
	}
	return h.replacer.Replace(text)
}

// minToken is how long a word is that looks like a token, in bytes.
const minToken = 16

// withoutTokens hides words that look like tokens: long, with letters and digits.
func withoutTokens(text string) string {
	var out strings.Builder
	at := 0 // up to where text was taken over
	for i := 0; i < len(text); i++ {
		begin, letters, digits := i, false, false
		for ; i < len(text); i++ {
			c := text[i]
			switch {
			case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
				letters = true
			case c >= '0' && c <= '9':
				digits = true
			case c == '+' || c == '/' || c == '_' || c == '=' || c == '~' || c == '%' || c == '.' || c == '-':
			default:
				c = 0
			}
			if c == 0 {
				break
			}
		}
		if i-begin >= minToken && letters && digits && text[begin] != '/' {
			out.WriteString(text[at:begin])
			out.WriteString(hiddenValue)
			at = i
		}
	}
	if at == 0 {
		return text
	}
	out.WriteString(text[at:])
	return out.String()
}

func (h *hider) exchange(s *macro.StepResult) MacroExchange {
	x := MacroExchange{Step: s.Step, URL: s.Flow.Origin.URL([]byte(h.hide(string(s.Flow.Request.Path())))), BodyBytes: len(s.Body),
		Millis: float64(s.Flow.Ended.Sub(s.Flow.Start).Microseconds()) / 1000, Cookies: []string{}, Sets: []string{}, Extracted: map[string]string{}}
	x.Sent = h.report(message(s.Flow.Request.Bytes(), s.Sent))
	x.Got = h.report(message(s.Response.Bytes(), s.Body))
	each(&s.Flow.Request.Head, "Cookie", func(value string) {
		for _, c := range jar.Pairs(value) {
			x.Cookies = append(x.Cookies, c.Name)
		}
	})
	each(&s.Response.Head, "Set-Cookie", func(value string) {
		name, _, _ := strings.Cut(value, "=")
		x.Sets = append(x.Sets, strings.TrimSpace(name))
	})
	for token, value := range s.Values {
		if !h.reveal {
			value = "***"
		}
		x.Extracted[token] = value
	}
	return x
}

// message is a head and the beginning of a body, as text.
func message(head, body []byte) string {
	text := strings.ReplaceAll(string(head), "\r\n", "\n")
	more := ""
	if len(body) > maxShown {
		more = fmt.Sprintf("\n… (%d bytes)", len(body))
		body = body[:maxShown]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return '·' // what a terminal would obey
		}
		return r
	}, strings.ToValidUTF8(text+string(body)+more, "·"))
}

// VariablesOf are the variables of the file of an identity; "" is the first.
func VariablesOf(file *config.File, identity string) map[string]string {
	all := make(map[string]string)
	for name, value := range file.Variables {
		all[name] = value
	}
	if identity == "" && len(file.Order) > 0 {
		identity = file.Order[0]
	}
	for name, value := range file.Identities[identity].Variables {
		all[name] = value
	}
	return all
}
