package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/macro/derive"
)

func macroCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "macro",
		Short: "Make macros from recordings, look at them, and try them",
		Long: `Make macros from recordings, look at them, and try them.

A macro is the sequence of requests that logs in. It comes from a recording: a
HAR of a browser or a proxy, Burp's saved items, a raw request, a curl command
line, or what passes through Holdfast itself (macro record, serve --record).`,
		Example: "  holdfast macro import login.har -o shop.yaml --prove\n  holdfast macro test -c shop.yaml login",
	}
	cmd.AddCommand(macroImportCommand(), macroRecordCommand(), macroDeriveCommand(), macroAnalyseCommand(), macroTestCommand(), macroRunCommand(), macroListCommand(), macroShowCommand())
	cmd.AddCommand(entryCommands("macro")...)
	return cmd
}

// deriveOptions are the flags of what makes a macro of a recording.
type deriveOptions struct {
	options // ways out, for the proof

	out, name string
	force     bool
	values    []string
	entries   string
	all       bool
	prove     bool
	asJSON    bool
	curl      string
	plain     bool
}

func (o *deriveOptions) addDerive(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "login", "`name` of the macro")
	f.StringArrayVar(&o.values, "value", nil, "a credential that was typed, as `NAME=VALUE` such as USER=alice: wherever it stands it becomes {{NAME}}; may be repeated")
	f.StringVar(&o.entries, "entries", "", "look at these entries of the recording alone, such as `3-7,9`")
	f.BoolVar(&o.all, "all", false, "keep every request that is no static file, preflight or analytics")
	f.BoolVar(&o.prove, "prove", false, "run the macro twice against the application, each time with an empty jar, derive what differs, and drop the steps that it runs without; exit code 1 where it does not run")
	f.BoolVar(&o.asJSON, "json", false, "print the report as JSON, on standard output where -o is given")
}

func (o *deriveOptions) addOut(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.out, "out", "o", "", "write the configuration to `FILE`, for its owner alone: it holds the recorded credentials (default standard output)")
	cmd.Flags().BoolVar(&o.force, "force", false, "overwrite FILE")
}

// addWays are the flags of how the application is reached, for what asks it.
func (o *options) addWays(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.upstream, "upstream", "", "`URL` of a proxy on the way to origins")
	f.BoolVar(&o.insecure, "insecure-upstream", false, "accept every certificate of an origin")
	f.StringArrayVar(&o.roots, "upstream-ca", nil, "PEM `file` of certificates to trust besides the system's; may be repeated")
}

func (o *deriveOptions) addSource(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.curl, "curl", "", "a curl command `line` in place of a file, in quotes")
	cmd.Flags().BoolVar(&o.plain, "plain", false, "a raw request that names no scheme is for http")
}

func macroImportCommand() *cobra.Command {
	o := &deriveOptions{}
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Make a macro of a recorded login",
		Long: `Make a macro of a recorded login: a HAR, Burp's saved items (XML), a raw request,
or a curl command line (in FILE or by --curl). The file - is standard input.

Values that an earlier answer brought (CSRF tokens, nonces, states, codes) become
extractions; credentials and origins become variables; cookies are kept by the
jar; requests that the login does not need are dropped, each with the reason.
The report goes to standard error and shows no value.

--prove runs the macro twice against the application. Exit code 0: done; 1: the
recording cannot be read, or the macro was not proved (it is written all the same).`,
		Example: "  holdfast macro import login.har -o shop.yaml --prove\n  holdfast macro import items.xml --value USER=alice --value PASS=\"$PASSWORD\" -o shop.yaml\n  holdfast macro import --curl \"curl https://shop.example/token -d grant_type=client_credentials -u id:secret\"",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.asJSON && o.out == "" {
				return usageError{errors.New("--json needs -o FILE: the configuration would stand in the report")}
			}
			r, err := o.read(cmd, args)
			if err != nil {
				return err
			}
			return o.make(cmd.Context(), cmd, r.Exchanges, r.Lost)
		},
	}
	o.addDerive(cmd)
	o.addOut(cmd)
	o.addWays(cmd)
	o.addSource(cmd)
	return cmd
}

func macroRecordCommand() *cobra.Command {
	o := &deriveOptions{}
	var address string
	cmd := &cobra.Command{
		Use:   "record -o FILE",
		Short: "Run the proxy, and make a macro of what passes",
		Long: `Run the proxy until it is interrupted, and make a macro of what passed through it.
Log in with a browser or a script that uses the proxy, in a private window so that
no older cookie is sent; then press Ctrl-C.

--record keeps the recording as well. Everything else is as for macro import.

With --browser URL a window opens at that page, and what is done in it (not what
is sent) is written down as a login in a browser: log in, and close the window.

start, stop, status and list record in a serve that runs already.`,
		Example: "  holdfast macro record -o shop.yaml --prove\n  holdfast macro record -o shop.yaml --record login.har --record-tool browser --listen browser=127.0.0.1:8085\n  holdfast macro record -o shop.yaml --browser https://shop.example/login",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.out == "" {
				return usageError{errors.New("macro record needs -o FILE")}
			}
			if err := o.free(); err != nil {
				return err
			}
			if address != "" {
				return o.recordBrowser(cmd, address)
			}
			o.record.always = true
			if err := serve(cmd, &o.options); err != nil {
				return err
			}
			// The interrupt has ended the proxy; the next one ends the proof.
			ctx, stop := signal.NotifyContext(context.WithoutCancel(cmd.Context()), os.Interrupt)
			defer stop()
			return o.make(ctx, cmd, o.record.recording.Exchanges(), nil)
		},
	}
	cmd.Flags().StringVar(&address, "browser", "", "`URL` of a login page: record what a person does in a window, for browsers:")
	cmd.AddCommand(recordingCommands()...)
	o.options.add(cmd)
	o.entry.add(cmd)
	o.record.add(cmd)
	o.addDerive(cmd)
	o.addOut(cmd)
	return cmd
}

func macroAnalyseCommand() *cobra.Command {
	o := &deriveOptions{}
	var identity string
	var inputs []string
	cmd := &cobra.Command{
		Use:   "analyse [FILE]",
		Short: "Say what a macro of a recording would be, and why",
		Long: `Say what a macro of a recording would be, and why: which requests are needed,
where each value comes from, what is dropped. Nothing is written, and without
--prove nothing is sent.

With -c FILE the argument is the name of a macro: it is run once, and what was
sent and answered is analysed anew, as an application that changed wants it.`,
		Example: "  holdfast macro analyse login.har\n  holdfast macro analyse login.har --prove --json\n  holdfast macro analyse -c shop.yaml login",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.file != "" {
				if len(args) != 1 {
					return usageError{errors.New("macro analyse -c FILE needs the name of a macro")}
				}
				return o.again(cmd, args[0], identity, inputs)
			}
			r, err := o.read(cmd, args)
			if err != nil {
				return err
			}
			return o.report(cmd.Context(), cmd, r.Exchanges, r.Lost)
		},
	}
	o.addDerive(cmd)
	o.addWays(cmd)
	o.addSource(cmd)
	cmd.Flags().StringVarP(&o.file, "config", "c", "", "configuration file with the macro")
	cmd.Flags().StringVar(&identity, "identity", "", "`identity` that the macro runs for")
	cmd.Flags().StringArrayVar(&inputs, "input", nil, "a value for an input of the macro, as `NAME=VALUE`; may be repeated")
	return cmd
}

// read reads the recording that the arguments name.
func (o *deriveOptions) read(cmd *cobra.Command, args []string) (*convert.Recording, error) {
	if (o.curl == "") == (len(args) == 0) {
		return nil, usageError{errors.New(strings.TrimPrefix(cmd.CommandPath(), "holdfast ") + " needs a file, or --curl with a command line")}
	}
	var in io.Reader = strings.NewReader(o.curl)
	if o.curl == "" {
		in = cmd.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		}
	}
	r, err := convert.Read(in, convert.Options{Plain: o.plain})
	if err != nil {
		return nil, err
	}
	o.insecure = o.insecure || r.Insecure
	return r, nil
}

func (o *deriveOptions) deriving() (derive.Options, error) {
	d := derive.Options{Name: o.name, KeepAll: o.all}
	var err error
	if d.Values, err = assignments("--value", o.values); err != nil {
		return d, err
	}
	for part := range strings.SplitSeq(o.entries, ",") {
		if part == "" {
			continue
		}
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from < 1 || to < from || to > convert.MaxExchanges {
			return d, usageError{fmt.Errorf("--entries %s: write numbers and ranges such as 3-7,9", o.entries)}
		}
		for n := from; n <= to; n++ {
			d.Entries = append(d.Entries, n)
		}
	}
	return d, nil
}

// assignments reads NAME=VALUE.
func assignments(flag string, list []string) (map[string]string, error) {
	values := make(map[string]string, len(list))
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usageError{fmt.Errorf("%s: write NAME=VALUE", flag)}
		}
		values[name] = value
	}
	return values, nil
}

// free reports a file that is there already.
func (o *deriveOptions) free() error {
	if o.out == "" || o.force {
		return nil
	}
	if _, err := os.Lstat(o.out); err == nil {
		return fmt.Errorf("%s is there already; name another file, or add --force", o.out)
	}
	return nil
}

// derived makes the draft, and proves it where that is wanted.
func (o *deriveOptions) derived(ctx context.Context, cmd *cobra.Command, exchanges []convert.Exchange) (*derive.Draft, *derive.Proof, error) {
	d, err := o.deriving()
	if err != nil {
		return nil, nil, err
	}
	if !o.prove {
		draft, err := derive.From(exchanges, d)
		return draft, nil, err
	}
	c, err := o.config(cmd)
	if err != nil {
		return nil, nil, err
	}
	send, closeAll, err := holdfast.OpenSender(c)
	if err != nil {
		return nil, nil, err
	}
	defer closeAll()
	return derive.Prove(ctx, exchanges, d, derive.Env{Send: send, Now: time.Now, Drop: !o.all})
}

// make writes the configuration.
func (o *deriveOptions) make(ctx context.Context, cmd *cobra.Command, exchanges []convert.Exchange, lost []convert.Lost) error {
	if err := o.free(); err != nil {
		return err
	}
	draft, proof, err := o.derived(ctx, cmd, exchanges)
	if draft == nil {
		return err
	}
	raw, yamlErr := draft.YAML()
	if yamlErr != nil {
		return yamlErr
	}
	if o.out == "" {
		if _, err := cmd.OutOrStdout().Write(raw); err != nil {
			return err
		}
	} else if err := writeOwn(o.out, raw); err != nil {
		return err
	}
	if reportErr := o.tell(cmd, draft, proof, lost, cmd.ErrOrStderr()); reportErr != nil {
		return reportErr
	}
	return proved(proof, err)
}

func writeOwn(path string, raw []byte) error {
	f, err := ownFile(path)
	if err != nil {
		return err
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.Write(raw)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// report prints what was derived and writes nothing else.
func (o *deriveOptions) report(ctx context.Context, cmd *cobra.Command, exchanges []convert.Exchange, lost []convert.Lost) error {
	draft, proof, err := o.derived(ctx, cmd, exchanges)
	if draft == nil {
		return err
	}
	if tellErr := o.tell(cmd, draft, proof, lost, cmd.OutOrStdout()); tellErr != nil {
		return tellErr
	}
	return proved(proof, err)
}

// proved is how a command ends that was to prove its macro.
func proved(proof *derive.Proof, err error) error {
	if err == nil && proof != nil && !proof.Proved {
		return exitCode(exitError)
	}
	return err
}

// tell prints the report: JSON on standard output, or text on w.
func (o *deriveOptions) tell(cmd *cobra.Command, d *derive.Draft, p *derive.Proof, lost []convert.Lost, w io.Writer) error {
	if o.asJSON {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(reportOf(d, p, lost))
	}
	d.Report(w)
	for _, l := range lost {
		fmt.Fprintf(w, "lost     %s\n", l)
	}
	if p != nil {
		p.Report(w)
	}
	return nil
}

func reportOf(d *derive.Draft, p *derive.Proof, lost []convert.Lost) control.Derivation {
	var lines []string
	for _, l := range lost {
		lines = append(lines, l.String())
	}
	return control.ShowDerivation(d, p, lines)
}
