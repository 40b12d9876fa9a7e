package config

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
)

// MaxSample bounds a recording that tests name, in bytes.
const MaxSample = 64 << 20

// The verdicts that a case can expect.
const (
	ExpectAlive     = "alive"
	ExpectDead      = "dead"
	ExpectUntouched = "untouched" // no rule applies
)

// Tests is a file of tests for a configuration.
type Tests struct {
	Name   string
	Config string // the path of the configuration
	Cases  []Case
}

// Case is an exchange, with what the rules should make of it. Only what is
// given is compared.
type Case struct {
	Name     string
	Line     int
	Identity string // "" is the configuration's own
	Tool     string
	Tokens   map[string]string // that the identity has

	Expect     Expected   // a verdict
	Rules      []string   // that apply, in order
	RulesLine  int        // 0: not given
	Inject     []Expected // by place
	Extract    []Expected // by token
	sample     []byte
	plain      bool
	answer     []byte
	hasAnswers bool
}

// Expected is one value that a case expects.
type Expected struct {
	Line   int // 0: not given
	Key    string
	Value  string
	Absent bool // nothing should be there
}

// Flow makes a new flow of the case's exchange.
func (c *Case) Flow() (*flow.Flow, error) {
	f, err := Sample(c.sample, !c.plain)
	if err == nil && c.hasAnswers {
		err = SampleAnswer(f, c.answer)
	}
	if err == nil {
		f.Tool, f.Identity = c.Tool, c.Identity
	}
	return f, err
}

type testsDraft struct {
	config, identity, tool word
	tokens                 []variable
	cases                  []caseDraft
}

type caseDraft struct {
	n                            *yaml.Node
	name, identity, tool, expect word
	request, requestFile         word
	response, responseFile, har  word
	entry                        int
	plain                        bool
	tokens                       []variable
	rulesNode                    *yaml.Node
	rules                        []word
	inject, extract              []Expected
	injectN, extractN            *yaml.Node
}

func testsFields() []field[testsDraft] {
	return []field[testsDraft]{
		{"config", "write the path of the configuration, relative to this file", single("config", func(t *testsDraft) *word { return &t.config })},
		{"identity", "", single("identity", func(t *testsDraft) *word { return &t.identity })},
		{"tool", "", single("tool", func(t *testsDraft) *word { return &t.tool })},
		{"tokens", "", func(d *decoder, n *yaml.Node, t *testsDraft) { t.tokens = d.variables(n) }},
		{"cases", "write a list of exchanges with what to expect", func(d *decoder, n *yaml.Node, t *testsDraft) {
			t.cases = each(d, n, "cases", "a case", caseFields(), func(c *caseDraft, n *yaml.Node) { c.n = n })
		}},
	}
}

func caseFields() []field[caseDraft] {
	return []field[caseDraft]{
		{"name", "say in a few words what it is about", single("name", func(c *caseDraft) *word { return &c.name })},
		{"identity", "", single("identity", func(c *caseDraft) *word { return &c.identity })},
		{"tool", "", single("tool", func(c *caseDraft) *word { return &c.tool })},
		{"tokens", "", func(d *decoder, n *yaml.Node, c *caseDraft) { c.tokens = d.variables(n) }},
		{"request", "", single("request", func(c *caseDraft) *word { return &c.request })},
		{"request_file", "", single("request_file", func(c *caseDraft) *word { return &c.requestFile })},
		{"plain", "", flag("plain", func(c *caseDraft) *bool { return &c.plain })},
		{"response", "", single("response", func(c *caseDraft) *word { return &c.response })},
		{"response_file", "", single("response_file", func(c *caseDraft) *word { return &c.responseFile })},
		{"har", "", single("har", func(c *caseDraft) *word { return &c.har })},
		{"entry", "", number("entry", 1, 1_000_000, func(c *caseDraft) *int { return &c.entry })},
		{"expect", "", choice("verdict", []string{ExpectAlive, ExpectDead, ExpectUntouched}, func(c *caseDraft) *word { return &c.expect })},
		{"rules", "", func(d *decoder, n *yaml.Node, c *caseDraft) {
			c.rulesNode = n
			words("the name of a rule", func(c *caseDraft) *[]word { return &c.rules })(d, n, c)
		}},
		{"inject", "", func(d *decoder, n *yaml.Node, c *caseDraft) { c.injectN, c.inject = n, d.expected(n, "inject") }},
		{"extract", "", func(d *decoder, n *yaml.Node, c *caseDraft) { c.extractN, c.extract = n, d.expected(n, "extract") }},
	}
}

// expected reads a mapping of names to values; nothing means that nothing
// should be there.
func (d *decoder) expected(n *yaml.Node, what string) (list []Expected) {
	pairs, _ := d.pairs(n, what)
	for _, p := range pairs {
		e := Expected{Line: p.key.Line, Key: p.key.Value}
		if isNull(p.value) {
			e.Absent = true
		} else if w, ok := d.word(p.value, "the value of "+keyName(e.Key)); ok {
			e.Value = w.s
		} else {
			continue
		}
		list = append(list, e)
	}
	return list
}

// LoadTests reads a file of tests and the recordings that it names. Mistakes in
// it are Errors, as those of a configuration.
func LoadTests(path string, o Options) (*Tests, error) {
	src, err := o.readFile(path)
	if err != nil {
		return nil, Errors{{File: path, What: "the tests cannot be read: " + cause(err), Next: "give the path of a YAML file; docs/manual.md describes it"}}
	}
	t := newText(path, src)
	root, problems := parseTree(t, src)
	if len(problems) > 0 {
		return nil, Errors(sorted(problems))
	}
	if root == nil || isNull(root) {
		return nil, Errors{{File: path, What: "the file is empty", Next: "add config: and cases:; docs/manual.md describes them"}}
	}
	d := &decoder{text: t, options: o}
	var draft testsDraft
	object(d, root, "the file of tests", testsFields(), &draft)
	tests := &Tests{Name: path, Config: beside(path, draft.config.s)}
	recordings := make(map[string]*har)
	for i := range draft.cases {
		tests.Cases = append(tests.Cases, d.testCase(path, &draft, &draft.cases[i], recordings))
	}
	if len(d.problems) > 0 {
		return nil, Errors(sorted(d.problems))
	}
	return tests, nil
}

// beside is a path as a file means it: relative to its own directory.
func beside(file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

func (d *decoder) testCase(path string, all *testsDraft, c *caseDraft, recordings map[string]*har) Case {
	out := Case{Name: c.name.s, Line: c.n.Line, Identity: c.identity.s, Tool: c.tool.s, Tokens: make(map[string]string),
		Inject: c.inject, Extract: c.extract, plain: c.plain}
	if !c.identity.given() {
		out.Identity = all.identity.s
	}
	if !c.tool.given() {
		out.Tool = all.tool.s
	}
	if out.Tool == "" {
		out.Tool = flow.ToolProxy
	}
	for _, list := range [][]variable{all.tokens, c.tokens} {
		for _, v := range list {
			out.Tokens[v.name] = v.value
		}
	}
	if c.expect.given() {
		out.Expect = Expected{Line: c.expect.n.Line, Key: "expect", Value: c.expect.s}
	}
	if c.rulesNode != nil {
		out.RulesLine = c.rulesNode.Line
		for _, w := range c.rules {
			out.Rules = append(out.Rules, w.s)
		}
	}
	before := len(d.problems)
	d.exchangeOf(path, c, &out, recordings)
	if len(d.problems) > before {
		return out // what follows from that mistake need not be told
	}
	needsAnswer := c.expect.s == ExpectAlive || c.expect.s == ExpectDead
	switch {
	case needsAnswer && !out.hasAnswers:
		d.errorAt(c.expect.n, "add response:, response_file: or har:", "without an answer nothing can be %s", c.expect.s)
	case len(c.extract) > 0 && !out.hasAnswers:
		d.errorAt(c.extractN, "add response:, response_file: or har:", "without an answer there is nothing to extract from")
	case before == 0 && !c.expect.given() && c.rulesNode == nil && c.injectN == nil && c.extractN == nil:
		d.errorAt(c.n, "add expect:, rules:, inject: or extract:", "the case expects nothing")
	}
	return out
}

// exchangeOf finds the messages of a case.
func (d *decoder) exchangeOf(path string, c *caseDraft, out *Case, recordings map[string]*har) {
	sources := 0
	for _, w := range []word{c.request, c.requestFile, c.har} {
		if w.given() {
			sources++
		}
	}
	at := c.request
	switch {
	case sources != 1:
		d.errorAt(c.n, "write request: with a raw request, request_file: with a path, or har: with a path and entry: with a number", "a case has one request; this one has %d", sources)
		return
	case c.request.given():
		out.sample = []byte(c.request.s)
	case c.requestFile.given():
		at = c.requestFile
		out.sample = d.recording(path, c.requestFile)
	default:
		at = c.har
		if c.response.given() || c.responseFile.given() {
			d.errorAt(c.n, "take response out, or write the request as raw HTTP, too", "an entry of a HAR has its own answer")
			return
		}
		if !d.entryOf(path, c, out, recordings) {
			return
		}
	}
	if out.sample == nil {
		return
	}
	switch {
	case c.response.given() && c.responseFile.given():
		d.errorAt(c.n, "keep one of them", "the answer is given twice")
		return
	case c.response.given():
		out.answer, out.hasAnswers = []byte(c.response.s), true
	case c.responseFile.given():
		if out.answer = d.recording(path, c.responseFile); out.answer == nil {
			return
		}
		out.hasAnswers = true
	}
	f, err := Sample(out.sample, !out.plain)
	if err != nil {
		d.errorAt(at.n, "write it as it goes over the wire: request line, headers, an empty line, the body", "%v", err)
		return
	}
	if out.hasAnswers {
		if err := SampleAnswer(f, out.answer); err != nil {
			for _, w := range []word{c.response, c.responseFile, c.har} {
				if w.given() {
					d.errorAt(w.n, "write it as it came over the wire: status line, headers, an empty line, the body", "%v", err)
				}
			}
		}
	}
}

// recording reads a file that a case names.
func (d *decoder) recording(path string, w word) []byte {
	name := beside(path, w.s)
	var raw []byte
	var err error
	if d.options.ReadFile != nil {
		raw, err = d.options.ReadFile(name)
	} else {
		var f *os.File
		if f, err = os.Open(name); err == nil {
			defer f.Close()
			raw, err = io.ReadAll(io.LimitReader(f, MaxSample+1))
		}
	}
	switch {
	case err != nil:
		d.errorAt(w.n, "paths are relative to the file of tests", "the recording cannot be read: %s", cause(err))
		return nil
	case len(raw) > MaxSample:
		d.errorAt(w.n, "cut out what the test is about", "the recording has more than %s", formatSize(MaxSample))
		return nil
	case raw == nil:
		raw = []byte{}
	}
	return raw
}

// har is what is read of a recording in the HTTP Archive format 1.2.
type har struct {
	Log struct {
		Entries []struct {
			Request struct {
				Method, URL string
				Headers     []harField
				PostData    *struct{ Text string }
			}
			Response struct {
				Status     int
				StatusText string
				Headers    []harField
				Content    struct{ Text, Encoding string }
			}
		}
	}
}

type harField struct{ Name, Value string }

// entryOf makes messages of an entry. Bodies stand there without any coding.
func (d *decoder) entryOf(path string, c *caseDraft, out *Case, recordings map[string]*har) bool {
	name := beside(path, c.har.s)
	h := recordings[name]
	if h == nil {
		raw := d.recording(path, c.har)
		if raw == nil {
			return false
		}
		h = new(har)
		if err := json.Unmarshal(raw, h); err != nil {
			d.errorAt(c.har.n, "give a file that a browser or a proxy exported as HAR", "the recording is no HAR: %s", jsonCause(err))
			return false
		}
		recordings[name] = h
	}
	entry := max(c.entry, 1)
	if entry > len(h.Log.Entries) {
		d.errorAt(c.har.n, "entries are counted from 1", "the recording has %d entries, and no entry %d", len(h.Log.Entries), entry)
		return false
	}
	e := &h.Log.Entries[entry-1]
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\n", e.Request.Method, e.Request.URL)
	writeFields(&b, e.Request.Headers)
	if e.Request.PostData != nil {
		b.WriteString(e.Request.PostData.Text + "\n")
	}
	out.sample = []byte(b.String())
	if e.Response.Status < 100 { // the browser got none
		return true
	}
	b.Reset()
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\n", e.Response.Status, e.Response.StatusText)
	writeFields(&b, e.Response.Headers)
	body := e.Response.Content.Text
	if e.Response.Content.Encoding == "base64" {
		if raw, err := base64.StdEncoding.DecodeString(body); err == nil {
			body = string(raw)
		}
	}
	b.WriteString(body + "\n")
	out.answer, out.hasAnswers = []byte(b.String()), true
	return true
}

func jsonCause(err error) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("at byte %d it is no JSON", syntax.Offset)
	}
	return "it has another shape"
}

func writeFields(b *strings.Builder, fields []harField) {
	for _, f := range fields {
		switch strings.ToLower(f.Name) {
		case "content-length", "content-encoding", "transfer-encoding":
			continue // of the body as it was on the wire
		}
		if strings.HasPrefix(f.Name, ":") || strings.ContainsAny(f.Name+f.Value, "\r\n") {
			continue
		}
		b.WriteString(f.Name + ": " + f.Value + "\n")
	}
	b.WriteString("\n")
}
