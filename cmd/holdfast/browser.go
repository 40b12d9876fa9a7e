package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// recordBrowser opens a window at an address, and writes what a person does
// there as a login in a browser.
func (o *deriveOptions) recordBrowser(cmd *cobra.Command, address string) error {
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		return usageError{fmt.Errorf("--browser %s: write the URL of the login page, https://…", address)}
	}
	if !cmd.Flags().Changed("listen") {
		o.entry.listen = []string{"127.0.0.1:0"} // the window has a port of its own
	}
	o.shares = true
	h, closeAll, err := o.start(cmd)
	if err != nil {
		return err
	}
	defer closeAll()
	defer h.Close()
	running, stop := context.WithCancel(context.WithoutCancel(cmd.Context()))
	defer stop()
	served := make(chan error, 1)
	go func() { served <- h.Run(running) }()
	fmt.Fprintln(cmd.ErrOrStderr(), "holdfast: log in in the window that opens, and close it; Ctrl-C ends the recording too")
	recording, err := h.RecordBrowser(cmd.Context(), address, nil)
	stop()
	<-served
	if err != nil {
		return fmt.Errorf("the login was not recorded: %w", err)
	}
	if err := writeOwn(o.out, []byte(recording.YAML(o.name))); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d steps; passwords and user names are variables, which are read from the environment. Next: holdfast check %s\n", o.out, len(recording.Steps), o.out)
	return nil
}
