package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/control"
)

func macroListCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [-c FILE]",
		Short:   "List the macros of a configuration, or of a running serve",
		Example: "  holdfast macro list -c shop.yaml\n  holdfast macro list --json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := macrosOf(cmd, file)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tSTEPS\tNEEDS\tBRINGS\tORIGIN")
			for _, m := range all {
				fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\n", m.Name, len(m.Steps), orDash(m.Needs), orDash(m.Produces), m.Origin)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE` (default what a running serve has)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// macrosOf are the macros of a file, or of a running serve where none is named.
func macrosOf(cmd *cobra.Command, file string) ([]control.Macro, error) {
	all := []control.Macro{}
	if file == "" {
		err := onServe(cmd, func(c *client.Client) error {
			page, err := allPages[control.Macro](cmd, c, "macro.list", map[string]any{})
			if err == nil {
				all = page.Items
			}
			return err
		})
		return all, err
	}
	f, err := load(cmd.ErrOrStderr(), file)
	if err != nil {
		return nil, err
	}
	for _, m := range f.Macros {
		shown := control.ShowMacro(m, false)
		shown.Origin = f.By(config.EntryMacro, m.Name)
		all = append(all, shown)
	}
	return all, nil
}

func macroShowCommand() *cobra.Command {
	var file string
	var asJSON, reveal bool
	cmd := &cobra.Command{
		Use:   "show [-c FILE] NAME",
		Short: "Show a macro: what each step uses, takes and expects",
		Long: `Show a macro: what each step uses, takes and expects. Requests are shown without
their query, fields and body, where passwords may stand; --reveal shows them.
Without -c it is a macro of a running serve.`,
		Example: "  holdfast macro show -c shop.yaml login\n  holdfast macro show login --json",
		Args:    needs("the name of a macro", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			show := func(l *control.Macro) error {
				if asJSON {
					return printJSON(cmd, l)
				}
				printMacro(cmd, l)
				return nil
			}
			if file == "" {
				return onServe(cmd, func(c *client.Client) error {
					p, l := map[string]any{"name": args[0]}, control.Macro{}
					if reveal {
						p["reveal"] = true
					}
					if err := c.Call(cmd.Context(), "macro.get", p, &l); err != nil {
						return err
					}
					return show(&l)
				})
			}
			f, err := load(cmd.ErrOrStderr(), file)
			if err != nil {
				return err
			}
			for _, m := range f.Macros {
				if m.Name != args[0] && m.ID != args[0] {
					continue
				}
				l := control.ShowMacro(m, reveal)
				return show(&l)
			}
			return fmt.Errorf("there is no macro %q in %s", args[0], file)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE` (default what a running serve has)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&reveal, "reveal", false, "show requests as they are written")
	return cmd
}

func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func orDash(names []string) string {
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}

func printMacro(cmd *cobra.Command, l *control.Macro) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s  %s\ninputs %s; needs %s; brings %s\n", l.Name, l.ID, orDash(l.Inputs), orDash(l.Needs), orDash(l.Produces))
	for i, s := range l.Steps {
		fmt.Fprintf(w, "\nstep %d  %s\n", i+1, s.Line)
		if s.Name != "" {
			fmt.Fprintf(w, "  name     %s\n", s.Name)
		}
		fmt.Fprintf(w, "  uses     %s\n", orDash(s.Uses))
		for _, t := range s.Takes {
			fmt.Fprintf(w, "  takes    %s\n", t)
		}
		if s.Expects != "" {
			fmt.Fprintf(w, "  expects  %s\n", s.Expects)
		}
		if s.Request != "" {
			indent(w, "  | ", s.Request)
		}
	}
}
