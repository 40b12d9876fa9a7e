package holdfast

import (
	"net/url"
	"strconv"

	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// ways are the file's ways out. A proxy of the command line takes the place of
// the file's; what the file reaches directly stays direct.
func ways(w config.Ways, proxy *url.URL) upstream.Ways {
	out := upstream.Ways{Direct: w.Direct}
	if proxy != nil {
		w.Proxies = []config.ProxyFor{{Proxy: proxy}}
	}
	for _, p := range w.Proxies {
		out.Proxies = append(out.Proxies, upstream.ProxyFor{Hosts: p.Hosts, Proxy: proxyAt(p.Proxy)})
	}
	for _, n := range w.Names {
		out.Names = append(out.Names, upstream.Name{Hosts: n.Hosts, Address: n.Address})
	}
	for _, o := range w.Origins {
		out.Settings = append(out.Settings, upstream.Settings{Hosts: o.Hosts, Identities: o.Identities,
			Certificate: o.Certificate, MinTLS: o.MinTLS, Legacy: o.Legacy, Verify: o.Verify, Roots: o.Roots, Source: o.Source})
	}
	return out
}

func proxyAt(u *url.URL) upstream.Proxy {
	port, _ := strconv.ParseUint(u.Port(), 10, 16) // config.ParseProxy has seen to it
	p := upstream.Proxy{Scheme: u.Scheme, Host: u.Hostname(), Port: uint16(port), User: u.User.Username()}
	p.Password, _ = u.User.Password()
	return p
}

func poolLimits(f *config.File) upstream.Limits {
	t := f.Ways.Timeouts
	return upstream.Limits{LargeHeads: f.Limits.LargeHeads, Dial: t.Dial, Handshake: t.Handshake, FirstByte: t.FirstByte,
		Stall: t.Stall, Silence: t.Silence, Idle: t.Idle}
}

func throttle(all []config.Throttle) *upstream.Throttle {
	var limits []upstream.Limit
	for _, t := range all {
		limits = append(limits, upstream.Limit{Hosts: t.Hosts, Tools: t.Tools, Rate: t.Rate, Burst: t.Burst, Concurrent: t.Concurrent})
	}
	return upstream.NewThrottle(limits)
}
