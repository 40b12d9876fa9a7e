package control

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// Checked says what is wrong with a configuration.
type Checked struct {
	Version  int              `json:"v" doc:"Of this shape: 1."`
	File     string           `json:"file"`
	Good     bool             `json:"good"`
	Errors   []config.Problem `json:"errors" nullable:"false"`
	Warnings []config.Problem `json:"warnings" nullable:"false"`
}

// Config is what Holdfast was started with.
type Config struct {
	Version    int      `json:"v" doc:"Of this shape: 1."`
	File       string   `json:"file" doc:"Empty: none."`
	Identities []string `json:"identities" nullable:"false"`
	Macros     []string `json:"macros" nullable:"false"`
	Rules      []string `json:"rules" nullable:"false"`
	Variables  []string `json:"variables" nullable:"false" doc:"Names of global ones."`
	Framing    string   `json:"framing"`
	Switched   []string `json:"switched" nullable:"false" doc:"Rules that were changed by hand."`
	Text       *string  `json:"text,omitempty" doc:"All of it as one file; only with reveal, since credentials may stand in it."`
}

type checkParams struct {
	Text string `json:"text" maxLength:"1048576" doc:"A configuration file."`
	Name string `json:"name,omitempty" maxLength:"1024" doc:"What messages call it."`
}

type configParams struct {
	Reveal bool `json:"reveal,omitempty" doc:"Show the text, where Holdfast was started with --reveal-secrets."`
}

type explainParams struct {
	Request string `json:"request" minLength:"1" maxLength:"1048576" doc:"Raw HTTP/1, or a method and a URL in its first line."`
	Answer  string `json:"response,omitempty" maxLength:"1048576" doc:"An answer to judge, as raw HTTP/1."`
	OfIdentity
	Tool  string `json:"tool,omitempty" maxLength:"256" doc:"Where the request comes from; proxy when absent."`
	Plain bool   `json:"plain,omitempty" doc:"A request without a scheme is for http."`
}

// Explained says what would be done to a request.
type Explained struct {
	Version int    `json:"v" doc:"Of this shape: 1."`
	Method  string `json:"method"`
	URL     string `json:"url" doc:"Without its query: tokens may stand there."`
	Tool    string `json:"tool"`
	*session.Explanation
}

func configOperations() []Operation {
	return []Operation{
		of(Operation{Name: "config.get", Doc: "Say what configuration holds.", Danger: Read, Reveals: true,
			Method: "GET", Path: "/config", Tool: "config.show", Command: "config show"}, getConfig),
		of(Operation{Name: "config.check", Doc: "Say what is wrong with a configuration, without using it. Files that it names are not opened, and the environment is not looked at.", Danger: Read,
			Method: "POST", Path: "/config/check", Tool: "check.config", Command: "check"}, checkConfig),
		of(Operation{Name: "explain", Doc: "Say what the rules would do to a request now, and what they make of an answer, without sending anything.", Danger: Read,
			Method: "POST", Path: "/explain", Tool: "explain.request", Command: "explain"}, explain),
	}
}

func getConfig(_ context.Context, d *Desk, p *configParams) (*Config, error) {
	if err := d.mayReveal(p.Reveal); err != nil {
		return nil, err
	}
	f := d.proxy.File()
	out := &Config{Version: 1, File: f.Name, Identities: append([]string{}, f.Order...), Macros: []string{}, Rules: []string{}, Variables: []string{},
		Framing: f.Framing.String(), Switched: []string{}}
	for _, m := range f.Macros {
		out.Macros = append(out.Macros, m.Name)
	}
	for _, r := range f.Rules {
		out.Rules = append(out.Rules, r.Name)
		if f.By(config.EntryRule, r.Name) != "file" {
			out.Switched = append(out.Switched, r.Name)
		}
	}
	for _, v := range d.proxy.Engine().Globals() {
		out.Variables = append(out.Variables, v.Name)
	}
	if p.Reveal {
		raw, err := f.Text()
		if err != nil {
			return nil, asError(err)
		}
		text := string(raw)
		out.Text = &text
	}
	return out, nil
}

// errNotRead is what a configuration finds where it wants a file.
var errNotRead = errors.New("files are not opened for a configuration that is only checked")

func checkConfig(_ context.Context, _ *Desk, p *checkParams) (*Checked, error) {
	name := p.Name
	if name == "" {
		name = "configuration"
	}
	_, warnings, err := config.Parse(name, []byte(p.Text), config.Options{
		Env:      func(string) (string, bool) { return "value", true },
		ReadFile: func(string) ([]byte, error) { return nil, errNotRead },
	})
	var mistakes config.Errors
	if err != nil && !errors.As(err, &mistakes) {
		return nil, invalid("It is no configuration.", "Send YAML or JSON.")
	}
	return &Checked{1, name, err == nil, append([]config.Problem{}, mistakes...), append([]config.Problem{}, warnings...)}, nil
}

func explain(ctx context.Context, d *Desk, p *explainParams) (*Explained, error) {
	who, err := d.maybe(p.Identity)
	if p.Identity == flow.Anonymous {
		who, err = p.Identity, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := config.Sample([]byte(p.Request), !p.Plain)
	if err != nil {
		return nil, invalid(fmt.Sprintf("The request cannot be read: %v.", err), "Write raw HTTP/1, or a method and a URL.")
	}
	if p.Answer != "" {
		if err := config.SampleAnswer(f, []byte(p.Answer)); err != nil {
			return nil, invalid(fmt.Sprintf("The answer cannot be read: %v.", err), "Write a status line, fields, an empty line, and the body.")
		}
	}
	if f.Tool, f.Identity = p.Tool, who; f.Tool == "" {
		f.Tool = flow.ToolProxy
	}
	if f.Identity == "" {
		f.Identity = d.proxy.Identity()
	}
	explanation, err := d.proxy.Engine().Explain(ctx, f, nil)
	if err != nil {
		return nil, asError(err)
	}
	path := f.ShownPath
	if path == "" {
		path = string(f.Received.Path())
	}
	if explanation.Rules = slices.Clone(explanation.Rules); explanation.Rules == nil {
		explanation.Rules = []session.Reason{}
	}
	return &Explained{1, string(f.Received.Method()), f.Origin.URL([]byte(path)), f.Tool, explanation}, nil
}
