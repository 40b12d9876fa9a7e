package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/jar"
)

// maxCookieFile bounds a file of cookies that a command reads, in bytes: a full
// jar of the largest cookies takes less.
const maxCookieFile = 64 << 20

func cookieCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cookie",
		Short:   "Show and convert files of cookies, and look at and change those of a running serve",
		Example: "  holdfast cookie show cookies.txt\n  holdfast cookie list --identity alice",
	}
	cmd.AddCommand(cookieListCommand(), cookieGetCommand(), cookieSetCommand(), cookieDeleteCommand(), cookieClearCommand(), cookieImportCommand(), cookieExportCommand(), cookieShowCommand(), cookieConvertCommand())
	return cmd
}

func cookieShowCommand() *cobra.Command {
	var asJSON, values bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "List the cookies of a file",
		Long: `List the cookies of a file: a cookies.txt, or the JSON that holdfast writes.
Values are secrets; --values shows them. What is wrong is told by line, and the
exit code is then 1. The file - is standard input.`,
		Example: "  holdfast cookie show cookies.txt",
		Args:    needs("a file", cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cookies, err := readCookies(cmd, args[0])
			if cookies == nil && err != nil {
				return err
			}
			if asJSON {
				showJSON(cmd.OutOrStdout(), cookies, values)
			} else {
				showTable(cmd.OutOrStdout(), cookies, values)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&values, "values", false, "show what the cookies hold")
	return cmd
}

func cookieConvertCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "convert IN OUT",
		Short: "Write the cookies of a file in the other format",
		Long: `Write the cookies of a file in the other format: as JSON where OUT ends in
.json, else as a cookies.txt. A cookies.txt has no place for SameSite and
Partitioned. The file is written with mode 0600: what is in it logs in. OUT may
be - for standard output (a cookies.txt), IN - for standard input. Cookies that
cannot be read are told by line and left out, and the exit code is then 1.`,
		Example: "  holdfast cookie convert cookies.txt cookies.json",
		Args:    needs("a file to read and one to write", cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			cookies, err := readCookies(cmd, args[0])
			if cookies == nil && err != nil {
				return err
			}
			if failed := writeCookies(cmd, args[1], cookies); failed != nil {
				return failed
			}
			return err
		},
	}
}

// readCookies reads a file and prints what is wrong in it. After an error the
// cookies that could be read are returned with it; nil where none could.
func readCookies(cmd *cobra.Command, path string) ([]jar.Cookie, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	src, err := io.ReadAll(io.LimitReader(in, maxCookieFile+1))
	if err != nil {
		return nil, err
	}
	if len(src) > maxCookieFile {
		return nil, fmt.Errorf("%s is larger than %d MiB; no jar holds so many cookies", path, maxCookieFile>>20)
	}
	cookies, problems := jar.Decode(src)
	for _, p := range problems {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: %s\n", path, p.Line, p.Reason)
	}
	if len(problems) > 0 {
		return cookies, exitCode(exitError)
	}
	return cookies, nil
}

// writeCookies writes a file for its owner alone.
func writeCookies(cmd *cobra.Command, path string, cookies []jar.Cookie) error {
	var raw []byte
	if strings.EqualFold(filepath.Ext(path), ".json") {
		var err error
		if raw, err = jar.EncodeJSON(cookies); err != nil {
			return err
		}
	} else {
		var problems []jar.Problem
		raw, problems = jar.EncodeNetscape(cookies)
		for _, p := range problems {
			fmt.Fprintf(cmd.ErrOrStderr(), "holdfast: %s: %s\n", path, p)
		}
	}
	if path == "-" {
		_, err := cmd.OutOrStdout().Write(raw)
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := f.Chmod(0o600); err != nil { // it may have been there
		f.Close()
		return err
	}
	if _, err := f.Write(raw); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func showTable(w io.Writer, cookies []jar.Cookie, values bool) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "DOMAIN\tPATH\tNAME\tEXPIRES\tFLAGS")
	if values {
		fmt.Fprint(t, "\tVALUE")
	}
	fmt.Fprintln(t)
	for i := range cookies {
		c := &cookies[i]
		end := "-"
		if !c.Expires.IsZero() {
			end = c.Expires.Format(time.RFC3339)
		}
		domain := c.Domain
		if !c.HostOnly {
			domain = "." + domain
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s", plain(domain), plain(c.Path), plain(c.Name), end, flags(c))
		if values {
			fmt.Fprint(t, "\t"+plain(c.Value))
		}
		fmt.Fprintln(t)
	}
	t.Flush()
}

// plain is a text as a terminal can show it.
func plain(s string) string {
	q := fmt.Sprintf("%q", s)
	if q == `"`+s+`"` && s != "" && !strings.Contains(s, " ") {
		return s
	}
	return q
}

func flags(c *jar.Cookie) string {
	var all []string
	for _, f := range []struct {
		name string
		set  bool
	}{{"secure", c.Secure}, {"http_only", c.HTTPOnly}, {"partitioned", c.Partitioned}, {"same_site=" + string(c.SameSite), c.SameSite != ""}} {
		if f.set {
			all = append(all, f.name)
		}
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ",")
}

// shownCookie is the JSON shape of one cookie, version 1.
type shownCookie struct {
	Version     int        `json:"v"`
	Name        string     `json:"name"`
	Value       *string    `json:"value,omitempty"` // with --values
	Domain      string     `json:"domain"`
	HostOnly    bool       `json:"host_only"`
	Path        string     `json:"path"`
	Expires     *time.Time `json:"expires,omitempty"`
	Secure      bool       `json:"secure"`
	HTTPOnly    bool       `json:"http_only"`
	Partitioned bool       `json:"partitioned"`
	SameSite    string     `json:"same_site,omitempty"`
}

func showJSON(w io.Writer, cookies []jar.Cookie, values bool) {
	shown := make([]shownCookie, len(cookies))
	for i := range cookies {
		c := &cookies[i]
		shown[i] = shownCookie{Version: 1, Name: c.Name, Domain: c.Domain, HostOnly: c.HostOnly, Path: c.Path,
			Secure: c.Secure, HTTPOnly: c.HTTPOnly, Partitioned: c.Partitioned, SameSite: string(c.SameSite)}
		if values {
			shown[i].Value = &c.Value
		}
		if !c.Expires.IsZero() {
			shown[i].Expires = &c.Expires
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(shown) // what cannot be written nobody reads
}

// cookiesOut is one --cookies-out: a file, and whose cookies it gets.
type cookiesOut struct{ identity, path string }

// parseCookiesOut reads FILE or IDENTITY=FILE.
func parseCookiesOut(s string) (cookiesOut, error) {
	identity, path, named := strings.Cut(s, "=")
	if !named {
		identity, path = "", s
	}
	if path == "" || named && identity == "" {
		return cookiesOut{}, usageError{fmt.Errorf("--cookies-out %s: write FILE or IDENTITY=FILE", s)}
	}
	return cookiesOut{identity, path}, nil
}

// exportCookies writes what --cookies-out asks for, at the end. The first error
// is returned once all were tried.
func (o *options) exportCookies(cmd *cobra.Command, h *holdfast.Holdfast) (first error) {
	for _, out := range o.exports {
		cookies, _ := h.Cookies(out.identity)
		if err := writeCookies(cmd, out.path, cookies); err != nil && first == nil {
			first = fmt.Errorf("--cookies-out: %w", err)
		}
	}
	return first
}

// checkExports finds mistakes in --cookies-out at the start.
func (o *options) checkExports(h *holdfast.Holdfast) error {
	for _, s := range o.cookiesOut {
		out, err := parseCookiesOut(s)
		if err != nil {
			return err
		}
		if _, ok := h.Cookies(out.identity); !ok {
			return fmt.Errorf("--cookies-out: there is no identity %q with cookies", out.identity)
		}
		o.exports = append(o.exports, out)
	}
	return nil
}
