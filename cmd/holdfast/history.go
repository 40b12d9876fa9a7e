package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
)

// historyOptions are the flag that says what is kept of flows.
type historyOptions struct {
	mode   string
	always bool // also where no project is named
}

func (o *historyOptions) add(cmd *cobra.Command) {
	otherwise := "full"
	if !o.always {
		otherwise = "off, with --project or --store full"
	}
	cmd.Flags().StringVar(&o.mode, "history", "", "what is kept of each flow in the project, encrypted: `MODE` off, heads (without bodies) or full (default "+otherwise+", or what the configuration says)")
}

// apply says what the history is: "" leaves it to the configuration.
func (o *historyOptions) apply(cmd *cobra.Command, c *holdfast.Config) error {
	switch o.mode {
	case "", holdfast.HistoryOff, holdfast.HistoryHeads, holdfast.HistoryFull:
		c.History = o.mode
	default:
		return usageError{fmt.Errorf("--history %s: write one of off, heads, full", o.mode)}
	}
	if o.mode == "" && !o.always && !cmd.Flags().Changed("project") && !cmd.Flags().Changed("store") {
		c.History = holdfast.HistoryOff
	}
	return nil
}
