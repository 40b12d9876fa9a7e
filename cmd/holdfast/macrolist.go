package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/macro"
)

// listedMacro is the JSON shape of one macro, version 1.
type listedMacro struct {
	Version  int          `json:"v"`
	Name     string       `json:"name"`
	ID       string       `json:"id"`
	Inputs   []string     `json:"inputs"`
	Needs    []string     `json:"needs"`    // variables from outside
	Produces []string     `json:"produces"` // tokens
	Steps    []listedStep `json:"steps"`
}

type listedStep struct {
	Name    string   `json:"name,omitempty"`
	Line    string   `json:"line"` // the request line, or what else it does
	Uses    []string `json:"uses"`
	Takes   []string `json:"takes"`
	Expects string   `json:"expects,omitempty"`
	Request string   `json:"request,omitempty"` // with --reveal
}

func listed(m *macro.Macro, reveal bool) listedMacro {
	out := listedMacro{Version: 1, Name: m.Name, ID: m.ID, Inputs: []string{}, Needs: append([]string{}, m.Names()...), Produces: append([]string{}, m.Produces()...), Steps: []listedStep{}}
	for _, in := range m.Inputs {
		out.Inputs = append(out.Inputs, in.Name)
	}
	for i := range m.Steps {
		s := &m.Steps[i]
		step := listedStep{Name: s.Name, Uses: []string{}, Takes: []string{}}
		switch {
		case s.Request != nil:
			text := s.Request.String()
			step.Line, _, _ = strings.Cut(strings.TrimLeft(text, "\r\n"), "\n")
			step.Line, _, _ = strings.Cut(strings.TrimSpace(step.Line), "?") // a literal token may stand there
			step.Uses = append(step.Uses, s.Request.Names()...)
			if reveal {
				step.Request = text
			}
		case s.Script != nil:
			step.Line = "runs the script of " + s.Script.Name()
			step.Uses = append(step.Uses, s.Script.Gets()...)
			for _, name := range s.Script.Sets() {
				step.Takes = append(step.Takes, name+" from the script")
			}
		case s.Exec != nil:
			step.Line = "runs a program"
		default:
			step.Line = "asks a person"
		}
		for _, x := range s.Extract {
			word := x.Token + " from " + x.Source.String()
			if x.Optional {
				word += ", optional"
			}
			step.Takes = append(step.Takes, word)
		}
		if s.Expect != nil {
			step.Expects = s.Expect.String()
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}

func macroListCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list -c FILE",
		Short:   "List the macros of a configuration",
		Example: "  holdfast macro list -c shop.yaml",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := loadMacros(cmd, file)
			if err != nil {
				return err
			}
			if asJSON {
				all := []listedMacro{}
				for _, m := range f.Macros {
					all = append(all, listed(m, false))
				}
				return printJSON(cmd, all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tSTEPS\tNEEDS\tBRINGS")
			for _, m := range f.Macros {
				fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", m.Name, len(m.Steps), orDash(m.Names()), orDash(m.Produces()))
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func macroShowCommand() *cobra.Command {
	var file string
	var asJSON, reveal bool
	cmd := &cobra.Command{
		Use:   "show -c FILE NAME",
		Short: "Show a macro: what each step uses, takes and expects",
		Long: `Show a macro: what each step uses, takes and expects. Requests are shown without
their query, fields and body, where passwords may stand; --reveal shows them.`,
		Example: "  holdfast macro show -c shop.yaml login",
		Args:    needs("the name of a macro", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := loadMacros(cmd, file)
			if err != nil {
				return err
			}
			for _, m := range f.Macros {
				if m.Name != args[0] && m.ID != args[0] {
					continue
				}
				l := listed(m, reveal)
				if asJSON {
					return printJSON(cmd, l)
				}
				l.print(cmd)
				return nil
			}
			return fmt.Errorf("there is no macro %q in %s", args[0], file)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&reveal, "reveal", false, "show requests as they are written")
	return cmd
}

func loadMacros(cmd *cobra.Command, file string) (*config.File, error) {
	if file == "" {
		return nil, usageError{errors.New(strings.TrimPrefix(cmd.CommandPath(), "holdfast ") + " needs -c FILE")}
	}
	return load(cmd.ErrOrStderr(), file)
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

func (l *listedMacro) print(cmd *cobra.Command) {
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
