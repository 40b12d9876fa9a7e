package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/ca"
)

func caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Show or export the certificate that browsers must trust",
		Long: `Show or export the certificate that browsers must trust. It is made when it is
first needed, in the home directory, with a key that never leaves it.`,
		Example: "  holdfast ca show\n  holdfast ca export > holdfast.pem",
	}
	cmd.AddCommand(caShowCommand(), caExportCommand())
	return cmd
}

// openCA makes the root if this is the first time anybody asks for it.
func openCA(cmd *cobra.Command) (*ca.Authority, string, error) {
	dir, err := home(cmd)
	if err != nil {
		return nil, "", err
	}
	a, err := ca.Open(dir, time.Now)
	return a, rootFile(dir), err
}

func caShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show where the certificate is, its fingerprint, and until when it is good",
		Example: "  holdfast ca show\n  holdfast ca show --json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, path, err := openCA(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"v": 1, "file": path,
					"sha256": a.Fingerprint(), "spki": a.SPKI(), "not_after": a.Root().NotAfter})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "file     %s\nSHA-256  %s\nuntil    %s\n", path, a.Fingerprint(), a.Root().NotAfter.Format(time.DateOnly))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func caExportCommand() *cobra.Command {
	var out, format string
	cmd := &cobra.Command{
		Use:     "export",
		Short:   "Write the certificate (never its key) to a file or to standard output",
		Example: "  holdfast ca export > holdfast.pem\n  holdfast ca export --format der -o holdfast.cer",
		Args:    needs("-o before the name of a file", cobra.MaximumNArgs(0)),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, _, err := openCA(cmd)
			if err != nil {
				return err
			}
			raw := a.RootPEM()
			switch format {
			case "pem":
			case "der":
				block, _ := pem.Decode(raw)
				raw = block.Bytes
			default:
				return usageError{fmt.Errorf("--format is pem or der, not %q", format)}
			}
			if out != "" && out != "-" {
				return os.WriteFile(out, raw, 0o644)
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`file` to write (default standard output)")
	cmd.Flags().StringVar(&format, "format", "pem", "pem or der")
	return cmd
}
