package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/store"
)

// options are the flags of commands that start a proxy.
type options struct {
	file     string
	watch    bool
	entry    entryOptions
	trace    string
	messages bool
	insecure bool
	upstream string
	roots    []string
	identity string
	framing  string
	tool     string

	cookiesOut []string
	exports    []cookiesOut
	record     recordOptions
	history    historyOptions
	api        apiOptions
	// shares says that the command may run beside another one on the project.
	shares bool
	claim  *store.Claim

	ask func(context.Context, holdfast.Question) (string, error)
}

func (o *options) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.file, "config", "c", "", "configuration file (YAML or JSON): rules, macros, identities")
	f.StringVar(&o.upstream, "upstream", "", "`URL` of a proxy on the way to origins: http://, https://, socks5:// or socks5h://, with user:password@ where it wants that")
	f.BoolVar(&o.insecure, "insecure-upstream", false, "accept every certificate of an origin")
	f.StringArrayVar(&o.roots, "upstream-ca", nil, "PEM `file` of certificates to trust besides the system's; may be repeated")
	f.StringVar(&o.trace, "trace", "", "write what was done to each request, and why, as JSON lines to `file` (- is standard error)")
	f.BoolVar(&o.messages, "trace-messages", false, "have the trace list the messages on WebSockets too, without what they say")
	f.StringVar(&o.framing, "framing", "", "what to do with HTTP/1 messages whose end is not certain: `POLICY` strict refuses them, lenient forwards those with one meaning by RFC 9112, raw all (default strict, or what the configuration says)")
	f.StringArrayVar(&o.cookiesOut, "cookies-out", nil, "at the end write the cookies of the identity that speaks where nobody is named, or of IDENTITY, to a `[IDENTITY=]FILE` for its owner alone: JSON where it ends in .json, else a cookies.txt; may be repeated")
	f.StringVar(&o.identity, "as", "", "`identity` that requests speak for which name none")
}

func serveCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy until it is interrupted.

Point a client at it as its HTTP and HTTPS proxy. Through it, http://holdfast/
gives the certificate that browsers must trust. A user name in the proxy
address says who a request is for: http://alice+scanner@127.0.0.1:8080 is
identity alice, tool scanner. The same port speaks SOCKS5, and TLS to the proxy.

Clients that cannot be told of a proxy come by --reverse (this address is that
origin) or --invisible (this address is every origin).

Programs ask it by its API, on 127.0.0.1:8081 unless --ui says otherwise, with
the token that stands in the file api-token of the home directory. /metrics
there is for Prometheus.

Where a macro asks a person for something (prompt:), it asks in the terminal
that this runs in; without one, serve does not begin.`,
		Example: "  holdfast serve -c shop.yaml\n  holdfast serve -c shop.yaml --listen 127.0.0.1:8080 --listen scanner=127.0.0.1:8090\n  holdfast serve -c shop.yaml --reverse 127.0.0.1:9000=https://shop.example",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return serve(cmd, o) },
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&o.watch, "watch", false, "have the configuration hold anew when its file changes, or a file that it names; kill -HUP does it once")
	o.entry.add(cmd)
	o.record.add(cmd)
	o.history.always = true
	o.history.add(cmd)
	o.api.add(cmd)
	return cmd
}

func serve(cmd *cobra.Command, o *options) error {
	if err := o.record.begin(); err != nil {
		return err
	}
	pace()
	o.ask = terminalAsker(cmd)
	h, closeAll, err := o.start(cmd)
	if err != nil {
		return err
	}
	defer closeAll()
	defer h.Close()
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	dir, _ := home(cmd)
	for _, place := range h.Places() {
		fmt.Fprintln(cmd.OutOrStdout(), place)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "ca       %s (SHA-256 %s)\n", rootFile(dir), h.CA().Fingerprint())
	if err := o.claim.Say(h.Places()); err != nil {
		return err
	}
	if o.file != "" {
		o.api.reload = func() (*holdfast.Reloaded, error) { return o.reread(cmd, h) }
	}
	done, err := o.api.serve(ctx, cmd, h, stop)
	if err != nil {
		return err
	}
	if _, kept := h.History(); kept {
		twoAtOnce()
	}
	go giveBack(ctx)
	ended := o.onHangup(ctx, cmd, h)
	defer ended()
	err = h.Run(ctx)
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause // the API's
	}
	stop(nil)
	ended()
	done()
	if err == nil || errors.Is(err, context.Canceled) {
		fmt.Fprintln(cmd.ErrOrStderr(), verdict(h.Totals()))
		exported := o.exportCookies(cmd, h)
		h.Close() // what was under way has ended then, and is recorded
		return errors.Join(exported, o.record.write(cmd))
	}
	return err
}

// config is what the flags say that every command needs which sends something.
func (o *options) config(cmd *cobra.Command) (c holdfast.Config, err error) {
	c = holdfast.Config{Insecure: o.insecure, Identity: o.identity, Framing: o.framing, Tool: o.tool, TraceMessages: o.messages, Ask: o.ask}
	if c.Home, err = home(cmd); err != nil {
		return c, err
	}
	if o.file != "" {
		if c.File, err = load(cmd.ErrOrStderr(), o.file); err != nil {
			return c, err
		}
	}
	if o.upstream != "" {
		if c.Upstream, err = config.ParseProxy(o.upstream); err != nil {
			return c, fmt.Errorf("--upstream: %w", err)
		}
	}
	if c.Roots, err = certificates(o.roots); err != nil {
		return c, err
	}
	warn := cmd.ErrOrStderr()
	c.Warn = func(text string) { fmt.Fprintln(warn, "holdfast: "+text) }
	c.Reloaded = func(r *holdfast.Reloaded) { fmt.Fprintln(warn, "holdfast: "+r.String()) }
	return c, nil
}

// start makes the proxy that the flags describe. closeAll must be called after
// the proxy is closed.
func (o *options) start(cmd *cobra.Command) (h *holdfast.Holdfast, closeAll func(), err error) {
	c, err := o.config(cmd)
	if err != nil {
		return nil, nil, err
	}
	if err = o.entry.apply(&c); err != nil {
		return nil, nil, err
	}
	if err = o.history.apply(cmd, &c); err != nil {
		return nil, nil, err
	}
	c.Record = o.record.recording
	closeTrace := func() {}
	switch o.trace {
	case "":
	case "-":
		c.Trace = cmd.ErrOrStderr()
	default:
		f, err := os.OpenFile(o.trace, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("the trace cannot be written: %w", err)
		}
		c.Trace, closeTrace = f, func() { f.Close() }
	}
	if o.claim, err = claimProject(cmd, o.shares, c.File != nil && len(c.File.Macros) > 0); err == nil {
		c.Store, err = openProject(cmd)
	}
	if err != nil {
		o.claim.Close()
		closeTrace()
		return nil, nil, err
	}
	closeAll = func() { c.Store.Close(); o.claim.Close(); closeTrace() }
	if err = o.api.open(cmd, &c); err == nil {
		h, err = holdfast.New(c)
	}
	if err != nil {
		o.api.close()
		closeAll()
		return nil, nil, err
	}
	if o.api.server != nil {
		h.Shield(o.api.server.Addr())
	}
	if err = o.checkExports(h); err != nil {
		o.api.close()
		h.Close()
		closeAll()
		return nil, nil, err
	}
	return h, closeAll, nil
}

// load reads a configuration and prints what is wrong with it.
func load(w io.Writer, path string) (*config.File, error) {
	file, warnings, err := config.Load(path, config.Options{})
	warnings.Format(w)
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		mistakes.Format(w)
		return nil, exitCode(exitError)
	}
	return file, err
}
