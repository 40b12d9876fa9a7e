package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// maxMessage bounds a request or response that is read from a file, in bytes.
const maxMessage = 16 << 20

type explainOptions struct {
	file, identity, tool, method, data, response string
	headers                                      []string
	plain, asJSON                                bool
}

func explainCommand() *cobra.Command {
	o := &explainOptions{}
	cmd := &cobra.Command{
		Use:   "explain -c FILE [METHOD] URL|FILE|-",
		Short: "Say what the rules would do to a request, without sending it",
		Long: `Say what the rules would do to a request, without sending anything: of every rule,
in order, whether it applies and if not which condition failed; which session it
uses, and when that is recovered, first and ahead of its end; whether protect is
about it; which tokens and which cookies of the jar go where, and which places are
left alone; who it speaks for, with what; which answers count as dead; whether the request is sent again.

The request is a URL, with a method in front of it and with -H and -d as curl
has them, or a file with a raw request (- is standard input). With --response a
recorded answer is judged as well. No value of a token is shown. Nothing is known
of sessions that a running proxy has: it is what happens to the first request
after a start.`,
		Example: `  holdfast explain -c shop.yaml https://shop.example/api/cart
  holdfast explain -c shop.yaml 'POST https://shop.example/api/cart' -H 'Content-Type: application/json' -d '{"id":1}'
  holdfast explain -c shop.yaml --identity bob --tool scanner request.txt --response answer.txt`,
		Args: needs("a request: a URL, or a file", cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error { return explain(cmd, o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "configuration file")
	f.StringVarP(&o.method, "request", "X", "", "`method` of the request")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "header `'Name: value'` of the request; may be repeated")
	f.StringVarP(&o.data, "data", "d", "", "body of the request; POST, and a form unless -H says otherwise; @FILE reads it")
	f.StringVar(&o.identity, "identity", "", "who the request speaks for (default as serve)")
	f.StringVar(&o.tool, "tool", flow.ToolProxy, "which tool it comes from")
	f.StringVar(&o.response, "response", "", "`file` with an answer to judge: status line, headers, body")
	f.BoolVar(&o.plain, "plain", false, "a request in a file without a scheme is for http, not https")
	f.BoolVar(&o.asJSON, "json", false, "print JSON")
	return cmd
}

// explainResult is the JSON shape, version 1.
type explainResult struct {
	Version int    `json:"v"`
	Method  string `json:"method"`
	URL     string `json:"url"` // without query: tokens may stand there
	Tool    string `json:"tool"`
	*session.Explanation
}

func explain(cmd *cobra.Command, o *explainOptions, args []string) error {
	if o.file == "" {
		return usageError{errors.New("explain needs a configuration: -c FILE")}
	}
	f, err := o.flow(cmd, args)
	if err != nil {
		return err
	}
	file, err := load(cmd.ErrOrStderr(), o.file)
	if err != nil {
		return err
	}
	engine, identity, err := holdfast.Offline(file, "")
	if err != nil {
		return err
	}
	defer engine.Close()
	f.Tool, f.Identity = o.tool, identity
	if o.identity != "" {
		f.Identity = o.identity
	}
	explanation, err := engine.Explain(cmd.Context(), f, nil)
	if err != nil {
		return err
	}
	if s := explanation.Speaker; s != nil && s.Why == "" {
		if s.Why = "it is the only one of the configuration"; o.identity != "" {
			s.Why = "--identity names it"
		}
	}
	path := f.ShownPath
	if path == "" {
		path = string(f.Received.Path())
	}
	r := explainResult{1, string(f.Received.Method()), f.Origin.URL([]byte(path)), f.Tool, explanation}
	if o.asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	r.print(cmd.OutOrStdout())
	return nil
}

// flow is the request of the command line. What is wrong with it is wrong
// usage.
func (o *explainOptions) flow(cmd *cobra.Command, args []string) (*flow.Flow, error) {
	text := []byte(strings.Join(args, " "))
	isFile := len(args) == 1 && !strings.Contains(args[0], "://") && !strings.Contains(args[0], " ")
	if isFile {
		var err error
		if text, err = messageFile(cmd, args[0]); err != nil {
			return nil, err
		}
		if len(o.headers) > 0 || o.data != "" || o.method != "" {
			return nil, usageError{errors.New("-H, -d and -X go with a URL, not with a file")}
		}
	} else if err := o.addTo(cmd, &text); err != nil {
		return nil, err
	}
	f, err := config.Sample(text, !o.plain)
	if err != nil {
		return nil, usageError{err}
	}
	if o.response == "" {
		return f, nil
	}
	answer, err := messageFile(cmd, o.response)
	if err != nil {
		return nil, err
	}
	if err := config.SampleAnswer(f, answer); err != nil {
		return nil, fmt.Errorf("%s: %w", o.response, err)
	}
	return f, nil
}

// addTo adds what the flags say to a request line.
func (o *explainOptions) addTo(cmd *cobra.Command, text *[]byte) error {
	line, data := string(*text), []byte(o.data)
	if name, ok := strings.CutPrefix(o.data, "@"); ok {
		var err error
		if data, err = messageFile(cmd, name); err != nil {
			return err
		}
	}
	method, rest, found := strings.Cut(strings.TrimSpace(line), " ")
	if !found {
		method, rest = "GET", method
		if o.data != "" {
			method = "POST"
		}
	}
	if o.method != "" {
		method = o.method
	}
	b := bytes.NewBufferString(method + " " + strings.TrimSpace(rest) + "\n")
	typed := false
	for _, h := range o.headers {
		if strings.ContainsAny(h, "\r\n") {
			return usageError{errors.New("a header is one line")}
		}
		name, _, ok := strings.Cut(h, ":")
		if !ok {
			return usageError{fmt.Errorf("-H %q is no 'Name: value'", h)}
		}
		typed = typed || strings.EqualFold(name, "content-type")
		b.WriteString(h + "\n")
	}
	if o.data != "" {
		if !typed {
			b.WriteString("Content-Type: application/x-www-form-urlencoded\n")
		}
		b.WriteString("\n")
		b.Write(append(data, '\n'))
	}
	*text = b.Bytes()
	return nil
}

func messageFile(cmd *cobra.Command, path string) ([]byte, error) {
	var r io.Reader = cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("the message cannot be read: %w; a URL begins with https://", err)
		}
		defer f.Close()
		r = f
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	if err == nil && len(raw) > maxMessage {
		err = fmt.Errorf("%s has more than %d bytes", path, maxMessage)
	}
	return raw, err
}

func (r *explainResult) print(w io.Writer) {
	fmt.Fprintf(w, "%s %s  (identity %s, tool %s)\n", r.Method, r.URL, orDefault(r.Identity), r.Tool)
	if r.Speaker != nil {
		printSpeaker(w, r.Identity, r.Speaker)
	}
	applies := 0
	for i := range r.Rules {
		if r.Rules[i].Applies {
			applies++
			printApplied(w, &r.Rules[i])
			continue
		}
		fmt.Fprintf(w, "\nrule %s: does not apply\n  because    %s\n", r.Rules[i].Rule, r.Rules[i].Why)
		if r.Rules[i].Protect != "" {
			fmt.Fprintf(w, "  protect    %s\n", r.Rules[i].Protect)
		}
	}
	switch {
	case applies == 0 && len(r.Changes) == 0:
		fmt.Fprintln(w, "\nNo rule applies: the request passes as the bytes it came in.")
	case len(r.Changes) == 0:
		fmt.Fprintln(w, "\nThe request is sent as it is.")
	default:
		fmt.Fprintln(w, "\nThe request changes (*** is a new value, … one left alone):")
		for _, line := range r.Changes {
			fmt.Fprintln(w, "  "+line)
		}
	}
	switch {
	case r.Refused != "":
		fmt.Fprintf(w, "\nThe client gets %s. What is above would be done to the request if it were sent.\n", r.Refused)
	case r.Dead != "":
		fmt.Fprintf(w, "\nThe answer is a dead session's, says rule %s.\n", r.Dead)
	case r.Judged:
		fmt.Fprintln(w, "\nThe answer is not a dead session's.")
	}
	fmt.Fprintln(w, "Nothing was sent.")
}

func orDefault(identity string) string {
	if identity == "" {
		return "the default one"
	}
	return identity
}

func printSpeaker(w io.Writer, name string, s *session.Speaker) {
	if name == "" {
		name = "by default"
	}
	fmt.Fprintf(w, "\nidentity %s\n", name)
	say := func(word, text string) { fmt.Fprintf(w, "  %-10s %s\n", word, text) }
	if s.Why != "" {
		say("because", s.Why)
	}
	if len(s.Variables) > 0 {
		say("variables", strings.Join(s.Variables, ", "))
	}
	if len(s.Tokens) > 0 {
		say("tokens", strings.Join(s.Tokens, ", "))
	}
	for _, c := range s.Cookies {
		secure := ""
		if c.Secure {
			secure = ", Secure"
		}
		say("jar", fmt.Sprintf("%s for %s%s%s, from %s", readable(c.Name), readable(c.Domain), readable(c.Path), secure, map[string]string{"file": "a file", "response": "an answer", "request": "a client's request", "hand": "a person"}[c.From]))
	}
	if len(s.Cookies) == 0 {
		say("jar", "no cookie for this URL")
	}
	say("fed", s.Fed)
}

func printApplied(w io.Writer, r *session.Reason) {
	say := func(word, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", word, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "\nrule %s: applies\n", r.Rule)
	say("because", "%s", r.Why)
	say("session", "%s", r.Session)
	macros := "macro " + strings.Join(r.Recovery, ", else ")
	if len(r.Recovery) == 0 {
		say("", "never recovered: the rule has no reauth_macro")
	}
	if r.Recovers != "" {
		say("first", "%s; the session is recovered by %s, once for everybody who waits", r.Recovers, macros)
	}
	if r.Ahead != "" {
		say("ahead", "recovered %s", r.Ahead)
	}
	if r.Protect != "" {
		say("protect", "%s", r.Protect)
	}
	for _, text := range r.Cookies {
		say("cookies", "%s", text)
	}
	for _, t := range r.Tokens {
		switch {
		case t.Known:
			say("token", "%s for %s: has a value", t.Name, t.Place)
		case t.First && r.Recovers != "":
			say("token", "%s for %s: obtained by %s first", t.Name, t.Place, macros)
		case t.First:
			say("token", "%s for %s: obtained by the recovery of the other rule first", t.Name, t.Place)
		default:
			say("token", "%s for %s: has no value yet", t.Name, t.Place)
		}
	}
	for _, s := range r.Steps {
		say(s.Action, "%s", s.Detail)
	}
	if r.Dead != "" {
		say("dead when", "%s", r.Dead)
	}
	if len(r.CloseCodes) > 0 {
		say("dead when", "a WebSocket is closed with one of %v", r.CloseCodes)
	}
	if r.Confirm != "" {
		say("", "and macro %s does not contradict it", r.Confirm)
	}
	if r.Probe != "" {
		say("dead when", "macro %s says so, which is asked now and then", r.Probe)
	}
	if r.NotJudged {
		say("", "but not asked: the request carries only values of the client's own")
	}
	if r.Resend != "" {
		say("then", "the session is recovered by %s; %s", macros, r.Resend)
		say("else", "%s", r.OnFailure)
	}
	for _, t := range r.Takes {
		say("takes", "%s from %s", t.Token, t.From)
	}
	for _, found := range r.Found {
		say("found", "%s in the answer", found.Token)
	}
}
