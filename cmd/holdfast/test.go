package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/session"
)

func testCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test FILE…",
		Short: "Try a configuration on recorded exchanges, without a network",
		Long: `Try a configuration on recorded exchanges: which rules apply, whether the answer
is a dead session's, what is put into the request, what is taken from the answer.
Nothing is sent. A file of tests:

  config: shop.yaml                     # relative to this file
  tokens: {access_token: t-1}           # what the identity has
  cases:
    - name: an expired token
      request: |
        GET https://shop.example/api/cart HTTP/1.1
      response: |
        HTTP/1.1 401 Unauthorized
      expect: dead                      # or alive, or untouched: no rule applies
      rules: [shop]
      inject: {"header:authorization": Bearer t-1}

Also: request_file, response_file, har with entry, identity, tool, extract; the
manual describes them. Exit code 0: all is as expected; 1: it is not, or a file
has mistakes; 2: wrong usage.`,
		Example: "  holdfast test shop.test.yaml\n  holdfast test --json tests/*.yaml",
		Args:    needs("a file of tests", cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runTests(cmd, args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// testResult is the JSON shape of one file, version 1.
type testResult struct {
	Version int           `json:"v"`
	File    string        `json:"file"`
	Config  string        `json:"config,omitempty"`
	Passed  int           `json:"passed"`
	Failed  int           `json:"failed"`
	Errors  config.Errors `json:"errors"`
	Cases   []caseResult  `json:"cases"`
}

type caseResult struct {
	Name     string       `json:"name"`
	Line     int          `json:"line"`
	Passed   bool         `json:"passed"`
	Problems []difference `json:"problems,omitempty"`
}

// difference is one thing that is not as expected.
type difference struct {
	Line int    `json:"line"`
	Key  string `json:"key"`
	Want string `json:"want"`
	Got  string `json:"got"`
}

func runTests(cmd *cobra.Command, paths []string, asJSON bool) error {
	out, bad := cmd.OutOrStdout(), false
	results := []testResult{}
	for _, path := range paths {
		r, err := testFile(cmd.Context(), path)
		var mistakes config.Errors
		switch {
		case errors.As(err, &mistakes):
			r.Errors = mistakes
		case err != nil:
			return err
		}
		bad = bad || err != nil || r.Failed > 0
		results = append(results, r)
		if !asJSON {
			mistakes.Format(cmd.ErrOrStderr())
			r.print(out)
		}
	}
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return err
		}
	}
	if bad {
		return exitCode(exitError)
	}
	return nil
}

func (r *testResult) print(w io.Writer) {
	for _, c := range r.Cases {
		word := "ok  "
		if !c.Passed {
			word = "FAIL"
		}
		fmt.Fprintf(w, "%s %s:%d: %s\n", word, r.File, c.Line, c.Name)
		for _, d := range c.Problems {
			fmt.Fprintf(w, "     %s:%d: %s\n       - %s\n       + %s\n", r.File, d.Line, d.Key, d.Want, d.Got)
		}
	}
	if r.Errors == nil {
		fmt.Fprintf(w, "%s: %d passed, %d failed\n", r.File, r.Passed, r.Failed)
	}
}

func testFile(ctx context.Context, path string) (testResult, error) {
	r := testResult{Version: 1, File: path, Cases: []caseResult{}}
	tests, err := config.LoadTests(path, config.Options{})
	if err != nil {
		return r, err
	}
	r.Config = tests.Config
	file, _, err := config.Load(tests.Config, config.Options{})
	if err != nil {
		return r, err
	}
	engine, identity, err := holdfast.Offline(file, "")
	if err != nil {
		return r, err
	}
	defer engine.Close()
	for i := range tests.Cases {
		c := &tests.Cases[i]
		if c.Identity == "" {
			c.Identity = identity
		}
		result := caseResult{Name: c.Name, Line: c.Line}
		if result.Problems, err = tryCase(ctx, engine, c); err != nil {
			result.Problems = []difference{{c.Line, "the case", "can be tried", err.Error()}}
		}
		hide(file, c, result.Problems)
		if result.Passed = len(result.Problems) == 0; result.Passed {
			r.Passed++
		} else {
			r.Failed++
		}
		r.Cases = append(r.Cases, result)
	}
	return r, nil
}

// tryCase has the engine look at the exchange, and compares.
func tryCase(ctx context.Context, engine *session.Engine, c *config.Case) (problems []difference, err error) {
	f, err := c.Flow()
	if err != nil {
		return nil, err
	}
	e, err := engine.Explain(ctx, f, c.Tokens)
	if err != nil {
		return nil, err
	}
	var applied, reasons []string
	places, found := make(map[string]session.Token), make(map[string]string)
	for i := range e.Rules {
		r := &e.Rules[i]
		if !r.Applies {
			reasons = append(reasons, r.Rule+" does not: "+r.Why)
			continue
		}
		applied = append(applied, r.Rule)
		for _, t := range r.Tokens {
			if _, ok := places[t.Place]; !ok {
				places[t.Place] = t
			}
		}
		for _, t := range r.Found {
			found[t.Token] = t.Value
		}
	}
	if want := c.Expect; want.Line > 0 {
		if got, why := verdictOf(e, applied); got != want.Value {
			problems = append(problems, difference{want.Line, "expect", want.Value, got + why})
		}
	}
	if c.RulesLine > 0 && !slices.Equal(c.Rules, applied) {
		got := brackets(applied)
		if len(reasons) > 0 {
			got += "; " + strings.Join(reasons, "; ")
		}
		problems = append(problems, difference{c.RulesLine, "rules", brackets(c.Rules), got})
	}
	for _, want := range c.Inject {
		key := want.Key
		if kind, name, ok := strings.Cut(key, ":"); ok && kind == "header" {
			key = kind + ":" + strings.ToLower(name)
		}
		t, known := places[key]
		if !known && want.Absent {
			continue
		}
		got := ""
		if !known {
			got = "no rule that applies puts anything there"
		}
		problems = compareValue(problems, "inject "+want.Key, want, t.Value, t.Present, got)
	}
	for _, want := range c.Extract {
		value, ok := found[want.Key]
		why := ""
		if e.Dead != "" {
			why = "nothing is taken from a dead session's answer"
		}
		problems = compareValue(problems, "extract "+want.Key, want, value, ok, why)
	}
	return problems, nil
}

func compareValue(problems []difference, key string, want config.Expected, got string, present bool, why string) []difference {
	if want.Absent != present && (want.Absent || got == want.Value) {
		return problems
	}
	wanted := want.Value
	if want.Absent {
		wanted = "nothing"
	}
	if !present {
		got = "nothing"
		if why != "" {
			got += ": " + why
		}
	}
	return append(problems, difference{want.Line, key, wanted, got})
}

func brackets(names []string) string { return "[" + strings.Join(names, ", ") + "]" }

// verdictOf is the verdict with its reason.
func verdictOf(e *session.Explanation, applied []string) (verdict, why string) {
	switch {
	case len(applied) == 0:
		if len(e.Rules) == 0 {
			return config.ExpectUntouched, ": there are no rules"
		}
		whys := make([]string, 0, len(e.Rules))
		for i := range e.Rules {
			whys = append(whys, e.Rules[i].Rule+" does not apply: "+e.Rules[i].Why)
		}
		return config.ExpectUntouched, ": " + strings.Join(whys, "; ")
	case e.Dead != "":
		for i := range e.Rules {
			if e.Rules[i].Rule == e.Dead {
				return config.ExpectDead, ", says rule " + e.Dead + ": " + e.Rules[i].Dead
			}
		}
	}
	var conditions []string
	for i := range e.Rules {
		r := &e.Rules[i]
		switch {
		case !r.Applies || r.Dead == "":
		case r.NotJudged:
			conditions = append(conditions, "rule "+r.Rule+" is not asked: the request carries only values of the client's own")
		default:
			conditions = append(conditions, "rule "+r.Rule+" is not true: "+r.Dead)
		}
	}
	if len(conditions) == 0 {
		return config.ExpectAlive, ": no rule that applies judges answers"
	}
	return config.ExpectAlive, ": " + strings.Join(conditions, "; ")
}

// hide takes values of the configuration's own variables out of what is shown:
// the tests may run where everybody can read what they print.
func hide(file *config.File, c *config.Case, problems []difference) {
	var values []string
	add := func(variables map[string]string) {
		for name, value := range variables {
			if _, ours := c.Tokens[name]; !ours && len(value) > 2 {
				values = append(values, value)
			}
		}
	}
	add(file.Variables)
	for _, identity := range file.Identities {
		add(identity.Variables)
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) }) // one may stand in another
	var pairs []string
	for _, value := range values {
		pairs = append(pairs, value, "***")
	}
	hidden := strings.NewReplacer(pairs...)
	for i := range problems {
		if d := &problems[i]; d.Got != d.Want && (strings.HasPrefix(d.Key, "inject ") || strings.HasPrefix(d.Key, "extract ")) {
			d.Got = hidden.Replace(d.Got)
		}
	}
}
