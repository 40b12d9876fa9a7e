package ca

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

const (
	// maxName is the longest host name: 255 octets on the wire of DNS
	// (RFC 1035 §2.3.4) are 253 characters of text.
	maxName = 253
	// maxCommonName is ub-common-name of RFC 5280 appendix A.1.
	maxCommonName = 64
	// organization is what issuers and subjects of ours share.
	organization = "Holdfast"
)

// A NameError says that no certificate can be made for a host.
type NameError struct {
	Host   string
	Reason string
}

func (e *NameError) Error() string {
	return fmt.Sprintf("no certificate for host %.100q: %s", e.Host, e.Reason)
}

// Leaf returns a certificate for host with its key, made now or out of the
// cache. host is a DNS name, with or without a closing dot, in any case, in
// ASCII or Unicode, or an IP address, with or without brackets; it has no
// port. Answers from the cache allocate nothing when host is written in lower
// case ASCII.
//
// The certificate is shared and must not be changed. Its Leaf field is nil;
// a TLS server has no use for it. The only errors that depend on the host are
// of type *[NameError].
func (a *Authority) Leaf(host string) (*tls.Certificate, error) {
	name, err := canonical(host)
	if err != nil {
		return nil, err
	}
	now := a.clock()
	return a.leaves.get(name, now, func() (made, error) { return a.issue(name, now) })
}

// canonical is the one spelling under which a host's leaf is kept.
func canonical(host string) (string, error) {
	name := host
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		name = name[1 : len(name)-1]
	}
	if addr, ok := address(name); ok {
		return addr, nil
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !isASCII(name) {
		// The lookup mapping of RFC 5895 and UTS 46, but underscores stay:
		// they are no host names and are in use all the same.
		ascii, err := idna.New(idna.MapForLookup(), idna.StrictDomainName(false)).ToASCII(name)
		if err != nil {
			return "", &NameError{host, "it has no ASCII form: " + err.Error()}
		}
		name = ascii
	}
	switch {
	case name == "":
		return "", &NameError{host, "it is empty"}
	case len(name) > maxName:
		return "", &NameError{host, fmt.Sprintf("it has %d characters, more than the %d that DNS can carry", len(name), maxName)}
	}
	for i := range len(name) {
		// A star would make the leaf valid for hosts that nobody asked for.
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`*/\:@?#[]%`, c) >= 0 {
			return "", &NameError{host, fmt.Sprintf("it contains %q", c)}
		}
	}
	return name, nil
}

// address recognises an IP literal and drops its zone, which is a matter of
// this machine and of no certificate (RFC 6874 §4).
func address(s string) (string, bool) {
	// Most hosts are names; ParseAddr would allocate an error for each.
	if !strings.Contains(s, ":") && (s == "" || s[len(s)-1] < '0' || s[len(s)-1] > '9') {
		return "", false
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return "", false
	}
	var buffer [48]byte
	if text := addr.WithZone("").Unmap().AppendTo(buffer[:0]); string(text) != s {
		return string(text), true
	}
	return s, true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// issue signs a leaf for a canonical name.
func (a *Authority) issue(name string, now time.Time) (made, error) {
	serial, err := newSerial()
	if err != nil {
		return made{}, err
	}
	notBefore := now.Add(-backdate).UTC().Truncate(time.Second)
	notAfter := notBefore.Add(leafDays - time.Second) // both ends belong to the validity (RFC 5280 §4.1.2.5)
	if notBefore.Before(a.root.NotBefore) {
		notBefore = a.root.NotBefore
	}
	if notAfter.After(a.root.NotAfter) {
		notAfter = a.root.NotAfter
	}
	der, err := a.sign(leaf{name, serial, notBefore, notAfter})
	if err != nil {
		return made{}, fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	chain := append([][]byte{der}, a.chain...)
	return made{
		cert: &tls.Certificate{Certificate: chain, PrivateKey: a.leafKey},
		// Near the root's end a leaf lasts as long as the root does.
		renew: notAfter.Add(-backdate),
	}, nil
}
