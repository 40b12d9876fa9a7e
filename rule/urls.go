package rule

import (
	"fmt"
	"net/netip"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// URLs is one entry of a list of URLs: a Pattern, a Prefix, or an entry of
// parts (Protocol, Host, Port, File), all of which must match and of which an
// empty one is anything. Prefix and parts are those of Burp's scopes, which do
// not look at case; patterns are described in the package doc.
type URLs struct {
	Pattern string
	Target  string // what the pattern is: see Scope

	// Prefix is the beginning of a URL, with or without a scheme. A star in it
	// is a star. The host is compared whole; Subdomains adds the names below.
	Prefix     string
	Subdomains bool

	Protocol string // any, http or https
	// Host is a regex, or a range of IP addresses: 10.1.1.1/24,
	// 10.1.1-20.1-127, 2001:db8::/32.
	Host string
	Port string // a regex
	File string // a regex about the path without the query
}

// The values of Protocol; "" is any.
const (
	ProtocolAny   = "any"
	ProtocolHTTP  = "http"
	ProtocolHTTPS = "https"
)

// Patterns makes a list of entries of patterns.
func Patterns(patterns ...string) []URLs {
	list := make([]URLs, len(patterns))
	for i, p := range patterns {
		list[i].Pattern = p
	}
	return list
}

// String is the entry in words of the configuration.
func (u URLs) String() string {
	var parts []string
	for _, p := range []struct{ name, value string }{{"protocol", u.Protocol}, {"host", u.Host}, {"port", u.Port}, {"file", u.File}} {
		if p.value != "" {
			parts = append(parts, p.name+": "+p.value)
		}
	}
	switch {
	case u.Prefix != "" && u.Subdomains:
		return "prefix: " + u.Prefix + ", with subdomains"
	case u.Prefix != "":
		return "prefix: " + u.Prefix
	case len(parts) > 0:
		return strings.Join(parts, ", ")
	}
	return u.Pattern
}

// isAnything reports an entry that says nothing.
func (u URLs) isAnything() bool {
	return u.Prefix == "" && (u.Pattern == "" || u.Pattern == "*") && u.Host+u.Port+u.File == "" &&
		(u.Protocol == "" || u.Protocol == ProtocolAny)
}

// compile checks the entry. Errors have the key below the entry.
func (u URLs) compile() (*matcher, *Error) {
	parts := u.Protocol != "" || u.Host != "" || u.Port != "" || u.File != ""
	switch {
	case u.Pattern != "" && (u.Prefix != "" || parts), u.Prefix != "" && parts:
		return nil, &Error{Problem: "an entry is a pattern, a prefix, or one of parts", Next: "keep one of the three, and make entries of the others"}
	case u.Prefix != "":
		return prefixMatcher(u.Prefix, u.Subdomains)
	case u.Subdomains:
		return nil, &Error{Key: "include_subdomains", Problem: "only a prefix has subdomains", Next: "write prefix:, or a host regex that matches them"}
	case parts:
		return u.partsMatcher()
	}
	return compileMatcher(u.Pattern, u.Target)
}

func compileAll(key string, list []URLs) ([]*matcher, *Error) {
	var all []*matcher
	for i, u := range list {
		m, err := u.compile()
		if err != nil {
			return nil, within(fmt.Sprintf("%s[%d]", key, i), err)
		}
		all = append(all, m)
	}
	return all, nil
}

// prefixMatcher is Burp's simple form.
func prefixMatcher(prefix string, subdomains bool) (*matcher, *Error) {
	m := new(matcher)
	authority, path, ports, err := m.splitURL("prefix", prefix)
	if err != nil {
		return nil, err
	}
	if strings.Contains(authority, "*") {
		return nil, &Error{Key: "prefix", Problem: "a prefix has no wildcards, so no host has this name", Next: "write include_subdomains: true, or the pattern alone instead of prefix:"}
	}
	if authority == "" {
		return nil, &Error{Key: "prefix", Problem: "the prefix has no host", Next: "write it as example.com/path, or file: '^/path' for every host"}
	}
	if err := m.setAuthority(authority, ports); err != nil {
		err.Key = "prefix"
		return nil, err
	}
	if subdomains {
		if m.host.isAddress() {
			return nil, &Error{Key: "include_subdomains", Problem: "an IP address has no subdomains", Next: "take it out"}
		}
		m.host.kind = hostSuffix
	}
	m.path, m.fold = lowerASCII(path), true
	return m, nil
}

// partsMatcher is Burp's advanced form.
func (u URLs) partsMatcher() (*matcher, *Error) {
	m := new(matcher)
	switch strings.ToLower(u.Protocol) {
	case "", ProtocolAny:
	case ProtocolHTTP, ProtocolHTTPS:
		m.scheme = strings.ToLower(u.Protocol)
	default:
		return nil, &Error{Key: "protocol", Problem: fmt.Sprintf("there is no protocol %q", u.Protocol), Next: "write any, http or https"}
	}
	r, isRange, problem := parseRange(u.Host)
	switch {
	case problem != nil:
		return nil, within("host", problem)
	case isRange:
		m.host = hostPattern{kind: hostRange, text: u.Host, addresses: r}
	case u.Host != "":
		p, err := compileAnyCase("host", u.Host)
		if err != nil {
			return nil, err
		}
		m.host = hostPattern{kind: hostRegex, text: u.Host, regex: p}
		if text, ok := onlyText(u.Host); ok {
			m.host = hostPattern{kind: hostExact, text: canonicalHost(text)}
		}
	}
	if u.Port != "" {
		p, err := compilePattern(u.Port, -1)
		if err != nil {
			return nil, within("port", err)
		}
		m.portRegex, m.portText = p, u.Port
		if text, ok := onlyText(u.Port); ok {
			if n, err := strconv.ParseUint(text, 10, 16); err == nil && text == strconv.FormatUint(n, 10) {
				m.ports, m.port, m.portRegex, m.portText = portExact, uint16(n), nil, ""
			}
		}
	}
	if u.File != "" {
		p, err := compileAnyCase("file", u.File)
		if err != nil {
			return nil, err
		}
		m.file, m.fileText = p, u.File
	}
	return m, nil
}

// anyCase begins a regex that does not look at case.
const anyCase = "(?i)"

func compileAnyCase(key, regex string) (*pattern, *Error) {
	p, err := compilePattern(anyCase+regex, -1)
	if err != nil {
		e := within(key, err)
		e.Problem = strings.Replace(e.Problem, anyCase, "", 1)
		return nil, e
	}
	return p, nil
}

// onlyText is the one text that a regex of the form ^text$ matches.
func onlyText(regex string) (string, bool) {
	re, err := syntax.Parse(regex, syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat || len(re.Sub) != 3 || re.Sub[0].Op != syntax.OpBeginText ||
		re.Sub[1].Op != syntax.OpLiteral || re.Sub[2].Op != syntax.OpEndText {
		return "", false
	}
	text := string(re.Sub[1].Rune)
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return "", false
		}
	}
	return text, true
}

// ipRange is a range of addresses: a prefix, or four ranges of numbers.
type ipRange struct {
	prefix netip.Prefix
	octets [4][2]uint8 // where the prefix is not valid
}

func (r *ipRange) contains(host string) bool {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap()
	if r.prefix.IsValid() {
		return r.prefix.Contains(a)
	}
	if !a.Is4() {
		return false
	}
	for i, o := range a.As4() {
		if o < r.octets[i][0] || o > r.octets[i][1] {
			return false
		}
	}
	return true
}

// parseRange reads 10.1.1.1, 10.1.1.1/24, 10.1.1-20.1-127, 10.1.1.*, and IPv6
// addresses and prefixes. What looks like none of them is a regex.
func parseRange(s string) (r *ipRange, ok bool, problem *Error) {
	next := "write 10.1.1.1/24, 10.1.1-20.1-127 or 2001:db8::/32, or a regex without a slash"
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, false, &Error{Problem: fmt.Sprintf("%q is no range of addresses, and no host has a slash", s), Next: next}
		}
		return &ipRange{prefix: netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked()}, true, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return &ipRange{prefix: netip.PrefixFrom(a, a.BitLen())}, true, nil
	}
	parts := strings.Split(s, ".")
	if len(parts) != 4 || strings.Trim(s, "0123456789.-*") != "" {
		return nil, false, nil
	}
	r = new(ipRange)
	for i, part := range parts {
		low, high, isRange := strings.Cut(part, "-")
		switch {
		case part == "*":
			low, high = "0", "255"
		case !isRange:
			high = low
		}
		a, err1 := strconv.ParseUint(low, 10, 8)
		b, err2 := strconv.ParseUint(high, 10, 8)
		if err1 != nil || err2 != nil || a > b {
			return nil, false, &Error{Problem: fmt.Sprintf("%q in the range of addresses is not two numbers from 0 to 255 in order", part), Next: next}
		}
		r.octets[i] = [2]uint8{uint8(a), uint8(b)}
	}
	return r, true, nil
}

// matcher is one compiled entry.
type matcher struct {
	scheme string // "http", "https", or "" for both
	host   hostPattern
	ports  portRule
	port   uint16
	path   string // what path and query begin with; "" is anything
	fold   bool   // the path is in lower case, its stars are stars, and case does not matter
	regex  *pattern
	source string // of regex

	portRegex, file    *pattern
	portText, fileText string // of them
}

type portRule uint8

const (
	portAny     portRule = iota
	portDefault          // the scheme's own
	portExact
)

func (m *matcher) match(v *view) bool {
	if m.regex != nil {
		return m.regex.match(v.fullURL())
	}
	o := &v.flow.Origin
	switch {
	case m.scheme != "" && m.scheme != o.Scheme():
		return false
	case m.ports == portExact && o.Port != m.port:
		return false
	case m.ports == portDefault && o.Port != defaultPort(o.TLS):
		return false
	case !m.host.match(o.Host):
		return false
	case m.path == "" || m.path == "/":
	case m.fold && !hasPrefixFold(v.pathQuery(), m.path), !m.fold && !hasGlobPrefix(v.pathQuery(), m.path):
		return false
	}
	return (m.portRegex == nil || m.portRegex.match(v.port())) && (m.file == nil || m.file.match(v.file()))
}

// hasPrefixFold is bytes.HasPrefix for a prefix in lower case; only ASCII
// letters have case.
func hasPrefixFold(text []byte, prefix string) bool {
	if len(text) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if lower(text[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lower(c)
	}
	return string(b)
}

// hostPattern is a host with stars. All of it is in lower case.
type hostPattern struct {
	kind      hostKind
	text      string
	regex     *pattern // of hostRegex
	addresses *ipRange // of hostRange
}

type hostKind uint8

const (
	hostAny    hostKind = iota
	hostExact           // text is the host
	hostSuffix          // text is the name after "*.", which is covered too
	hostGlob            // text has stars elsewhere
	hostRegex           // text is the regex
	hostRange           // text is the range of addresses
)

func parseHost(s string) hostPattern {
	s = strings.TrimSuffix(strings.ToLower(s), ".")
	name, below := strings.CutPrefix(s, "*.")
	switch {
	case s == "" || s == "*":
		return hostPattern{kind: hostAny}
	case below && name != "" && !strings.Contains(name, "*"):
		return hostPattern{kind: hostSuffix, text: name}
	case strings.Contains(s, "*"):
		return hostPattern{kind: hostGlob, text: s}
	}
	return hostPattern{kind: hostExact, text: s}
}

func (h hostPattern) match(host string) bool {
	switch h.kind {
	case hostAny:
		return true
	case hostExact:
		return canonicalHost(host) == h.text
	case hostSuffix:
		rest, ok := strings.CutSuffix(canonicalHost(host), h.text)
		return ok && (rest == "" || rest[len(rest)-1] == '.')
	case hostRegex:
		return h.regex.matchText(canonicalHost(host))
	case hostRange:
		return h.addresses.contains(host)
	}
	host = canonicalHost(host)
	if glob(host, h.text) {
		return true
	}
	name, below := strings.CutPrefix(h.text, "*.")
	return below && glob(host, name)
}

// isAddress reports whether one IP address is meant.
func (h hostPattern) isAddress() bool {
	_, err := netip.ParseAddr(h.text)
	return err == nil && h.kind == hostExact
}

// canonicalHost is the host in lower case, which flow.Origin has already, and
// without the dot of the root.
func canonicalHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// glob matches the whole text; a star is any run of bytes.
func glob[T string | []byte](text T, pattern string) bool {
	t, p, star, retry := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			retry++
			p, t = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// hasGlobPrefix reports whether the text begins with the pattern. The pattern
// holds a star at its end when it holds one at all.
func hasGlobPrefix(text []byte, pattern string) bool {
	if strings.IndexByte(pattern, '*') < 0 {
		return len(text) >= len(pattern) && string(text[:len(pattern)]) == pattern
	}
	return glob(text, pattern)
}

// compileMatcher compiles a pattern of the kind, or of the one it looks like.
func compileMatcher(pattern, kind string) (*matcher, *Error) {
	guessed := kind == ""
	if guessed {
		kind = guessKind(pattern)
	}
	switch kind {
	case ScopeHost:
		return hostMatcher(pattern)
	case ScopeURL, ScopePrefix:
		return urlMatcher(pattern)
	case ScopeRegex:
		p, err := compilePattern(pattern, -1)
		if err != nil {
			e := within("pattern", err)
			if guessed {
				e.Next = "mend the regex, or say what the pattern is with target: host or target: url"
			}
			return nil, e
		}
		if pattern == "" {
			return &matcher{}, nil
		}
		return &matcher{regex: p, source: pattern}, nil
	}
	return nil, &Error{Key: "target", Problem: fmt.Sprintf("there is no scope target %q", kind), Next: "write host, url or regex"}
}

// guessKind says what a pattern looks like: a regex has characters that no
// host and hardly a URL has, a URL has a slash.
func guessKind(p string) string {
	switch {
	case strings.ContainsAny(p, `^$\(){}|+`), strings.HasPrefix(p, ".*"), strings.Contains(p, "?:"),
		strings.Contains(p, "[") && !strings.Contains(p, "[:") && !isBracketed(p),
		strings.Contains(p, ".*") && strings.Contains(p, "/") && !strings.Contains(p, ".*.") && !strings.Contains(p, ".*:"):
		return ScopeRegex
	case strings.Contains(p, "/"):
		return ScopeURL
	}
	return ScopeHost
}

// isBracketed reports whether the first bracket of p holds an IPv6 address.
func isBracketed(p string) bool {
	_, rest, _ := strings.Cut(p, "[")
	inside, _, ok := strings.Cut(rest, "]")
	_, err := netip.ParseAddr(inside)
	return ok && err == nil
}

// hostMatcher compiles host[:port].
func hostMatcher(pattern string) (*matcher, *Error) {
	if i := strings.IndexAny(pattern, "/?#@ \t^$\\(){}|+"); i >= 0 {
		return nil, &Error{Key: "pattern", Problem: fmt.Sprintf("%q is no host: it contains %q", pattern, pattern[i]),
			Next: "write the host alone, or target: url or target: regex"}
	}
	m := new(matcher)
	if err := m.setAuthority(pattern, portAny); err != nil {
		return nil, err
	}
	return m, nil
}

// urlMatcher compiles [scheme://]host[:port][/path…].
func urlMatcher(pattern string) (*matcher, *Error) {
	m := new(matcher)
	authority, path, ports, err := m.splitURL("pattern", pattern)
	if err != nil {
		return nil, err
	}
	if strings.Contains(path, "*") {
		if path = strings.TrimRight(path, "*"); strings.Contains(path, "*") {
			path += "*"
		}
	}
	m.path = path
	if err := m.setAuthority(authority, ports); err != nil {
		return nil, err
	}
	return m, nil
}

// splitURL takes [scheme://]authority[/path…] apart and sets the scheme. ports
// is what an authority without a port means.
func (m *matcher) splitURL(key, url string) (authority, path string, ports portRule, err *Error) {
	rest, ports := url, portAny
	if scheme, after, ok := strings.Cut(url, "://"); ok {
		rest, ports = after, portDefault
		switch strings.ToLower(scheme) {
		case "http", "ws":
			m.scheme = "http"
		case "https", "wss":
			m.scheme = "https"
		case "*":
		default:
			return "", "", 0, &Error{Key: key, Problem: fmt.Sprintf("%q is no scheme that a rule can be for", scheme), Next: "write http:// or https://, or leave it out for both"}
		}
	}
	authority = rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if path != "" && path[0] != '/' {
		path = "/" + path
	}
	return authority, path, ports, nil
}

// setAuthority reads host[:port]; without a port the rule is unnamed.
func (m *matcher) setAuthority(s string, unnamed portRule) *Error {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		inside, after, ok := strings.Cut(s[1:], "]")
		if !ok || after != "" && after[0] != ':' {
			return &Error{Key: "pattern", Problem: fmt.Sprintf("%q is no host", s), Next: "write an IPv6 address as [2001:db8::1]"}
		}
		host, port = inside, strings.TrimPrefix(after, ":")
	} else if i := strings.IndexByte(s, ':'); i >= 0 && strings.IndexByte(s[i+1:], ':') < 0 {
		host, port = s[:i], s[i+1:]
	}
	m.host, m.ports = parseHost(host), unnamed
	if addr, err := netip.ParseAddr(m.host.text); err == nil && m.host.kind == hostExact {
		m.host.text = addr.String()
	}
	switch {
	case port == "":
		return nil
	case port == "*":
		m.ports = portAny
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return &Error{Key: "pattern", Problem: fmt.Sprintf("%q is no port", port), Next: "write a number from 1 to 65535, or leave it out"}
	}
	m.ports, m.port = portExact, uint16(n)
	return nil
}

// matchText is match for a string.
func (p *pattern) matchText(s string) bool {
	if p.fast != nil {
		return p.fast.MatchString(s)
	}
	return p.match([]byte(s))
}
