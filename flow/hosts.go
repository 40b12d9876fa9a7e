package flow

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// A HostPattern says which origins something is for. The zero value is every
// origin. It is never changed; any goroutine may use it.
type HostPattern struct {
	name   string       // as compared: lower case, "*" for any characters
	below  bool         // name, and every name below it
	prefix netip.Prefix // of origins that are IP addresses; not valid: none
	port   uint16       // 0 is every port
	text   string
}

// ParseHostPattern reads a pattern:
//
//	shop.example       that host, case does not matter
//	*.shop.example     it and every name below it, as in a rule's scope
//	api-*.example      a star stands for any characters, dots too
//	*                  every host
//	10.0.0.0/8, ::1    IP addresses, or networks of them; names are not resolved for this
//
// Each may be followed by :port; an IPv6 address then stands in brackets. The
// error says in a few words what is wrong.
func ParseHostPattern(s string) (HostPattern, error) {
	p := HostPattern{text: s}
	if s == "" {
		return p, errors.New("it is empty")
	}
	if strings.Contains(s, "://") {
		return p, errors.New("it is a URL; the host alone is wanted")
	}
	if prefix, err := netip.ParsePrefix(s); err == nil {
		p.prefix = prefix.Masked()
		return p, nil
	}
	name, err := p.takePort(s)
	if err != nil {
		return p, err
	}
	if i := strings.IndexAny(name, "/?#@[] \t\r\n\\^$(){}|+,:"); i >= 0 && !isIPv6(name) {
		return p, errors.New("a host does not contain " + strconv.Quote(name[i:i+1]))
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		p.prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		return p, nil
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if rest, ok := strings.CutPrefix(name, "*."); ok && !strings.Contains(rest, "*") {
		p.below, name = true, rest
	}
	if name == "" || name == "*" && s[len(s)-1] == '.' {
		return p, errors.New("the host is empty")
	}
	p.name = name
	return p, nil
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// takePort takes the port off, and the brackets of an IPv6 address.
func (p *HostPattern) takePort(s string) (name string, err error) {
	if isIPv6(s) {
		return s, nil
	}
	name, port, found := s, "", false
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		name, port, found = s[:i], s[i+1:], true
	}
	if found && port != "*" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", errors.New("a port is a number from 1 to 65535")
		}
		p.port = uint16(n)
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok || !isIPv6(inner) {
			return "", errors.New("what stands in brackets is no IPv6 address")
		}
		name = inner
	}
	return name, nil
}

// String is the pattern as it was written.
func (p HostPattern) String() string {
	if p.text == "" {
		return "*"
	}
	return p.text
}

// Match tells whether the origin is one of those. It allocates nothing.
func (p HostPattern) Match(o Origin) bool {
	if p.port != 0 && p.port != o.Port {
		return false
	}
	if p.prefix.IsValid() {
		addr, err := netip.ParseAddr(o.Host)
		return err == nil && p.prefix.Contains(addr.Unmap().WithZone(""))
	}
	host := strings.TrimSuffix(o.Host, ".")
	switch {
	case p.name == "" || p.name == "*":
		return true
	case p.below:
		rest, ok := strings.CutSuffix(host, p.name)
		return ok && (rest == "" || rest[len(rest)-1] == '.')
	}
	return glob(p.name, host)
}

// glob matches with stars in time len(pattern) × len(s): after a mismatch only
// the last star takes in one character more.
func glob(pattern, s string) bool {
	i, j, star, mark := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && pattern[i] == s[j]:
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// HostPatterns are patterns of which any may match.
type HostPatterns []HostPattern

// Match tells whether one of them does. None match nothing.
func (ps HostPatterns) Match(o Origin) bool {
	for i := range ps {
		if ps[i].Match(o) {
			return true
		}
	}
	return false
}
