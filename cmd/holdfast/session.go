package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/session"
)

func sessionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "session",
		Short: "Look at the sessions of a running serve, renew and forget them, and unlock those whose logins were stopped",
		Long: `Look at the sessions of a running serve, renew and forget them, and
unlock those whose logins were stopped after too many failures.`,
		Example: "  holdfast session list --follow\n  holdfast session refresh alice\n  holdfast session unlock alice",
	}
	cmd.AddCommand(sessionListCommand(), sessionStatusCommand(), sessionRefreshCommand(), sessionForgetCommand(), &cobra.Command{
		Use:   "unlock [IDENTITY]",
		Short: "Let an identity log in again after too many failed logins",
		Long: `Let an identity log in again after too many failed logins. Correct the
credentials first: the account on the other side may count too. A running proxy
sees it at once. Without a name: the default identity of a configuration that
names none.`,
		Example: "  holdfast session unlock alice",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			project, err := openProject(cmd)
			if err != nil {
				return err
			}
			defer project.Close()
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			n, err := project.Forget(cmd.Context(), session.KeptLockout, session.OwnerOf(name, 0))
			if err != nil {
				return err
			}
			if n == 0 {
				if name == "" {
					fmt.Fprintln(cmd.OutOrStdout(), "nothing was locked for a configuration without identities; for another: holdfast session unlock IDENTITY")
					return nil
				}
				fmt.Fprintf(cmd.OutOrStdout(), "nothing was locked for identity %q\n", name)
				return nil
			}
			fmt.Fprintln(cmd.OutOrStdout(), "unlocked")
			return nil
		},
	})
	return cmd
}
