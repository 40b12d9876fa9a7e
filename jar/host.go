package jar

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// maxHost is the longest host name in bytes (RFC 1035 §2.3.4, and the dot).
const maxHost = 254

// canonicalHost is §5.1.2: lower case, U-labels as A-labels, addresses in one
// spelling. Brackets and a port are tolerated and cut off. It does not
// allocate for a name that is canonical already. false: this cannot be a host,
// and no cookie belongs to it.
func canonicalHost(h string) (string, bool) {
	if strings.HasPrefix(h, "[") {
		end := strings.IndexByte(h, ']')
		if end < 0 {
			return "", false
		}
		return canonicalAddr(h[1:end])
	}
	switch strings.Count(h, ":") {
	case 0:
	case 1:
		h = h[:strings.IndexByte(h, ':')]
	default:
		return canonicalAddr(h)
	}
	if isASCII(h) {
		return strings.ToLower(h), isHost(h)
	}
	// Not the Lookup profile: it refuses names that resolvers take, such as
	// those with underscores.
	h, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(h)
	return h, err == nil && isHost(h)
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isHost tells names from what cannot be one: labels are not empty (a dot at
// the end is allowed), and there is nothing that ends a host in a URL.
func isHost(h string) bool {
	if h == "" || len(h) > maxHost || h[0] == '.' || strings.Contains(h, "..") {
		return false
	}
	for i := 0; i < len(h); i++ {
		if c := h[i]; c <= ' ' || c == 0x7f || strings.IndexByte("/\\?#@:;,\"", c) >= 0 {
			return false
		}
	}
	return true
}

func canonicalAddr(h string) (string, bool) {
	a, err := netip.ParseAddr(h)
	if err != nil {
		return "", false
	}
	return a.WithZone("").String(), true
}

// isAddr tells addresses from names. A name whose last label is a number is
// an address for every client that follows the URL standard, whatever its
// notation, so it is one here as well.
func isAddr(host string) bool {
	if strings.IndexByte(host, ':') >= 0 {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// isLoopback knows what cannot leave the machine (RFC 6761 §6.3 for the names).
func isLoopback(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// domainMatch is §5.1.3; both sides are canonical.
func domainMatch(host, domain string) bool {
	if host == domain {
		return host != ""
	}
	n := len(host) - len(domain)
	return n > 0 && domain != "" && host[n-1] == '.' && host[n:] == domain && !isAddr(host)
}

// publicSuffix asks the list of publicsuffix.org, and its default rule: a name
// without a dot is a suffix. An address has none.
func publicSuffix(host string) string {
	host = strings.TrimSuffix(host, ".")
	if isAddr(host) {
		return ""
	}
	suffix, _ := publicsuffix.PublicSuffix(host)
	return suffix
}

func isPublicSuffix(domain string) bool {
	return strings.TrimSuffix(domain, ".") == publicSuffix(domain)
}

// requestPath is the path of a request target, without the query.
func requestPath(p string) string {
	if i := strings.IndexAny(p, "?#"); i >= 0 {
		p = p[:i]
	}
	if p == "" || p[0] != '/' {
		return "/"
	}
	return p
}

// defaultPath is §5.1.4 for what requestPath returned.
func defaultPath(p string) string {
	i := strings.LastIndexByte(p, '/')
	if i <= 0 {
		return "/"
	}
	return p[:i]
}

// pathMatch is §5.1.4: bytes are compared, nothing is decoded.
func pathMatch(request, cookie string) bool {
	return strings.HasPrefix(request, cookie) &&
		(len(request) == len(cookie) || strings.HasSuffix(cookie, "/") || request[len(cookie)] == '/')
}
