package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
)

func openCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "open",
		Short: "Print a link that lets a browser in, once",
		Long: `Print a link to the status page of the holdfast serve that runs with this home
directory. It lets one browser in, once, within five minutes. The browser must ask
without the proxy: pages and tools behind Holdfast do not reach it.`,
		Example: "  holdfast open",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := home(cmd)
			if err != nil {
				return err
			}
			c, err := client.Open(dir)
			if err != nil {
				return err
			}
			defer c.Close()
			link, _, err := c.Link(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), link)
			return nil
		},
	}
}
