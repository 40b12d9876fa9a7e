package holdfast

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
)

// DefaultListen is where the proxy listens when nothing else is said: on
// loopback only.
const DefaultListen = "127.0.0.1:8080"

// DefaultAutoPassThrough is how many times a client refuses the certificate
// for a host until that is passed through for it.
const DefaultAutoPassThrough = 3

// ownDescriptors is how many Holdfast has for itself: listeners, the file of the
// project with those that read it, logs.
const ownDescriptors = 24

// maxConnections is how many connections clients may have open at once: it leaves
// a quarter of the descriptors that the process may have besides its own
// to connections with origins. Accepting until none is left
// would let clients in whose requests then cannot go anywhere.
func maxConnections(most int) int {
	limit, known := maxDescriptors()
	if !known {
		return most
	}
	return max(1, min(most, (int(min(limit, math.MaxInt32))-ownDescriptors)/4*3)) // it may be without limit
}

// Listen is one place to listen at.
type Listen struct {
	Tool string // label of the requests that come by it; "" is Config.Tool
	// Identity is who they speak for, unless they say it; "" is Config.Identity.
	Identity string
	Address  string // host:port; port 0 takes a free one
	// Kind says whom clients believe to talk to: proxy.Forward, a proxy, when
	// zero.
	Kind proxy.Kind
	// TLS takes nothing but TLS; without it the first byte decides.
	TLS bool
	// Origin is where a proxy.Reverse listener leads to; KeepHost leaves the
	// Host field as the client wrote it.
	Origin   flow.Origin
	KeepHost bool
}

// ParseListen reads [[IDENTITY+]TOOL=][tls:]ADDRESS, for proxy.Reverse with =URL behind
// it: the origin's scheme, host and port. An error says what is wrong.
func ParseListen(kind proxy.Kind, text string) (Listen, error) {
	l, rest := Listen{Kind: kind}, text
	if kind == proxy.Reverse {
		at := max(strings.LastIndex(rest, "=http://"), strings.LastIndex(rest, "=https://"))
		if at < 0 {
			return l, fmt.Errorf("%q names no origin: write [tool=]address=https://host", text)
		}
		var err error
		if l.Origin, err = ParseOrigin(rest[at+1:]); err != nil {
			return l, err
		}
		rest = rest[:at]
	}
	if tool, addr, ok := strings.Cut(rest, "="); ok {
		l.Tool, rest = tool, addr
		if at := strings.LastIndexByte(tool, '+'); at >= 0 { // as in proxy credentials
			l.Identity, l.Tool = tool[:at], tool[at+1:]
		}
	}
	rest, l.TLS = strings.CutPrefix(rest, "tls:")
	if _, _, err := net.SplitHostPort(rest); err != nil {
		return l, fmt.Errorf("%q is no address to listen at: write host:port, an IPv6 address in brackets", rest)
	}
	l.Address = rest
	return l, nil
}

// ParseOrigin reads http://host[:port] or https://host[:port].
func ParseOrigin(url string) (flow.Origin, error) {
	scheme, authority, _ := strings.Cut(url, "://")
	port := uint16(80)
	if scheme == "https" {
		port = 443
	}
	authority = strings.TrimSuffix(authority, "/")
	if scheme != "http" && scheme != "https" || strings.ContainsAny(authority, "/?#@") {
		return flow.Origin{}, fmt.Errorf("%q is no origin: write https://host or http://host:port, without a path", url)
	}
	origin, err := proxy.ParseAuthority(authority, port)
	if err != nil {
		return flow.Origin{}, fmt.Errorf("%q is no origin: write https://host or http://host:port", url)
	}
	origin.TLS = scheme == "https"
	return origin, nil
}

// listen opens the listeners. Those that others can reach, and that ask for no
// password, are warned about.
func (h *Holdfast) listen() error {
	places := h.config.Listen
	if len(places) == 0 {
		places = h.fileListeners()
	}
	if len(places) == 0 {
		places = []Listen{{Address: DefaultListen}}
	}
	for _, p := range places {
		if _, known := h.config.File.Identities[p.Identity]; p.Identity != "" && !known && p.Identity != flow.Anonymous {
			return fmt.Errorf("there is no identity %q for %s; the configuration has: %s", p.Identity, p.Address, list(h.config.File.Order))
		}
		ln, err := net.Listen("tcp", p.Address)
		if err != nil {
			return fmt.Errorf("cannot listen on %s: %w; name another place with --listen", p.Address, err)
		}
		h.listeners = append(h.listeners, &proxy.Listener{Listener: ln, Label: p.Address, Tool: p.Tool, Identity: p.Identity,
			Kind: p.Kind, TLS: p.TLS, Origin: p.Origin, KeepHost: p.KeepHost})
		h.warnOpen(p, ln.Addr())
	}
	return nil
}

// fileListeners are those that the configuration file names.
func (h *Holdfast) fileListeners() []Listen {
	var places []Listen
	for _, l := range h.config.File.Listen {
		place := Listen{Tool: l.Tool, Identity: l.Identity, Address: l.Address, TLS: l.TLS, KeepHost: l.KeepHost, Origin: l.Origin}
		switch l.Kind {
		case "reverse":
			place.Kind = proxy.Reverse
		case "invisible":
			place.Kind = proxy.Invisible
		}
		places = append(places, place)
	}
	return places
}

func (h *Holdfast) warnOpen(p Listen, addr net.Addr) {
	at, ok := addr.(*net.TCPAddr)
	if h.config.Warn == nil || !ok || at.IP.IsLoopback() {
		return
	}
	switch {
	case p.Kind != proxy.Forward:
		h.config.Warn(fmt.Sprintf("WARNING: everybody who can reach %s uses the sessions of this Holdfast, since clients of such a listener cannot be asked for a password; listen on 127.0.0.1, or keep others away by a firewall", addr))
	case h.password() == "":
		h.config.Warn(fmt.Sprintf("WARNING: everybody who can reach %s uses the sessions of this Holdfast; set a password with --proxy-password-file, or listen on 127.0.0.1", addr))
	}
}

// password is what proxy credentials must have.
func (h *Holdfast) password() string {
	if h.config.Password != "" {
		return h.config.Password
	}
	return h.config.File.ProxyPassword
}

// passThrough is what is not looked into. Hosts that rules are about are never
// passed through by themselves: their sessions would silently not be kept.
func (h *Holdfast) passThrough() proxy.PassThrough {
	p := proxy.PassThrough{Hosts: slices.Concat(h.config.PassThrough, h.config.File.PassThrough), After: DefaultAutoPassThrough,
		Covered: func(host string) bool { return h.Engine().Rules().Covers(host) }, Warn: h.config.Warn}
	if h.config.NoAutoPassThrough || !h.config.File.AutoPassThrough {
		p.After = 0
	}
	return p
}

// refuseSelf keeps the proxy from being asked to proxy to itself, which would
// never end.
func (h *Holdfast) refuseSelf(remote net.Addr) error {
	switch {
	case h.server == nil:
		return nil
	case h.server.IsShielded(remote):
		return proxy.ShieldedError(remote.String())
	case !h.server.IsSelf(remote):
		return nil
	}
	return &flow.Error{Status: 508, Reason: flow.ReasonLoop, Detail: "the request asks Holdfast to proxy to itself",
		Next: "ask for http://" + proxy.LocalHost + "/ to see Holdfast's own page; behind an invisible listener see to it that Holdfast resolves the name to the origin"}
}

// tunnel opens the way for bytes that nobody looks at.
func (h *Holdfast) tunnel(ctx context.Context, f *flow.Flow) error {
	err := h.holds.Load().pool.Tunnel(ctx, f)
	if err == nil && f.Upgraded == nil {
		return errors.New("internal error: the pool opened no tunnel")
	}
	return err
}

// Places says where it listens, one line for each listener: what it is, and
// its address as clients are told it.
func (h *Holdfast) Places() []string {
	var lines []string
	for _, ln := range h.listeners {
		l := ln.(*proxy.Listener)
		scheme := "http://"
		if l.TLS {
			scheme = "https://"
		}
		switch l.Kind {
		case proxy.Reverse:
			lines = append(lines, "reverse  "+scheme+ln.Addr().String()+" is "+l.Origin.URL(nil))
		case proxy.Invisible:
			lines = append(lines, "invisible "+ln.Addr().String())
		default:
			lines = append(lines, "proxy    "+scheme+ln.Addr().String())
		}
	}
	return lines
}

// ProxyURL is the first listener as a client's setting, with the password
// where one is wanted.
func (h *Holdfast) ProxyURL() string {
	u := url.URL{Scheme: "http", Host: h.Addr()}
	if password := h.password(); password != "" {
		u.User = url.UserPassword("", password)
	}
	return u.String()
}
