package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
)

// entryOptions are the flags that say how clients come in.
type entryOptions struct {
	listen, reverse, invisible []string
	passwordFile               string
	passThrough                []string
	noAutoPass                 bool
}

func (o *entryOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.listen, "listen", nil, "[[identity+]tool=][tls:]`address` to listen on, for HTTP proxy, SOCKS5 and TLS to the proxy; with tls: for TLS only; may be repeated (default "+holdfast.DefaultListen+", or what the configuration says)")
	f.StringArrayVar(&o.reverse, "reverse", nil, "[tool=][tls:]`address=URL`: be the origin of that URL at the address, for clients that know of no proxy; may be repeated")
	f.StringArrayVar(&o.invisible, "invisible", nil, "[tool=][tls:]`address`: be every origin at the address: SNI and the Host field say which; may be repeated")
	f.StringVar(&o.passwordFile, "proxy-password-file", "", "`file` with the password that proxy credentials must have; the user name is free")
	f.StringArrayVar(&o.passThrough, "pass-through", nil, "`host` whose connections are not looked into, such as *.bank.example; may be repeated")
	f.BoolVar(&o.noAutoPass, "no-auto-pass-through", false, fmt.Sprintf("look into every host, even if a client refused its certificate %d times", holdfast.DefaultAutoPassThrough))
}

// apply puts the flags into a Config. Mistakes in them are of usage.
func (o *entryOptions) apply(c *holdfast.Config) error {
	for _, list := range []struct {
		kind  proxy.Kind
		texts []string
	}{{proxy.Forward, o.listen}, {proxy.Reverse, o.reverse}, {proxy.Invisible, o.invisible}} {
		for _, text := range list.texts {
			l, err := holdfast.ParseListen(list.kind, text)
			if err != nil {
				return usageError{err}
			}
			c.Listen = append(c.Listen, l)
		}
	}
	for _, text := range o.passThrough {
		p, err := flow.ParseHostPattern(text)
		if err != nil {
			return usageError{fmt.Errorf("--pass-through %q: %w", text, err)}
		}
		c.PassThrough = append(c.PassThrough, p)
	}
	c.NoAutoPassThrough = o.noAutoPass
	if o.passwordFile == "" {
		return nil
	}
	raw, err := os.ReadFile(o.passwordFile)
	if err != nil {
		return fmt.Errorf("the proxy's password cannot be read: %w", err)
	}
	c.Password, _, _ = strings.Cut(string(raw), "\n")
	if c.Password = strings.TrimSuffix(c.Password, "\r"); c.Password == "" {
		return errors.New("the proxy's password is empty; write it into the first line of " + o.passwordFile)
	}
	return nil
}
