package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// everyCommand is the tree of commands for people.
func everyCommand(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if shown(c) {
			all = append(all, everyCommand(c)...)
		}
	}
	return all
}

// tree is that of a command line that was run: help has been added then.
func tree(t *testing.T) []*cobra.Command {
	t.Helper()
	root := rootCommand()
	root.InitDefaultHelpCmd()
	all := everyCommand(root)
	if len(all) < 40 {
		t.Fatalf("the tree has %d commands; was it walked?", len(all))
	}
	return all
}

// TestTableOfCommandsExplainsItself: each command says what it is, shows a line
// that uses it, and its help ends well and has no colours.
func TestTableOfCommandsExplainsItself(t *testing.T) {
	t.Setenv("CLICOLOR_FORCE", "1") // colours are for terminals; this is none
	for _, cmd := range tree(t) {
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is %q; want one sentence without a full stop", path, cmd.Short)
		}
		if !strings.Contains(cmd.Example, path) || !strings.HasPrefix(cmd.Example, "  holdfast") {
			t.Errorf("%s: Example is %q; want lines of two spaces and a command, one of them %s", path, cmd.Example, path)
		}
		// A command with flags of its own has more to say than one line.
		if cmd.Long == "" && cmd.Runnable() && cmd.LocalNonPersistentFlags().HasAvailableFlags() && !strings.Contains(path, " list") && !strings.Contains(path, " show") && !strings.Contains(path, " export") {
			t.Errorf("%s has flags and no Long", path)
		}
		cmd.LocalFlags().VisitAll(flagUsage(t, path))
		var out, said bytes.Buffer
		args := append(strings.Fields(path)[1:], "--help")
		if code := execute(t.Context(), args, terminal{strings.NewReader(""), &out, &said}); code != 0 {
			t.Errorf("%s --help: exit code %d, %s", path, code, said.Bytes())
		}
		if text := out.String(); !strings.Contains(text, "Usage:") || !strings.Contains(text, "Examples:") || strings.Contains(text, "\x1b") {
			t.Errorf("%s --help:\n%q", path, text)
		}
	}
}

// TestManPages: there is one for each command, and mandoc finds nothing wrong.
func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	var said bytes.Buffer
	if code := execute(t.Context(), []string{"man", dir}, terminal{strings.NewReader(""), io.Discard, &said}); code != 0 {
		t.Fatalf("exit code %d: %s", code, said.Bytes())
	}
	var paths []string
	for _, cmd := range tree(t) {
		path := filepath.Join(dir, pageName(cmd)+".1")
		page, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%s has no page: %v", cmd.CommandPath(), err)
		}
		for i, r := range string(page) {
			if r > 0x7e {
				t.Errorf("%s:%d: %q is not in the character set of every terminal", path, i, r)
				break
			}
		}
		paths = append(paths, path)
	}
	written, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(written) != len(paths) {
		t.Errorf("%d pages for %d commands (%v)", len(written), len(paths), err)
	}
	// A page without a date is on purpose.
	out, err := exec.CommandContext(t.Context(), "mandoc", append([]string{"-T", "lint", "-W", "warning"}, paths...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "missing date") {
			t.Errorf("mandoc: %s", line)
		}
	}
	if len(out) == 0 && err != nil {
		t.Error(err)
	}
	text, err := exec.CommandContext(t.Context(), "mandoc", "-T", "ascii", filepath.Join(dir, "holdfast-run.1")).Output()
	if plain := strings.ReplaceAll(string(text), "\b", ""); err != nil || !strings.Contains(plain, "REQUESTS_CA_BUNDLE") || !strings.Contains(plain, "ffuf -x {proxy}") {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestCompletionScripts: each shell that is here can read its script.
func TestCompletionScripts(t *testing.T) {
	for shell, check := range map[string][]string{
		"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "--no-execute"}, "powershell": nil,
	} {
		var out, said bytes.Buffer
		if code := execute(t.Context(), []string{"completion", shell}, terminal{strings.NewReader(""), &out, &said}); code != 0 || out.Len() < 1000 {
			t.Errorf("%s: exit code %d, %d bytes: %s", shell, code, out.Len(), said.Bytes())
		}
		if check == nil {
			continue // not to be had on every system that runs the tests
		}
		path := filepath.Join(t.TempDir(), "holdfast."+shell)
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if answer, err := exec.CommandContext(t.Context(), check[0], append(check[1:], path)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, answer)
		}
	}
}

// flagUsage wants a word of explanation for each flag.
func flagUsage(t *testing.T, path string) func(*pflag.Flag) {
	return func(f *pflag.Flag) {
		if f.Usage == "" {
			t.Errorf("%s: --%s is not explained", path, f.Name)
		}
	}
}
