package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/api/client"
	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
)

// apiOptions are the flags of the API that serve opens.
type apiOptions struct {
	address     string
	tokenFile   string
	hosts       []string
	reveal      bool
	metricsOpen bool
	trusted     bool

	dir     string
	server  *api.Server
	events  *control.Events
	trace   *control.Trace
	metrics *api.Metrics
	desk    *control.Desk
	store   *store.Store
	reload  func() (*holdfast.Reloaded, error)
}

// apiOff is the address that turns the API off.
const apiOff = "off"

func (o *apiOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.address, "ui", api.DefaultListen, "where the API listens, `ADDRESS` or off; when the default is taken, a free port")
	f.StringVar(&o.tokenFile, "api-token-file", "", "`file` with the token of the API, in place of api-token in the home directory; needed to listen where others can reach it")
	f.StringArrayVar(&o.hosts, "ui-host", nil, "`name` by which the API is asked besides its address, such as that of a reverse proxy; may be repeated")
	f.BoolVar(&o.reveal, "reveal-secrets", false, "let callers of the API see passwords, tokens and cookies when they ask for them")
	f.BoolVar(&o.trusted, "api-trusted", false, "let what comes by the API and MCP run programs and read files and the environment, as a configuration file may; else config put, rule create and the like may only use what the file of serve does")
	f.BoolVar(&o.metricsOpen, "metrics-open", false, "answer /metrics without the token")
}

func (o *apiOptions) off() bool { return o.address == "" || o.address == apiOff }

// open opens the listener, and has the proxy tell what happens.
func (o *apiOptions) open(cmd *cobra.Command, c *holdfast.Config) error {
	if o.off() {
		return nil
	}
	o.dir, o.store, c.TrustChanges = c.Home, c.Store, o.trusted
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return fmt.Errorf("the home directory cannot be made: %w; name another with --home", err)
	}
	var identities []string
	if c.File != nil {
		identities = c.File.Order
	}
	o.events, o.trace, o.metrics = control.NewEvents(), control.NewTrace(c.Trace), api.NewMetrics(identities)
	config := api.Config{Address: o.address, Hosts: o.hosts, Metrics: o.metrics, MetricsOpen: o.metricsOpen, Chosen: o.tokenFile != "",
		MCP: mcpFace(o.events.Warn)}
	var err error
	if config.Token, err = o.token(); err != nil {
		return err
	}
	o.server, err = api.Listen(config)
	if err != nil && !cmd.Flags().Changed("ui") {
		config.Address = "127.0.0.1:0"
		o.server, err = api.Listen(config)
	}
	if err != nil {
		return err
	}
	warn := c.Warn
	c.Trace, c.Seen = o.trace, o.metrics.Seen
	c.Warn = func(text string) {
		warn(text)
		o.events.Warn(text)
	}
	reloaded := c.Reloaded
	c.Reloaded = func(r *holdfast.Reloaded) {
		reloaded(r)
		o.events.Reloaded(r)
	}
	c.Changed = func(change session.Change) {
		o.metrics.Changed(change)
		o.events.Changed(change)
	}
	return nil
}

func (o *apiOptions) token() (string, error) {
	if o.tokenFile == "" {
		return client.Token(o.dir)
	}
	raw, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return "", fmt.Errorf("--api-token-file: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// serve answers until ctx ends; failed gets why it cannot. done must be called
// before the proxy is closed, once ctx has ended.
func (o *apiOptions) serve(ctx context.Context, cmd *cobra.Command, h *holdfast.Holdfast, failed func(error)) (done func(), err error) {
	if o.off() {
		return func() {}, nil
	}
	if err := o.metrics.Bind(h); err != nil {
		return nil, err
	}
	o.desk = control.New(control.Setup{Proxy: h, Reveal: o.reveal, Version: buildVersion(), Store: o.store, Reload: o.reload, Trace: o.trace, Events: o.events})
	dsn, _, err := projectPlace(cmd)
	if err != nil {
		return nil, err
	}
	if err := client.Announce(o.dir, o.server.URL(), announced(dsn), o.tokenFile); err != nil {
		return nil, err
	}
	place := o.tokenFile
	if place == "" {
		place = filepath.Join(o.dir, client.TokenFile)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "api      %s (token in %s)\n", o.server.URL(), place)
	fmt.Fprintf(cmd.OutOrStdout(), "page     %s (once, within 5 minutes; then: holdfast open)\n", o.server.Link())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := o.server.Serve(ctx, o.desk); err != nil {
			failed(err)
		}
	}()
	return func() {
		<-over
		client.Withdraw(o.dir)
		o.events.Close()
		o.desk.Close()
	}, nil
}

// close gives the listener back where serve was not called.
func (o *apiOptions) close() {
	if o.server != nil {
		o.server.Close()
	}
}
