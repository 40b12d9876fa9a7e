package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
)

func cookieListCommand() *cobra.Command {
	return listing("list", "List the cookies of an identity's jar", "cookie.list", "identity session reveal", "ID\tDOMAIN\tPATH\tNAME\tVALUE", printCookie)
}

func printCookie(w io.Writer, c *control.Cookie) {
	value := fmt.Sprintf("(%d bytes)", c.Bytes)
	if c.Value != nil {
		value = plain(*c.Value)
	}
	fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", c.ID, plain(c.Domain), plain(c.Path), plain(c.Name), value)
}

func cookieGetCommand() *cobra.Command {
	return live("get ID", "Show a cookie of an identity's jar", "holdfast cookie get 12 --identity alice --json", cobra.ExactArgs(1), "json identity session reveal",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			p := o.params()
			p["id"] = args[0]
			var cookie control.Cookie
			if err := c.Call(cmd.Context(), "cookie.get", p, &cookie); err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(cmd, cookie)
			}
			printCookie(cmd.OutOrStdout(), &cookie)
			return nil
		})
}

func cookieSetCommand() *cobra.Command {
	set := struct {
		domain, path, sameSite, expires string
		secure, httpOnly                bool
	}{}
	cmd := doing("set NAME VALUE --domain DOMAIN", "Put a cookie into an identity's jar; one of the same name, domain and path is replaced", "holdfast cookie set sid 4f2a --domain shop.example --secure --identity alice", "cookie.set", "identity session", cobra.ExactArgs(2),
		func(p map[string]any, args []string) {
			p["name"], p["value"], p["domain"] = args[0], args[1], set.domain
			for name, value := range map[string]string{"path": set.path, "same_site": set.sameSite, "expires": set.expires} {
				if value != "" {
					p[name] = value
				}
			}
			if set.secure {
				p["secure"] = true
			}
			if set.httpOnly {
				p["http_only"] = true
			}
		})
	f := cmd.Flags()
	f.StringVar(&set.domain, "domain", "", "`domain` that it is for; with a leading dot for the hosts below too")
	f.StringVar(&set.path, "path", "", "`path` that it is for (default /)")
	f.StringVar(&set.sameSite, "same-site", "", "`WORD` strict, lax or none")
	f.StringVar(&set.expires, "expires", "", "when it ends, as `TIME` 2030-01-31T00:00:00Z (default never)")
	f.BoolVar(&set.secure, "secure", false, "for https alone")
	f.BoolVar(&set.httpOnly, "http-only", false, "not for scripts")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if set.domain == "" {
			return usageError{fmt.Errorf("cookie set needs --domain")}
		}
		if _, err := time.Parse(time.RFC3339, set.expires); set.expires != "" && err != nil {
			return usageError{fmt.Errorf("--expires %s: write it as 2030-01-31T00:00:00Z", set.expires)}
		}
		return nil
	}
	return cmd
}

func cookieDeleteCommand() *cobra.Command {
	return doing("delete ID", "Remove a cookie from an identity's jar", "holdfast cookie delete 12 --identity alice", "cookie.delete", "identity session", cobra.ExactArgs(1),
		func(p map[string]any, args []string) { p["id"] = args[0] })
}

func cookieClearCommand() *cobra.Command {
	return doing("clear [DOMAIN]", "Remove all cookies of an identity's jar, or those of a domain", "holdfast cookie clear shop.example --identity alice", "cookie.clear", "identity session", cobra.MaximumNArgs(1),
		func(p map[string]any, args []string) {
			if len(args) > 0 {
				p["domain"] = args[0]
			}
		})
}

func cookieImportCommand() *cobra.Command {
	cmd := live("import FILE", "Put the cookies of a file (a cookies.txt, or JSON) into an identity's jar; - is standard input", "holdfast cookie import cookies.txt --identity alice", cobra.ExactArgs(1), "json identity session",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			text, err := io.ReadAll(io.LimitReader(in, control.MaxCookieText+1))
			if err != nil {
				return err
			}
			if len(text) > control.MaxCookieText {
				return fmt.Errorf("%s is larger than %d MiB; import it in parts", args[0], control.MaxCookieText>>20)
			}
			p := o.params()
			p["text"] = string(text)
			var done control.Imported
			if err := c.Call(cmd.Context(), "cookie.import", p, &done); err != nil {
				return err
			}
			for _, problem := range done.Problems {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", args[0], problem)
			}
			if o.asJSON {
				err = printJSON(cmd, done)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d cookies are taken\n", done.Taken)
			}
			if err == nil && len(done.Problems) > 0 {
				err = exitCode(exitError)
			}
			return err
		})
	cmd.Long += " What cannot be\nread is told by line and left out, and the exit code is then 1."
	return cmd
}

func cookieExportCommand() *cobra.Command {
	format := ""
	cmd := live("export [FILE]", "Write the cookies of an identity's jar as a cookies.txt, or as JSON", "holdfast cookie export cookies.txt --identity alice", cobra.MaximumNArgs(1), "json identity session",
		func(cmd *cobra.Command, c *client.Client, o *liveOptions, args []string) error {
			p := o.params()
			if format != "" {
				p["format"] = format
			}
			var out control.Exported
			if err := c.Call(cmd.Context(), "cookie.export", p, &out); err != nil {
				return err
			}
			for _, problem := range out.Problems {
				fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %s\n", problem)
			}
			switch {
			case o.asJSON:
				return printJSON(cmd, out)
			case len(args) > 0 && args[0] != "-":
				return writeOwn(args[0], []byte(out.Text))
			}
			_, err := io.WriteString(cmd.OutOrStdout(), out.Text)
			return err
		})
	cmd.Flags().StringVar(&format, "format", "", "`FORMAT` netscape, which is a cookies.txt, or json (default netscape)")
	cmd.Long += " They are\nsecrets: serve must have been started with --reveal-secrets, and FILE (default\nstandard output) is for its owner alone."
	return cmd
}
