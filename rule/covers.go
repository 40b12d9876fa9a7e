package rule

import "strings"

// Covers tells whether an enabled rule may be about requests to the host,
// whatever their scheme, port, path and tool. Of a regex that looks at the URL
// it is assumed when it matches the host's root, or has the host's name in it.
func (s *Set) Covers(host string) bool {
	host = canonicalHost(host)
	for _, r := range s.rules {
		for _, m := range r.Scope.entries() {
			switch {
			case m.regex == nil:
				if m.host.match(host) {
					return true
				}
			case m.regex.match([]byte("https://" + host + "/")), m.regex.match([]byte("http://" + host + "/")),
				strings.Contains(strings.ToLower(strings.ReplaceAll(m.source, `\`, "")), host):
				return true
			}
		}
	}
	return false
}
