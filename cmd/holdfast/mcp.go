package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/mcp"
)

func mcpCommand() *cobra.Command {
	o := &mcpOptions{}
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Be the tools of a language model (MCP over stdio)",
		Long: `Be the tools of a language model: a server of the Model Context Protocol on
standard input and output, for the program that the model runs in (its host).
It asks the serve that runs with this home directory, or the one that --server
names, and goes on where that is started anew.

A tool is a noun with a parameter action: session, macros, rules, flows, trace,
cookies, variables, identities, explain, check, config, status. Passwords, tokens
and cookies are not shown unless serve was started with --reveal-secrets and a
call asks for them. What applications wrote is marked as untrusted.

serve answers MCP by HTTP too, at /mcp of the API's address, with its token.`,
		Example: "  holdfast mcp\n  holdfast mcp --read-only\n  holdfast mcp --server http://127.0.0.1:8081 --api-token-file token.txt\n  claude mcp add holdfast -- holdfast mcp",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return serveMCP(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.server, "server", "", "`URL` of the API, such as http://127.0.0.1:8081 (default the serve of the home directory)")
	f.StringVar(&o.tokenFile, "api-token-file", "", "`file` with the token of the API (default api-token in the home directory)")
	f.BoolVar(&o.readOnly, "read-only", false, "offer only what changes nothing")
	return cmd
}

// mcpOptions are the flags of mcp.
type mcpOptions struct {
	server, tokenFile string
	readOnly          bool
	dir, project      string // as client.Open wants them
}

func serveMCP(cmd *cobra.Command, o *mcpOptions) (err error) {
	if o.dir, o.project, err = servedProject(cmd); err != nil {
		return err
	}
	if at, err := url.Parse(o.server); o.server != "" && (err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https") {
		return usageError{fmt.Errorf("--server %s is no URL; write http://HOST:PORT", o.server)}
	}
	if o.tokenFile != "" && o.server == "" {
		return usageError{errors.New("--api-token-file is for the API that --server names")}
	}
	// That nobody serves is said at once, and not by the first call.
	if _, err := o.Call(cmd.Context(), statusOperation(), nil); err != nil {
		return problemText(err)
	}
	server, err := mcp.New(mcp.Config{Caller: o, Version: buildVersion(), ReadOnly: o.readOnly,
		Warn: func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), "holdfast: "+text) }})
	if err != nil {
		return err
	}
	err = server.Run(cmd.Context(), io.NopCloser(cmd.InOrStdin()), keptOpen{cmd.OutOrStdout()})
	if errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// statusOperation is what any serve can do.
func statusOperation() *control.Operation {
	for _, op := range control.Operations() {
		if op.Name == "status" {
			return &op
		}
	}
	panic("the table has no status")
}

// problemText is an error of the API with its next step.
func problemText(err error) error {
	var known *flow.Error
	if errors.As(err, &known) {
		return fmt.Errorf("%s; %s", strings.TrimSuffix(known.Detail, "."), strings.TrimSuffix(known.Next, "."))
	}
	return err
}

// keptOpen is a writer that somebody else closes.
type keptOpen struct{ io.Writer }

// Close does nothing.
func (keptOpen) Close() error { return nil }

// open is a client of the API, as it is now: serve may have been started anew.
func (o *mcpOptions) open() (*client.Client, error) {
	if o.server == "" {
		c, err := client.OpenProject(o.dir, o.project)
		if errors.Is(err, client.ErrNotServing) {
			return nil, &flow.Error{Reason: "not_serving", Detail: fmt.Sprintf("No holdfast serve runs with the home directory %s.", o.dir),
				Next: "Start one: holdfast serve -c FILE, or name its directory with --home, or its address with --server."}
		}
		return c, err
	}
	file := o.tokenFile
	if file == "" {
		file = filepath.Join(o.dir, client.TokenFile)
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return nil, &flow.Error{Reason: "token_missing", Detail: "The token of the API cannot be read: " + err.Error() + ".", Next: "Name its file with --api-token-file; serve prints where it is."}
	}
	return client.New(o.server, strings.TrimSpace(string(token))), nil
}

// Call does an operation by the API: the options are an mcp.Caller.
func (o *mcpOptions) Call(ctx context.Context, op *control.Operation, values map[string]any) (json.RawMessage, error) {
	c, err := o.open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var raw json.RawMessage
	err = c.Call(ctx, op.Name, values, &raw)
	var p *client.Problem
	switch {
	case err == nil:
		return raw, nil
	case errors.As(err, &p):
		known := &flow.Error{Status: p.Status, Reason: p.Code, Detail: p.Detail, Next: p.Next}
		for _, f := range p.Errors {
			known.Detail += " " + strings.TrimSpace(f.Where+" "+f.What) + "."
		}
		return nil, known
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, &flow.Error{Reason: "not_serving", Detail: err.Error() + ".", Next: "See whether holdfast serve runs there."}
}

// mcpFace is MCP at the address of the API.
func mcpFace(warn func(string)) func(*control.Desk) (api.Face, error) {
	return func(desk *control.Desk) (api.Face, error) {
		caller, err := mcp.AtDesk(desk)
		if err != nil {
			return nil, err
		}
		server, err := mcp.New(mcp.Config{Caller: caller, Version: buildVersion(), Warn: warn})
		if err != nil {
			return nil, err
		}
		return server.Handler(), nil
	}
}
