package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/jar"
	"github.com/holdfast-proxy/holdfast/macro"
	"github.com/holdfast-proxy/holdfast/wire"
)

// maxShown is how much of a body macro test shows, in bytes.
const maxShown = 4 << 10

func macroTestCommand() *cobra.Command {
	o := &deriveOptions{}
	var identity string
	var inputs []string
	var reveal bool
	cmd := &cobra.Command{
		Use:   "test -c FILE NAME",
		Short: "Run a macro once and show what each step sent, got and took",
		Long: `Run a macro once and show what each step sent, got and took from the answer.
It is really sent, with a jar of its own; nothing of it is kept, and a failure
does not count for the lockout. Only a one-time code is used up.

Values of variables, tokens and cookies, and what looks like one, are shown as
***; --reveal shows them. Exit code 1: a step failed.`,
		Example: "  holdfast macro test -c shop.yaml login\n  holdfast macro test -c shop.yaml login --identity bob --input OTP=123456 --json",
		Args:    needs("the name of a macro", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, c, err := o.try(cmd, args[0], identity, inputs)
			steps, failed := outcomeOf(result, err)
			if err != nil && failed == nil {
				return err
			}
			r := testReport(args[0], identity, steps, failed, &hider{reveal: reveal}, c.File, inputs)
			if o.asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				if err := enc.Encode(r); err != nil {
					return err
				}
			} else {
				r.print(cmd.OutOrStdout())
			}
			if failed != nil {
				return exitCode(exitError)
			}
			return nil
		},
	}
	o.addWays(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "configuration file with the macro")
	f.StringVar(&identity, "identity", "", "`identity` that the macro runs for (default the one that requests speak for which name none)")
	f.StringArrayVar(&inputs, "input", nil, "a value for an input of the macro, or for a variable, as `NAME=VALUE`; may be repeated")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	f.BoolVar(&reveal, "reveal", false, "show values, passwords and tokens too")
	return cmd
}

// try runs a macro of the configuration.
func (o *deriveOptions) try(cmd *cobra.Command, name, identity string, inputs []string) (*macro.Result, holdfast.Config, error) {
	if o.file == "" {
		return nil, holdfast.Config{}, usageError{errors.New(strings.TrimPrefix(cmd.CommandPath(), "holdfast ") + " needs -c FILE")}
	}
	given, err := assignments("--input", inputs)
	if err != nil {
		return nil, holdfast.Config{}, err
	}
	o.ask = terminalAsker(cmd)
	c, err := o.config(cmd)
	if err != nil {
		return nil, c, err
	}
	if c.Store, err = openProject(cmd); err != nil { // for the one-time codes that were used
		return nil, c, err
	}
	defer c.Store.Close()
	result, err := holdfast.TryMacro(cmd.Context(), c, name, identity, given)
	return result, c, err
}

// outcomeOf is what was answered, and the step that failed; nil where none did.
func outcomeOf(result *macro.Result, err error) ([]macro.StepResult, *macro.StepError) {
	var failed *macro.StepError
	if errors.As(err, &failed) {
		return failed.Steps, failed
	}
	if result == nil {
		return nil, nil
	}
	return result.Steps, nil
}

// again runs a macro and derives it anew from what was sent and answered.
func (o *deriveOptions) again(cmd *cobra.Command, name, identity string, inputs []string) error {
	result, c, err := o.try(cmd, name, identity, inputs)
	steps, failed := outcomeOf(result, err)
	if err != nil && failed == nil {
		return err
	}
	var exchanges []convert.Exchange
	for i := range steps {
		s := &steps[i]
		x, err := convert.Of(strings.TrimSuffix(s.Flow.Origin.URL(nil), "/"), s.Flow.Request, s.Sent, s.Response, nil)
		if err != nil {
			return err
		}
		x.Entry, x.Time, x.ResponseBody = i+1, s.Flow.Start, s.Body
		exchanges = append(exchanges, x)
	}
	for variable, value := range variablesOf(c.File, identity) {
		if !strings.Contains(value, "://") && !slices.ContainsFunc(o.values, func(v string) bool { return strings.HasPrefix(v, variable+"=") }) {
			o.values = append(o.values, variable+"="+value)
		}
	}
	o.all = true
	if failed != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %v\n", failed)
	}
	if len(exchanges) == 0 {
		return exitCode(exitError)
	}
	return o.report(cmd.Context(), cmd, exchanges, nil)
}

// variablesOf are the variables of an identity; "" is the first.
func variablesOf(file *config.File, identity string) map[string]string {
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

// macroReport is the JSON shape of macro test, version 1.
type macroReport struct {
	Version  int               `json:"v"`
	Macro    string            `json:"macro"`
	Identity string            `json:"identity,omitempty"`
	OK       bool              `json:"ok"`
	Failed   *macroFailure     `json:"failed,omitempty"`
	Requests []macroExchange   `json:"requests"`
	Values   map[string]string `json:"values"` // that the macro brought
}

type macroFailure struct {
	Step    int    `json:"step"`
	Kind    string `json:"kind"`
	Want    string `json:"want"`
	Got     string `json:"got"`
	Message string `json:"message"`
}

type macroExchange struct {
	Step      int               `json:"step"`
	URL       string            `json:"url"` // without its query
	Sent      string            `json:"sent"`
	Got       string            `json:"got"`
	BodyBytes int               `json:"body_bytes"`
	Millis    float64           `json:"ms"`
	Cookies   []string          `json:"cookies"` // sent
	Sets      []string          `json:"sets_cookies"`
	Extracted map[string]string `json:"extracted"`
}

func testReport(name, identity string, steps []macro.StepResult, failed *macro.StepError, h *hider, file *config.File, inputs []string) macroReport {
	r := macroReport{Version: 1, Macro: name, Identity: identity, OK: failed == nil, Requests: []macroExchange{}, Values: map[string]string{}}
	for _, value := range variablesOf(file, identity) {
		if !strings.Contains(value, "://") { // an origin's address is no secret
			h.secret(value)
		}
	}
	given, _ := assignments("", inputs) // has been read before
	for _, value := range given {
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
		r.Failed = &macroFailure{failed.Step, failed.Kind.String(), failed.Want, h.hide(failed.Got), h.hide(failed.Error())}
	}
	return r
}

// hider takes secrets out of what is shown.
type hider struct {
	reveal bool
	values []string
}

func (h *hider) secret(value string) {
	if len(value) < 3 {
		return
	}
	for _, form := range []string{value, url.QueryEscape(value), url.PathEscape(value), strings.ReplaceAll(url.QueryEscape(value), "+", "%20"),
		base64.StdEncoding.EncodeToString([]byte(value))} {
		if !slices.Contains(h.values, form) {
			h.values = append(h.values, form)
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

// tokenLike is a word that looks like a token: long, with letters and digits.
var tokenLike = regexp.MustCompile(`[A-Za-z0-9+/_=~%.-]{16,}`)

func (h *hider) hide(text string) string {
	if h.reveal {
		return text
	}
	values := slices.Clone(h.values)
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, v := range values {
		pairs = append(pairs, v, "***")
	}
	text = strings.NewReplacer(pairs...).Replace(text)
	return tokenLike.ReplaceAllStringFunc(text, func(word string) string {
		letters := strings.ContainsAny(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
		if letters && strings.ContainsAny(word, "0123456789") && !strings.Contains(word, "***") && !strings.HasPrefix(word, "/") {
			return "***"
		}
		return word
	})
}

func (h *hider) exchange(s *macro.StepResult) macroExchange {
	x := macroExchange{Step: s.Step, URL: s.Flow.Origin.URL([]byte(h.hide(string(s.Flow.Request.Path())))), BodyBytes: len(s.Body),
		Millis: float64(s.Flow.Ended.Sub(s.Flow.Start).Microseconds()) / 1000, Cookies: []string{}, Sets: []string{}, Extracted: map[string]string{}}
	x.Sent = h.hide(message(s.Flow.Request.Bytes(), s.Sent))
	x.Got = h.hide(message(s.Response.Bytes(), s.Body))
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

func (r *macroReport) print(w io.Writer) {
	for _, x := range r.Requests {
		fmt.Fprintf(w, "step %d  %s  %.1f ms\n", x.Step, x.URL, x.Millis)
		indent(w, "  > ", x.Sent)
		indent(w, "  < ", x.Got)
		names := make([]string, 0, len(x.Extracted))
		for name := range x.Extracted {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(w, "  took %s = %s\n", name, x.Extracted[name])
		}
		if len(x.Sets) > 0 {
			fmt.Fprintf(w, "  cookies set: %s\n", strings.Join(x.Sets, ", "))
		}
		fmt.Fprintln(w)
	}
	if r.Failed != nil {
		fmt.Fprintf(w, "FAILED  %s\n", r.Failed.Message)
		return
	}
	fmt.Fprintf(w, "ok  macro %s: %d requests, %d values\n", r.Macro, len(r.Requests), len(r.Values))
}

func indent(w io.Writer, prefix, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintln(w, strings.TrimRight(prefix+line, " "))
	}
}
