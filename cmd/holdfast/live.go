package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
)

// liveOptions are the flags of commands that ask a running serve.
type liveOptions struct {
	asJSON, reveal, global bool
	identity               string
	session                int
}

func (o *liveOptions) params() map[string]any {
	p := map[string]any{}
	if o.identity != "" {
		p["identity"] = o.identity
	}
	if o.session != 0 {
		p["session"] = o.session
	}
	if o.reveal {
		p["reveal"] = true
	}
	if o.global {
		p["global"] = true
	}
	return p
}

// live makes a command that asks a running serve. Its flags are those that the
// operations take.
func live(use, short, example string, args cobra.PositionalArgs, takes string, do func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error) *cobra.Command {
	o := &liveOptions{}
	cmd := &cobra.Command{
		Use: use, Short: short, Example: "  " + example, Args: usageArgs(args),
		Long: short + ".\n\nIt asks the serve that runs with this home directory.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return onServe(cmd, func(c *client.Client) error { return do(cmd, c, o, args) })
		},
	}
	f := cmd.Flags()
	for _, flag := range strings.Fields(takes) {
		switch flag {
		case "json":
			f.BoolVar(&o.asJSON, "json", false, "print JSON, as the API has it")
		case "identity":
			f.StringVar(&o.identity, "identity", "", "`identity` that is meant (default the one that speaks where nobody is named)")
		case "session":
			f.IntVar(&o.session, "session", 0, "which of the identity's sessions, from 1, where it has several")
		case "reveal":
			f.BoolVar(&o.reveal, "reveal", false, "show values, where serve was started with --reveal-secrets")
		case "global":
			f.BoolVar(&o.global, "global", false, "the variables of all identities")
		}
	}
	return cmd
}

// onServe asks the serve that runs with the home directory.
func onServe(cmd *cobra.Command, do func(c *client.Client) error) error {
	dir, project, err := servedProject(cmd)
	if err != nil {
		return err
	}
	c, err := client.OpenProject(dir, project)
	switch {
	case errors.Is(err, client.ErrNotServing) && project != "":
		return fmt.Errorf("no holdfast serve runs with the home directory %s on the project %s; holdfast serve -c FILE starts one, with the same --project or --store", dir, project)
	case errors.Is(err, client.ErrNotServing):
		return fmt.Errorf("no holdfast serve runs with the home directory %s; start one: holdfast serve -c FILE, or name its directory with --home", dir)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

// allPages asks for all pages of a list.
func allPages[T any](cmd *cobra.Command, c *client.Client, operation string, params map[string]any) (*control.Page[T], error) {
	all := &control.Page[T]{Version: 1, Items: []T{}}
	params["limit"] = 1000
	for {
		var page control.Page[T]
		if err := c.Call(cmd.Context(), operation, params, &page); err != nil {
			return nil, err
		}
		all.Items = append(all.Items, page.Items...)
		if page.Next == "" || len(page.Items) == 0 {
			return all, nil
		}
		params["cursor"] = page.Next
	}
}

// listing makes a command that shows a list.
func listing[T any](use, short, operation, takes, head string, row func(w io.Writer, item *T)) *cobra.Command {
	return live(use, short, "holdfast "+strings.ReplaceAll(operation, ".", " "), cobra.NoArgs, "json "+takes, func(cmd *cobra.Command, c *client.Client, o *liveOptions, _ []string) error {
		page, err := allPages[T](cmd, c, operation, o.params())
		if err != nil {
			return err
		}
		if o.asJSON {
			return printJSON(cmd, page)
		}
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, head)
		for i := range page.Items {
			row(t, &page.Items[i])
		}
		return t.Flush()
	})
}

// doing makes a command that changes something and says what.
func doing(use, short, example, operation, takes string, args cobra.PositionalArgs, fill func(p map[string]any, args []string)) *cobra.Command {
	return live(use, short, example, args, "json "+takes, func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
		p := o.params()
		fill(p, args)
		var done control.Done
		if err := c.Call(cmd.Context(), operation, p, &done); err != nil {
			return err
		}
		if o.asJSON {
			return printJSON(cmd, done)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), done.What)
		return err
	})
}

func printSecret(w io.Writer, s *control.Secret) {
	value := fmt.Sprintf("(%d bytes)", s.Bytes)
	if s.Value != nil {
		value = plain(*s.Value)
	}
	name := plain(s.Name)
	if s.Session > 0 {
		name = fmt.Sprintf("%s (session %d)", name, s.Session)
	}
	fmt.Fprintf(w, "%s\t%s\n", name, value)
}

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Look at the tokens of a running serve, and set them",
		Example: "  holdfast token list --identity alice\n  holdfast token set ACCESS eyJhbGciOi…",
	}
	name := func(p map[string]any, args []string) { p["name"] = args[0] }
	cmd.AddCommand(
		listing("list", "List the tokens of an identity", "token.list", "identity reveal", "TOKEN\tVALUE", printSecret),
		doing("set NAME VALUE", "Give a token a value", "holdfast token set ACCESS eyJhbGciOi… --identity alice", "token.set", "identity session", cobra.ExactArgs(2),
			func(p map[string]any, args []string) { p["name"], p["value"] = args[0], args[1] }),
		doing("delete NAME", "Take a token's value away", "holdfast token delete ACCESS --identity alice", "token.delete", "identity session", cobra.ExactArgs(1), name))
	return cmd
}

func variableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "variable", Short: "Look at the variables of a running serve, and set them",
		Example: "  holdfast variable list --global\n  holdfast variable set BASE https://shop.example --global",
	}
	name := func(p map[string]any, args []string) { p["name"] = args[0] }
	cmd.AddCommand(
		listing("list", "List the variables of an identity", "variable.list", "identity reveal global", "VARIABLE\tVALUE", printSecret),
		doing("set NAME VALUE", "Give a variable a value; the project keeps it", "holdfast variable set BASE https://shop.example --global", "variable.set", "identity global", cobra.ExactArgs(2),
			func(p map[string]any, args []string) { p["name"], p["value"] = args[0], args[1] }),
		doing("delete NAME", "Take a variable away; the project keeps that it is gone", "holdfast variable delete BASE --global", "variable.delete", "identity global", cobra.ExactArgs(1), name))
	return cmd
}

func ruleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rule", Short: "Look at the rules of a running serve, and change them",
		Example: "  holdfast rule list\n  holdfast rule disable shop",
	}
	name := func(p map[string]any, args []string) { p["name"] = args[0] }
	cmd.AddCommand(
		listing("list", "List the rules", "rule.list", "", "RULE\tENABLED\tPRIORITY\tRECOVERY\tTOKENS\tORIGIN", func(w io.Writer, r *control.Rule) {
			fmt.Fprintf(w, "%s\t%t\t%d\t%s\t%s\t%s\n", plain(r.Name), r.Enabled, r.Priority, orDash(r.Recovery), orDash(r.Tokens), r.Origin)
		}),
		live("show NAME", "Show a rule", "holdfast rule show shop", cobra.ExactArgs(1), "json", showRule),
		doing("enable NAME", "Switch a rule on; the project keeps it", "holdfast rule enable shop", "rule.enable", "", cobra.ExactArgs(1), name),
		doing("disable NAME", "Switch a rule off; the project keeps it", "holdfast rule disable shop", "rule.disable", "", cobra.ExactArgs(1), name))
	cmd.AddCommand(entryCommands("rule")...)
	return cmd
}

func showRule(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
	var r control.Rule
	if err := c.Call(cmd.Context(), "rule.get", map[string]any{"name": args[0]}, &r); err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(cmd, r)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "rule      %s %s\nenabled   %t\npriority  %d\ndead when %s\nrecovery  %s\nconfirm   %s\nprobe     %s\ntokens    %s\nactions   %s\n", plain(r.Name), r.ID, r.Enabled, r.Priority,
		or(r.Dead, "-"), orDash(r.Recovery), or(r.Confirm, "-"), or(r.Probe, "-"), orDash(r.Tokens), orDash(r.Actions))
	return err
}

func identityCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "identity", Short: "Look at the identities of a running serve",
		Example: "  holdfast identity list --json",
	}
	cmd.AddCommand(listing("list", "List the identities", "identity.list", "", "IDENTITY\tSTATES\tTOKENS\tCOOKIES\tVARIABLES", func(w io.Writer, i *control.Identity) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", plain(i.Name), orDash(i.States), orDash(i.Tokens), i.Cookies, orDash(i.Variables))
	}))
	return cmd
}

func sessionRefreshCommand() *cobra.Command {
	return live("refresh [IDENTITY]", "Make new sessions of an identity now; a login that fails counts for the lockout", "holdfast session refresh alice", cobra.MaximumNArgs(1), "json",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			run, err := finish(cmd, c, "session.refresh", map[string]any{"identity": whose(args)})
			if err != nil {
				return err
			}
			if o.asJSON {
				if err := printJSON(cmd, run); err != nil {
					return err
				}
			}
			if err := ended(run); err != nil {
				return err
			}
			if !o.asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d sessions are new\n", run.State, len(run.Sessions))
			}
			return nil
		})
}

// whose is the identity that an argument names, or the one that speaks where
// nobody is named.
func whose(args []string) string { return append(args[:len(args):len(args)], "-")[0] }

// servedProject is the home directory, and the project as a serve announces it;
// "" where the flags name none.
func servedProject(cmd *cobra.Command) (dir, project string, err error) {
	dsn, dir, err := projectPlace(cmd)
	if err == nil && (cmd.Flags().Changed("project") || cmd.Flags().Changed("store")) {
		project = announced(dsn)
	}
	return dir, project, err
}
