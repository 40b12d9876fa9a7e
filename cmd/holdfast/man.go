package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The pages are written from the tree of commands, so that they cannot say
// another thing than --help. They have no date: the same program makes the same
// bytes.

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Long: `Write the manual pages into a directory: holdfast.1, and one for each command,
such as holdfast-run.1. They say what --help says.`,
		Example: "  holdfast man ~/.local/share/man/man1 && man holdfast-run",
		Args:    needs("a directory", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			pages := map[string][]byte{}
			addPages(pages, cmd.Root())
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("the directory cannot be made: %w", err)
			}
			for name, page := range pages {
				if err := os.WriteFile(filepath.Join(args[0], name), page, 0o644); err != nil {
					return fmt.Errorf("the page cannot be written: %w", err)
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d pages in %s\n", len(pages), args[0])
			return nil
		},
	}
}

// addPages adds the page of a command and those of the commands below it, by
// the names of their files.
func addPages(pages map[string][]byte, cmd *cobra.Command) {
	pages[pageName(cmd)+".1"] = manPage(cmd)
	for _, c := range cmd.Commands() {
		if shown(c) {
			addPages(pages, c)
		}
	}
}

// shown reports whether a command is one for people.
func shown(c *cobra.Command) bool { return c.IsAvailableCommand() && c.Name() != "help" }

func pageName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "-")
}

// manPage is the page of a command in the man macros of roff.
func manPage(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"holdfast %s\" \"Holdfast\"\n", strings.ToUpper(roff(pageName(cmd))), roff(buildVersion()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	words := strings.TrimSpace(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath()))
	if cmd.HasSubCommands() {
		words = strings.TrimSpace("[command] " + words)
	}
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n%s\n", roff(cmd.CommandPath()), roff(words))
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	fmt.Fprint(&b, ".SH DESCRIPTION\n")
	roffText(&b, long)
	manCommands(&b, cmd)
	manFlags(&b, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&b, "OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	if cmd.Example != "" {
		fmt.Fprint(&b, ".SH EXAMPLES\n")
		roffText(&b, cmd.Example)
	}
	fmt.Fprint(&b, ".SH EXIT STATUS\n")
	for _, line := range [][2]string{{"0", "Done."}, {"1", "An error."}, {"2", "The command line is wrong."}, {"3", "The session was lost (holdfast run, holdfast demo)."}} {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", line[0], line[1])
	}
	if cmd.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(pageName(cmd.Parent())))
	}
	return b.Bytes()
}

func manCommands(b *bytes.Buffer, cmd *cobra.Command) {
	begun := false
	for _, c := range cmd.Commands() {
		if !shown(c) {
			continue
		}
		if !begun {
			fmt.Fprint(b, ".SH COMMANDS\n")
			begun = true
		}
		fmt.Fprintf(b, ".TP\n.BR %s (1)\n%s\n", roff(pageName(c)), roff(c.Short))
	}
}

func manFlags(b *bytes.Buffer, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		names := "\\fB\\-\\-" + roff(f.Name) + "\\fR"
		if f.Shorthand != "" {
			names = "\\fB\\-" + roff(f.Shorthand) + "\\fR, " + names
		}
		if value != "" {
			names += " \\fI" + roff(value) + "\\fR"
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && !strings.Contains(usage, "(default") {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n%s\n%s\n", names, roff(usage))
	})
}

// roffText writes the paragraphs of a section. Lines that begin with a space
// stay as they are.
func roffText(b *bytes.Buffer, text string) {
	begun, literal, fresh := false, false, true
	paragraph := func() {
		if begun {
			b.WriteString(".PP\n") // the section's title is followed by none
		}
		begun = true
	}
	set := func(on bool) {
		switch {
		case on && !literal:
			paragraph()
			b.WriteString(".RS 4\n.nf\n")
		case literal && !on:
			b.WriteString(".fi\n.RE\n")
		}
		literal = on
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.TrimSpace(line) == "":
			set(false)
			fresh = true
			continue
		case strings.HasPrefix(line, " "):
			set(true)
			line = strings.TrimPrefix(line, "  ")
		default:
			if set(false); fresh {
				paragraph()
			}
		}
		fresh = false
		b.WriteString(roff(line) + "\n")
	}
	set(false)
}

// roff is a text as roff shows it literally.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "→", `\->`, "·", `\(bu`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
