// Command holdfast is an intercepting proxy that keeps every tool behind it
// logged in. `holdfast help` lists its commands; `holdfast` alone is `holdfast
// serve`.
//
// Exit codes: 0 done, 1 error, 2 usage, 3 the session was lost. `holdfast run`
// ends with the exit code of the command that it ran unless the session was
// lost.
//
// What is not here: no behaviour of the proxy. Each file is one subcommand and
// holds its flags and its words.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], terminal{os.Stdin, os.Stdout, os.Stderr}))
}

// terminal is where a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

// exitCode is an error that only carries the program's exit code: what there
// was to say has been said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// The exit codes.
const (
	exitError = 1
	exitUsage = 2
	exitLost  = 3
)

// usageError is a mistake in the words of a command line.
type usageError struct{ error }

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, t terminal) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(t.in)
	root.SetOut(t.out)
	root.SetErr(t.err)
	cmd, err := root.ExecuteContextC(ctx)
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(t.err, "holdfast: %v\nSee: holdfast help%s\n", err, strings.TrimPrefix(cmd.CommandPath(), "holdfast"))
		return exitUsage
	}
	fmt.Fprintf(t.err, "holdfast: %v\n", err)
	return exitError
}

func rootCommand() *cobra.Command {
	serve := serveCommand()
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "An intercepting proxy that keeps every tool behind it logged in",
		Long: `Holdfast is an intercepting proxy that keeps every tool behind it logged in.

Point a browser, curl, ffuf, sqlmap, Burp or ZAP at it. It sees that the session
died, gets a new one exactly once, puts the new tokens into every later request,
and sends the request that hit the dead session again.

holdfast alone is holdfast serve. Exit codes: 0 done, 1 error, 2 usage,
3 the session was lost.`,
		Example: `  holdfast demo                                 see it work, in 15 seconds
  holdfast serve -c shop.yaml                   proxy on 127.0.0.1:8080
  holdfast run -c shop.yaml -- ffuf -u https://shop.example/FUZZ -w words.txt`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          serve.RunE,
	}
	root.Flags().AddFlagSet(serve.Flags())
	root.PersistentFlags().String("home", "", "directory of the CA and of what survives a restart (default $HOLDFAST_HOME, or holdfast in $XDG_DATA_HOME)")
	addProject(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(completionCommand(root), manCommand(), mcpCommand())
	root.AddCommand(statusCommand(), openCommand(), metricsCommand(), configCommand(), runsCommand())
	root.AddCommand(serve, runCommand(), checkCommand(), explainCommand(), testCommand(), traceCommand(), flowCommand(), demoCommand(), caCommand(), sessionCommand(), tokenCommand(), cookieCommand(), variableCommand(), ruleCommand(), identityCommand(), macroCommand(), learnCommand(), doctorCommand(), projectCommand(), versionCommand())
	addCompletion(root)
	return root
}

// needs says in words what a command's arguments must be.
func needs(what string, check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) != nil {
			return usageError{fmt.Errorf("%s needs %s", strings.TrimPrefix(cmd.CommandPath(), "holdfast "), what)}
		}
		return nil
	}
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
