package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
)

func checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE…",
		Short: "Say what is wrong with configuration files",
		Long: `Say what is wrong with configuration files: every mistake with its file, line,
column and next step. Nothing is sent. Exit code 0: every file is good (there may
be warnings); 1: there are mistakes.`,
		Example: "  holdfast check shop.yaml",
		Args:    needs("a file", cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return check(cmd, args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// checkResult is the JSON shape of one file, version 1.
type checkResult struct {
	Version  int             `json:"v"`
	File     string          `json:"file"`
	Good     bool            `json:"good"`
	Errors   config.Errors   `json:"errors"`
	Warnings config.Warnings `json:"warnings"`
}

func check(cmd *cobra.Command, paths []string, asJSON bool) error {
	bad := false
	var results []checkResult
	for _, path := range paths {
		file, warnings, err := config.Load(path, config.Options{})
		var mistakes config.Errors
		if err != nil && !errors.As(err, &mistakes) {
			return err
		}
		bad = bad || err != nil
		if asJSON {
			results = append(results, checkResult{1, path, err == nil, mistakes, warnings})
			continue
		}
		warnings.Format(cmd.ErrOrStderr())
		mistakes.Format(cmd.ErrOrStderr())
		if err == nil {
			for _, problem := range holdfast.BrowserProblems(file) {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+problem)
			}
			fmt.Fprintln(cmd.OutOrStdout(), file)
		}
	}
	if asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return err
		}
	}
	if bad {
		return exitCode(exitError)
	}
	return nil
}
