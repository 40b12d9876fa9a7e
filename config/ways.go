package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/holdfast-proxy/holdfast/flow"
)

// Ways say how origins are reached, and how fast. In each list the first entry
// that covers an origin wins; of Origins the first that says something about
// the matter. Entries without hosts cover every origin.
type Ways struct {
	Proxies  []ProxyFor        // key upstream
	Direct   flow.HostPatterns // key direct: no proxy for these
	Names    []Name            // key resolve
	Origins  []Origin          // key origins
	Timeouts Timeouts
	Throttle []Throttle
}

// ProxyFor is a proxy on the way to origins.
type ProxyFor struct {
	Hosts flow.HostPatterns
	Proxy *url.URL // as from ParseProxy
}

// Name is where a host is found in place of what its name resolves to.
type Name struct {
	Hosts   flow.HostPatterns
	Address string // IP address or host, with a port or without
}

// Origin is how we present ourselves to origins and what we accept of them.
// Zero values say nothing.
type Origin struct {
	Hosts       flow.HostPatterns
	Identities  []string // none: every identity
	Certificate *tls.Certificate
	MinTLS      uint16 // tls.VersionTLS10 to tls.VersionTLS13
	Legacy      *bool
	Verify      *bool
	Roots       []*x509.Certificate
	Source      netip.Addr
}

// Timeouts bound waits for origins; zero is the default of package upstream.
type Timeouts struct {
	Dial, Handshake, FirstByte, Stall, Silence, Idle time.Duration
}

// Throttle bounds what is sent to each origin.
type Throttle struct {
	Hosts      flow.HostPatterns
	Tools      []string // none: every tool but macro
	Rate       float64  // requests per second; 0: any
	Burst      int      // 0: 1
	Concurrent int      // 0: any
}

// ProxySchemes are those of the URLs of proxies.
func ProxySchemes() []string { return []string{"http", "https", "socks5", "socks5h"} }

// ParseProxy reads the URL of a proxy: a scheme of ProxySchemes, a host and a
// port, and in front of them user:password@ where it wants that. The error
// never says the password.
func ParseProxy(s string) (*url.URL, error) {
	u, what, next := parseProxy(s)
	if what != "" {
		return nil, fmt.Errorf("%s; %s", what, next)
	}
	return u, nil
}

func parseProxy(s string) (u *url.URL, what, next string) {
	const example = "write it as http://10.0.0.1:3128 or socks5h://user:password@10.0.0.1:1080"
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, "the URL of a proxy begins with a scheme", example
	}
	if scheme = strings.ToLower(scheme); !slices.Contains(ProxySchemes(), scheme) {
		next := "write one of " + strings.Join(ProxySchemes(), ", ")
		if strings.HasPrefix(scheme, "socks") {
			next += "; socks5h has the proxy resolve names"
		}
		return nil, "this scheme is none of a proxy", next
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return nil, "this is no URL", "percent-encode characters other than letters and digits in user and password (@ is %40)"
	}
	switch port, _ := strconv.ParseUint(u.Port(), 10, 16); {
	case u.Hostname() == "":
		return nil, "the URL of the proxy has no host", example
	case port == 0:
		return nil, "the URL of the proxy has no port", "write the port behind the host, such as :3128"
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, "the URL of a proxy ends with its port", "take out what follows; percent-encode a / in the password as %2F"
	}
	return u, "", ""
}

const (
	tableProxyFor    = "a proxy of upstream"
	tableName        = "an entry of resolve"
	tableOrigin      = "an entry of origins"
	tableCertificate = "a certificate"
	tableTimeouts    = "timeouts"
	tableThrottle    = "an entry of throttle"
)

// wayTables are the tables of what this file reads.
func wayTables() map[string][]formatKey {
	return map[string][]formatKey{
		tableProxyFor: keysOf(proxyFields()), tableName: keysOf(nameFields()), tableOrigin: keysOf(originFields()),
		tableCertificate: keysOf(certificateFields()), tableTimeouts: keysOf(timeoutFields()),
		tableThrottle: keysOf(throttleFields()),
	}
}

// wayKeys are keys of the file.
func wayKeys() []field[fileDraft] {
	return []field[fileDraft]{
		{"upstream", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			before := len(d.problems)
			f.ways.Proxies = each(d, n, "upstream", tableProxyFor, proxyFields(), nil)
			if len(d.problems) == before {
				d.unreachable(n, "upstream", func(i int) flow.HostPatterns { return f.ways.Proxies[i].Hosts })
			}
		}},
		{"direct", "", hosts("direct", func(f *fileDraft) *flow.HostPatterns { return &f.ways.Direct })},
		{"resolve", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			before := len(d.problems)
			f.ways.Names = each(d, n, "resolve", tableName, nameFields(), nil)
			if len(d.problems) == before {
				d.unreachable(n, "resolve", func(i int) flow.HostPatterns { return f.ways.Names[i].Hosts })
			}
		}},
		{"origins", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			f.origins = each(d, n, "origins", tableOrigin, originFields(), nil)
		}},
		{"timeouts", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			object(d, n, tableTimeouts, timeoutFields(), &f.ways.Timeouts)
		}},
		{"throttle", "", func(d *decoder, n *yaml.Node, f *fileDraft) {
			f.ways.Throttle = each(d, n, "throttle", tableThrottle, throttleFields(), nil)
			d.throttles(n, f.ways.Throttle)
		}},
	}
}

// unreachable warns of entries behind one that covers every host.
func (d *decoder) unreachable(n *yaml.Node, what string, hosts func(int) flow.HostPatterns) {
	n = resolve(n)
	for i := range n.Content {
		every := slices.ContainsFunc(hosts(i), func(p flow.HostPattern) bool { return p.String() == "*" })
		if (every || len(hosts(i)) == 0) && i+1 < len(n.Content) {
			d.warnAt(n.Content[i+1], "put the entry that covers every host last", "this entry of %s is never used: the one above covers every host", what)
			return
		}
	}
}

// hosts makes the reader of a key with patterns of hosts.
func hosts[T any](what string, into func(*T) *flow.HostPatterns) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		var all []word
		words(what, func(all *[]word) *[]word { return all })(d, n, &all)
		for _, w := range all {
			p, err := flow.ParseHostPattern(w.s)
			if err != nil {
				d.errorAt(w.n, "write a host (shop.example), a name with stars (*.shop.example), an IP address or a network (10.0.0.0/8), with or without :port",
					"this is no pattern of hosts: %v", err)
				continue
			}
			*into(t) = append(*into(t), p)
		}
		if len(all) == 0 && n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			d.errorAt(n, "name the hosts, or take the key out", "%s is empty", what)
		}
	}
}

func proxyFields() []field[ProxyFor] {
	return []field[ProxyFor]{
		{"hosts", "", hosts("hosts", func(p *ProxyFor) *flow.HostPatterns { return &p.Hosts })},
		{"proxy", "write the proxy's URL: proxy: \"http://10.0.0.1:3128\"", func(d *decoder, n *yaml.Node, p *ProxyFor) {
			w, ok := d.word(n, "the URL of a proxy")
			before := len(d.problems)
			if !ok {
				return
			}
			s := d.expandAs(w, inPassword, inURL(w.s))
			if len(d.problems) > before {
				return
			}
			u, what, next := parseProxy(s)
			if what != "" {
				d.errorAt(w.n, next, "%s", what)
				return
			}
			p.Proxy = u
		}},
	}
}

// inURL is how what a reference brings becomes part of a URL: as the text that
// it is, unless it is the whole URL.
func inURL(s string) func(string) string {
	if at := reference.FindStringIndex(s); at != nil && at[0] == 0 && at[1] == len(s) {
		return nil
	}
	return func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
}

func nameFields() []field[Name] {
	return []field[Name]{
		{"hosts", "say for which hosts: hosts: [shop.example]", hosts("hosts", func(n *Name) *flow.HostPatterns { return &n.Hosts })},
		{"address", "say where they are: address: 10.0.0.5", func(d *decoder, n *yaml.Node, name *Name) {
			w, ok := d.word(n, "an address")
			if !ok {
				return
			}
			if p, err := flow.ParseHostPattern(w.s); err != nil || strings.ContainsAny(p.String(), "*/") {
				d.errorAt(w.n, "write an IP address or a host, with or without :port", "this is no address")
				return
			}
			name.Address = w.s
		}},
	}
}

func timeoutFields() []field[Timeouts] {
	limit := func(name string, into func(*Timeouts) *time.Duration) field[Timeouts] {
		return field[Timeouts]{name, "", duration(name, 10*time.Millisecond, 24*time.Hour, into)}
	}
	return []field[Timeouts]{
		limit("dial", func(t *Timeouts) *time.Duration { return &t.Dial }),
		limit("handshake", func(t *Timeouts) *time.Duration { return &t.Handshake }),
		limit("first_byte", func(t *Timeouts) *time.Duration { return &t.FirstByte }),
		limit("stall", func(t *Timeouts) *time.Duration { return &t.Stall }),
		limit("silence", func(t *Timeouts) *time.Duration { return &t.Silence }),
		limit("idle", func(t *Timeouts) *time.Duration { return &t.Idle }),
	}
}

func throttleFields() []field[Throttle] {
	const most = 1_000_000
	return []field[Throttle]{
		{"hosts", "", hosts("hosts", func(t *Throttle) *flow.HostPatterns { return &t.Hosts })},
		{"tools", "", func(d *decoder, n *yaml.Node, t *Throttle) {
			var all []word
			words("tools", func(all *[]word) *[]word { return all })(d, n, &all)
			for _, w := range all {
				t.Tools = append(t.Tools, w.s)
			}
		}},
		{"rate", "", func(d *decoder, n *yaml.Node, t *Throttle) {
			w, ok := d.word(n, "a rate")
			if !ok {
				return
			}
			if t.Rate, ok = parseRate(w.s); !ok {
				d.errorAt(w.n, "write a number of requests per second, minute or hour: 10/s, 90/m, 500/h", "this is no rate")
			}
		}},
		{"burst", "", number("burst", 1, most, func(t *Throttle) *int { return &t.Burst })},
		{"concurrent", "", number("concurrent", 1, most, func(t *Throttle) *int { return &t.Concurrent })},
	}
}

// parseRate reads 10/s, 0.5/s, 90/m or 500/h, as requests per second.
func parseRate(s string) (perSecond float64, ok bool) {
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !(n > 0 && n <= 1e6) {
		return 0, false
	}
	switch strings.TrimSpace(unit) {
	case "s":
		return n, true
	case "m":
		return n / 60, true
	case "h":
		return n / 3600, true
	}
	return 0, false
}

// throttles finds entries that limit nothing.
func (d *decoder) throttles(n *yaml.Node, all []Throttle) {
	if n = resolve(n); len(n.Content) != len(all) {
		return
	}
	for i, t := range all {
		at := resolve(n.Content[i])
		switch {
		case t.Rate == 0 && t.Concurrent == 0 && !hasKey(at, "rate") && !hasKey(at, "concurrent"):
			d.errorAt(at, "say how much: rate: 10/s, or concurrent: 4", "this limits nothing")
		case t.Burst > 0 && t.Rate == 0 && !hasKey(at, "rate"):
			d.errorAt(at, "add rate:, or take burst: out", "a burst is of a rate, and there is none")
		}
	}
}
