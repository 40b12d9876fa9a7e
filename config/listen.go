package config

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
)

// The ways in: where clients connect to, who may, and what is not looked into.

type listenerDraft struct {
	n                          *yaml.Node
	address, tool, kind, leads word
	identity                   word
	tls, keepHost              bool
}

func listenerFields() []field[listenerDraft] {
	return []field[listenerDraft]{
		{"address", "write host:port, such as 127.0.0.1:8080", single("address", func(l *listenerDraft) *word { return &l.address })},
		{"tool", "", single("tool", func(l *listenerDraft) *word { return &l.tool })},
		{"identity", "", single("identity", func(l *listenerDraft) *word { return &l.identity })},
		{"kind", "", choice("kind", listenerKinds(), func(l *listenerDraft) *word { return &l.kind })},
		{"origin", "", single("origin", func(l *listenerDraft) *word { return &l.leads })},
		{"tls", "", flag("tls", func(l *listenerDraft) *bool { return &l.tls })},
		{"keep_host", "", flag("keep_host", func(l *listenerDraft) *bool { return &l.keepHost })},
	}
}

func listenerKinds() []string { return []string{kindForward, kindReverse, kindInvisible} }

const (
	kindForward   = "forward"
	kindReverse   = "reverse"
	kindInvisible = "invisible"
)

// waysIn compiles what the file says about clients.
func (d *decoder) waysIn(f *fileDraft, file *File) {
	file.AutoPassThrough = f.autoPass
	for i := range f.listeners {
		if l, ok := d.listener(&f.listeners[i]); ok {
			if _, known := file.Identities[l.Identity]; l.Identity != "" && l.Identity != anonymous && !known {
				d.errorAt(f.listeners[i].identity.n, "name one of those under identities:, or anonymous", "there is no such identity")
			}
			if slices.ContainsFunc(file.Listen, func(other Listener) bool { return other.Address == l.Address && !strings.HasSuffix(l.Address, ":0") }) {
				d.errorAt(f.listeners[i].address.n, "keep one of them, or change the port", "there is another listener at %s", l.Address)
			}
			file.Listen = append(file.Listen, l)
		}
	}
	if f.password.given() {
		before := len(d.problems)
		file.ProxyPassword = d.expandAs(f.password, inPassword, nil)
		if file.ProxyPassword == "" && len(d.problems) == before {
			d.errorAt(f.password.n, "write a password, or take the key out", "proxy_password is empty: it would let everybody in")
		}
	}
	for _, w := range f.passThrough {
		p, err := flow.ParseHostPattern(w.s)
		if err != nil {
			d.errorAt(w.n, "write a host such as bank.example or *.bank.example", "this pattern of hosts cannot be read: %s", err)
			continue
		}
		file.PassThrough = append(file.PassThrough, p)
	}
}

func (d *decoder) listener(l *listenerDraft) (out Listener, ok bool) {
	out = Listener{Address: l.address.s, Tool: l.tool.s, Identity: l.identity.s, Kind: l.kind.s, TLS: l.tls, KeepHost: l.keepHost}
	if out.Kind == "" {
		out.Kind = kindForward
	}
	if !l.address.given() {
		return out, false // reported
	}
	if _, port, err := net.SplitHostPort(out.Address); err != nil || !isPort(port, 0) {
		d.errorAt(l.address.n, "write host:port, such as 127.0.0.1:8080 or \"[::1]:8080\"", "this is no address to listen at")
		return out, false
	}
	switch reverse := out.Kind == kindReverse; {
	case reverse && !l.leads.given():
		d.errorAt(l.n, "add origin: https://shop.example", "a reverse listener must say where it leads to")
	case !reverse && l.leads.given():
		d.errorAt(l.leads.n, "add kind: reverse, or take origin out", "origin is for reverse listeners")
	case !reverse && l.keepHost:
		d.errorAt(l.n, "add kind: reverse, or take keep_host out", "keep_host is for reverse listeners")
	case reverse:
		out.Origin, ok = d.leadsTo(l.leads)
		return out, ok
	}
	return out, true
}

// leadsTo reads the origin of a reverse listener.
func (d *decoder) leadsTo(w word) (flow.Origin, bool) {
	u, err := url.Parse(w.s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		d.errorAt(w.n, "write https://shop.example or http://shop.example:8080, without a path", "this is no origin")
		return flow.Origin{}, false
	}
	o := flow.Origin{TLS: u.Scheme == "https", Host: strings.ToLower(u.Hostname()), Port: 80}
	if o.TLS {
		o.Port = 443
	}
	if text := u.Port(); text != "" {
		if !isPort(text, 1) {
			d.errorAt(w.n, "write a port from 1 to 65535", "this is no origin: its port is none")
			return o, false
		}
		n, _ := strconv.Atoi(text)
		o.Port = uint16(n)
	}
	return o, true
}

func isPort(s string, low int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= low && n <= 65535
}
