package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
)

// recordOptions are the flags that have the proxy keep what passes.
type recordOptions struct {
	file, tool, identity string
	recording            *holdfast.Recording // nil: nothing is kept
	always               bool                // without a file, too
}

func (o *recordOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.file, "record", "", "at the end write what clients sent and were answered to `FILE`.har, for its owner alone: it holds passwords and tokens (at most 5000 exchanges, 1 MiB of a body, 128 MiB in all)")
	f.StringVar(&o.tool, "record-tool", "", "record requests of that `tool` alone")
	f.StringVar(&o.identity, "record-identity", "", "record requests of that `identity` alone")
}

// begin makes the file, so that what is wrong with it is told before and not
// after the work.
func (o *recordOptions) begin() error {
	if o.always {
		o.recording = &holdfast.Recording{Tool: o.tool, Identity: o.identity}
	}
	if o.file == "" {
		if !o.always && (o.tool != "" || o.identity != "") {
			return usageError{fmt.Errorf("--record-tool and --record-identity need --record FILE.har")}
		}
		return nil
	}
	f, err := ownFile(o.file)
	if err != nil {
		return fmt.Errorf("--record: %w", err)
	}
	o.recording = &holdfast.Recording{Tool: o.tool, Identity: o.identity}
	return f.Close()
}

// ownFile opens a file for writing that its owner alone can read.
func ownFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil { // it may have been there
		f.Close()
		return nil, err
	}
	return f, nil
}

// write writes the file, where one is wanted.
func (o *recordOptions) write(cmd *cobra.Command) error {
	if o.file == "" {
		return nil
	}
	f, err := ownFile(o.file)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		err = o.recording.WriteHAR(f, buildVersion())
	}
	if f != nil {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}
	if err != nil {
		return fmt.Errorf("--record: %w", err)
	}
	o.told(cmd)
	return nil
}

func (o *recordOptions) told(cmd *cobra.Command) {
	fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %d exchanges recorded in %s\n", len(o.recording.Exchanges()), o.file)
	if n := o.recording.Missed(); n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %d exchanges were too many to keep and are not in it\n", n)
	}
}
