package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/control"
)

// completers are what writes the script of each shell.
func completers(root *cobra.Command) map[string]func(cmd *cobra.Command) error {
	return map[string]func(*cobra.Command) error{
		"bash":       func(cmd *cobra.Command) error { return root.GenBashCompletionV2(cmd.OutOrStdout(), true) },
		"zsh":        func(cmd *cobra.Command) error { return root.GenZshCompletion(cmd.OutOrStdout()) },
		"fish":       func(cmd *cobra.Command) error { return root.GenFishCompletion(cmd.OutOrStdout(), true) },
		"powershell": func(cmd *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(cmd.OutOrStdout()) },
	}
}

func completionCommand(root *cobra.Command) *cobra.Command {
	shells := completers(root)
	names := slices.Sorted(maps.Keys(shells))
	return &cobra.Command{
		Use:   "completion bash|fish|powershell|zsh",
		Short: "Write a script that has a shell complete commands, flags and names",
		Long: `Write a script that has a shell complete commands, flags and names. Names of
identities, rules and macros come from the file of -c where it stands on the line,
else from the serve that runs with this home directory.

  bash         source <(holdfast completion bash)
  zsh          holdfast completion zsh > "${fpath[1]}/_holdfast"
  fish         holdfast completion fish > ~/.config/fish/completions/holdfast.fish
  powershell   holdfast completion powershell | Out-String | Invoke-Expression

The first and the last of these belong into the shell's profile; bash needs the
package bash-completion.`,
		Example:   "  holdfast completion zsh > \"${fpath[1]}/_holdfast\"",
		ValidArgs: names,
		Args:      usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			write := shells[args[0]]
			if write == nil {
				return usageError{fmt.Errorf("%q is no shell that is known here; write one of %s", args[0], strings.Join(names, ", "))}
			}
			return write(cmd)
		},
	}
}

// names are what can stand in a place: those that a configuration has, and
// those that a running serve tells.
type names struct {
	ofFile func(*config.File) []string
	ofLive func(*cobra.Command, *client.Client) []string
	ofHome func(dir string) []string
}

func identityNames() names {
	return names{
		ofFile: func(f *config.File) []string { return f.Order },
		ofLive: func(cmd *cobra.Command, c *client.Client) []string {
			return liveNames(cmd, c, "identity.list", func(i *control.Identity) string { return i.Name })
		},
	}
}

func ruleNames() names {
	return names{
		ofFile: func(f *config.File) (all []string) {
			for _, r := range f.Rules {
				all = append(all, r.Name)
			}
			return all
		},
		ofLive: func(cmd *cobra.Command, c *client.Client) []string {
			return liveNames(cmd, c, "rule.list", func(r *control.Rule) string { return r.Name })
		},
	}
}

func macroNames() names {
	return names{ofFile: func(f *config.File) (all []string) {
		for _, m := range f.Macros {
			all = append(all, m.Name)
		}
		return all
	}}
}

// projectNamesOf are the files in a home directory that are projects.
func projectNamesOf() names {
	return names{ofHome: func(dir string) (all []string) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.db"))
		for _, f := range files {
			all = append(all, strings.TrimSuffix(filepath.Base(f), ".db"))
		}
		return all
	}}
}

// addCompletion says what the words of the commands below root can be. It is
// the one table of that; what is not in it completes to files.
func addCompletion(root *cobra.Command) {
	flags := map[string]names{"as": identityNames(), "identity": identityNames(), "project": projectNamesOf()}
	args := map[string]names{
		"holdfast session refresh": identityNames(), "holdfast session unlock": identityNames(),
		"holdfast rule enable": ruleNames(), "holdfast rule disable": ruleNames(),
		"holdfast macro show": macroNames(), "holdfast macro test": macroNames(), "holdfast doctor": ruleNames(),
		"holdfast project delete": projectNamesOf(),
	}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for flag, n := range flags {
			if cmd.Flags().Lookup(flag) != nil || cmd.PersistentFlags().Lookup(flag) != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, n.complete) // an error: somebody else has said what
			}
		}
		if cmd.Flags().Lookup("config") != nil {
			_ = cmd.MarkFlagFilename("config", "yaml", "yml", "json")
		}
		if cmd.Flags().Lookup("framing") != nil {
			_ = cmd.RegisterFlagCompletionFunc("framing", cobra.FixedCompletions([]string{"strict", "lenient", "raw"}, cobra.ShellCompDirectiveNoFileComp))
		}
		if n, ok := args[cmd.CommandPath()]; ok {
			cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
				if len(args) > 0 {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return n.complete(cmd, args, typed)
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
}

// complete lists the names. Nothing is said where they cannot be had: whoever
// types does not want to read that now.
func (n names) complete(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var all []string
	dir, err := home(cmd)
	path := ""
	if f := cmd.Flags().Lookup("config"); f != nil {
		path = f.Value.String()
	}
	switch {
	case path != "" && n.ofFile != nil:
		// What the environment lacks does not matter for names.
		file, _, _ := config.Load(path, config.Options{Env: func(name string) (string, bool) { return cmp.Or(os.Getenv(name), "-"), true }})
		if file != nil {
			all = n.ofFile(file)
		}
	case n.ofHome != nil && err == nil:
		all = n.ofHome(dir)
	case n.ofLive != nil && err == nil:
		if c, err := client.Open(dir); err == nil {
			defer c.Close()
			all = n.ofLive(cmd, c)
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" }), cobra.ShellCompDirectiveNoFileComp
}

// liveNames asks a running serve for the names in a list.
func liveNames[T any](cmd *cobra.Command, c *client.Client, operation string, name func(*T) string) (all []string) {
	page, err := allPages[T](cmd, c, operation, map[string]any{})
	if err != nil {
		return nil
	}
	for i := range page.Items {
		all = append(all, plain(name(&page.Items[i])))
	}
	return all
}
