package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/store"
)

// addProject adds the flags that say what survives a restart, and where.
func addProject(root *cobra.Command) {
	f := root.PersistentFlags()
	f.String("project", "", "`name` of the project in the home directory that sessions, tokens, cookies and counts are kept in over a restart (default default)")
	f.String("store", "", "file of a project elsewhere, or postgres://… `DSN` of one that several nodes share")
	f.String("key", "", "where the key of a new home directory goes: file (store.key, the default) or `keyring` of the system; holdfast project key move moves it")
	f.String("listen-dsn", "", "postgres://… `DSN` of the same database past a pooler such as PgBouncer: what tells nodes of changes needs a connection of its own")
}

// projectNames are what a project in the home directory may be called.
const projectNames = `^[\pL\pN_][\pL\pN_.-]{0,99}$`

// projectPlace is the DSN of the project that the flags name, and the home
// directory.
func projectPlace(cmd *cobra.Command) (dsn, dir string, err error) {
	if dir, err = home(cmd); err != nil {
		return "", "", err
	}
	name, _ := cmd.Flags().GetString("project")
	dsn, _ = cmd.Flags().GetString("store")
	switch {
	case dsn != "" && name != "":
		return "", "", usageError{fmt.Errorf("--project names a project in the home directory, and --store one elsewhere: give one of them")}
	case name == "":
		name = "default"
	case !regexp.MustCompile(projectNames).MatchString(name):
		return "", "", usageError{fmt.Errorf("--project %q: a name is letters, digits, and after the first also . _ or -; a file elsewhere is --store FILE", name)}
	}
	if dsn == "" {
		dsn = filepath.Join(dir, name+".db")
	}
	return dsn, dir, nil
}

// existingProject is openProject for commands that look into a project: they
// make none.
func existingProject(cmd *cobra.Command) (*store.Store, error) {
	dsn, _, err := projectPlace(cmd)
	if err != nil {
		return nil, err
	}
	if !store.IsPostgres(dsn) {
		if _, err := os.Stat(dsn); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no project %s; name one with --project, --store or --home", dsn)
		}
	}
	return openProject(cmd)
}

// openProject opens the project that the flags name. It must be closed.
func openProject(cmd *cobra.Command) (*store.Store, error) {
	dsn, dir, err := projectPlace(cmd)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the home directory cannot be made: %w; name another with --home", err)
	}
	key, err := projectKey(cmd, dir)
	if err != nil {
		return nil, err
	}
	direct, _ := cmd.Flags().GetString("listen-dsn")
	if direct != "" && (!store.IsPostgres(dsn) || !store.IsPostgres(direct)) {
		return nil, usageError{fmt.Errorf("--listen-dsn is for --store postgres://…, and a DSN like that one")}
	}
	warn := cmd.ErrOrStderr()
	return store.Open(cmd.Context(), store.Options{DSN: dsn, Direct: direct, Key: key,
		Warn: func(format string, args ...any) { fmt.Fprintf(warn, "holdfast: "+format+"\n", args...) }})
}

// claimProject has this process be the only one that logs in for the sessions of
// a project that is a file. With shares it goes on beside another one, and,
// where it logs in, says what may come of that; the claim is nil then.
func claimProject(cmd *cobra.Command, shares, logsIn bool) (*store.Claim, error) {
	dsn, _, err := projectPlace(cmd)
	if err != nil {
		return nil, err
	}
	claim, err := store.NewClaim(dsn, cmd.CommandPath())
	var claimed *store.Claimed
	switch {
	case !errors.As(err, &claimed):
		return claim, err
	case shares && !logsIn:
		return nil, nil
	case shares:
		fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %v too: each logs in for itself, which may end the other's sessions; give one of them another --project, or both --store postgres://…\n", claimed)
		return nil, nil
	}
	return nil, fmt.Errorf("%w, and processes on one file would each log in: use that one, end it, or give this one another --project; several nodes share sessions with --store postgres://…", claimed)
}
