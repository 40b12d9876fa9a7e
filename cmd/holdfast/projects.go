package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/store"
)

func projectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Look at projects, and take them elsewhere as one file",
		Long: `Look at projects, and take them elsewhere as one file. A project is what survives
a restart: sessions, tokens, cookies, counts of failed logins, and the history.`,
		Example: "  holdfast project list\n  holdfast project export shop.holdfast --project shop",
	}
	cmd.AddCommand(projectListCommand(), projectInfoCommand(), projectExportCommand(), projectImportCommand(), projectDeleteCommand(), projectKeyCommand())
	return cmd
}

// shownProject is the JSON shape of a project in a list, version 1.
type shownProject struct {
	Version int       `json:"v"`
	Name    string    `json:"name"`
	Path    string    `json:"path"`
	Bytes   int64     `json:"bytes"`
	Changed time.Time `json:"changed"`
}

func projectListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the projects in the home directory",
		Example: "  holdfast project list",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := home(cmd)
			if err != nil {
				return err
			}
			files, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			all := []shownProject{}
			for _, f := range files {
				name, is := strings.CutSuffix(f.Name(), ".db")
				info, err := f.Info()
				if !is || err != nil || !info.Mode().IsRegular() {
					continue
				}
				p := shownProject{1, name, filepath.Join(dir, f.Name()), info.Size(), info.ModTime().UTC()}
				if log, err := os.Stat(p.Path + "-wal"); err == nil { // what is new stands there while somebody has it open
					p.Bytes += log.Size()
					if log.ModTime().After(p.Changed) {
						p.Changed = log.ModTime().UTC()
					}
				}
				all = append(all, p)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tBYTES\tCHANGED")
			for _, p := range all {
				fmt.Fprintf(t, "%s\t%d\t%s\n", plain(p.Name), p.Bytes, p.Changed.Format(time.RFC3339))
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shownFigures is the JSON shape of what a project has, version 1.
type shownFigures struct {
	Version int        `json:"v"`
	Flows   int64      `json:"flows"`
	Oldest  *time.Time `json:"oldest,omitempty"`
	Newest  *time.Time `json:"newest,omitempty"`
	State   int64      `json:"state_rows"`
	Bytes   int64      `json:"content_bytes"`
}

func projectInfoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Tell how much a project has",
		Long: `Tell how much the project has that --project or --store names: flows, rows of
sessions, tokens, cookies and counts, and the bytes of contents, compressed.`,
		Example: "  holdfast project info --project shop",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openExisting(cmd)
			if err != nil {
				return err
			}
			defer s.Close()
			f, err := s.Figures(cmd.Context())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				shown := shownFigures{Version: 1, Flows: f.Flows, State: f.State, Bytes: f.Bytes}
				if f.Flows > 0 {
					shown.Oldest, shown.Newest = &f.Oldest, &f.Newest
				}
				return json.NewEncoder(out).Encode(shown)
			}
			fmt.Fprintf(out, "flows       %d\n", f.Flows)
			if f.Flows > 0 {
				fmt.Fprintf(out, "oldest      %s\nnewest      %s\n", f.Oldest.Format(time.RFC3339), f.Newest.Format(time.RFC3339))
			}
			fmt.Fprintf(out, "state rows  %d\ncontents    %d bytes\n", f.State, f.Bytes)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func projectDeleteCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a project of the home directory",
		Long: `Delete a project of the home directory: its history, and its sessions, tokens and
cookies. There is no way back. One that is in use is not deleted. A schema of
PostgreSQL is deleted there, by DROP SCHEMA.`,
		Example: "  holdfast project delete shop --yes",
		Args:    needs("the name of a project", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !regexp.MustCompile(projectNames).MatchString(args[0]) {
				return usageError{fmt.Errorf("%q is no name of a project in the home directory: holdfast project list tells them", args[0])}
			}
			if cmd.Flags().Changed("project") || cmd.Flags().Changed("store") {
				return usageError{errors.New("project delete takes the name as its argument, without --project and --store")}
			}
			if !yes {
				return usageError{fmt.Errorf("everything in %s would be lost: say so with --yes", args[0])}
			}
			dir, err := home(cmd)
			if err != nil {
				return err
			}
			return store.Delete(cmd.Context(), filepath.Join(dir, args[0]+".db"))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really")
	return cmd
}

// dsnShown is a DSN without its password.
func dsnShown(dsn string) string {
	if !store.IsPostgres(dsn) {
		return dsn
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "the PostgreSQL store"
	}
	return u.Redacted()
}

// announced is how a serve names its project: a file by its whole path, which
// does not depend on where a command runs.
func announced(dsn string) string {
	if store.IsPostgres(dsn) {
		return dsnShown(dsn)
	}
	if path, err := filepath.Abs(dsn); err == nil {
		return path
	}
	return dsn
}
