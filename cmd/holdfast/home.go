package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// home is the directory that --home, $HOLDFAST_HOME or the XDG base directory
// specification names, in this order.
func home(cmd *cobra.Command) (string, error) {
	if dir, _ := cmd.Flags().GetString("home"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("HOLDFAST_HOME"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "holdfast"), nil
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("there is no home directory; name one with --home")
	}
	return filepath.Join(dir, ".local", "share", "holdfast"), nil
}
