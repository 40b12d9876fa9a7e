package config

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/holdfast-proxy/holdfast/flow"
)

// originDraft is an Origin whose identities are not known to exist yet.
type originDraft struct {
	Origin
	identities []word
}

type certificateDraft struct {
	pem, key, pkcs12, password word
}

func originFields() []field[originDraft] {
	return []field[originDraft]{
		{"hosts", "", hosts("hosts", func(o *originDraft) *flow.HostPatterns { return &o.Hosts })},
		{"identities", "", words("identities", func(o *originDraft) *[]word { return &o.identities })},
		{"certificate", "", func(d *decoder, n *yaml.Node, o *originDraft) {
			var c certificateDraft
			if object(d, n, tableCertificate, certificateFields(), &c) {
				o.Certificate = d.certificate(n, &c)
			}
		}},
		{"min_tls", "", func(d *decoder, n *yaml.Node, o *originDraft) {
			var w word
			choice("version of TLS", tlsVersions(), func(w *word) *word { return w })(d, n, &w)
			for i, v := range tlsVersions() {
				if w.s == v {
					o.MinTLS = tls.VersionTLS10 + uint16(i)
				}
			}
		}},
		{"legacy", "", said("legacy", func(o *originDraft) **bool { return &o.Legacy })},
		{"verify", "", said("verify", func(o *originDraft) **bool { return &o.Verify })},
		{"ca", "", func(d *decoder, n *yaml.Node, o *originDraft) {
			var all []word
			words("ca", func(all *[]word) *[]word { return all })(d, n, &all)
			for _, w := range all {
				o.Roots = append(o.Roots, d.roots(w)...)
			}
		}},
		{"source", "", func(d *decoder, n *yaml.Node, o *originDraft) {
			w, ok := d.word(n, "source")
			if !ok {
				return
			}
			addr, err := netip.ParseAddr(w.s)
			if err != nil {
				d.errorAt(w.n, "write an IP address of this machine", "this is no IP address")
				return
			}
			o.Source = addr.Unmap()
		}},
	}
}

// tlsVersions in the order of their numbers, from TLS 1.0.
func tlsVersions() []string { return []string{"1.0", "1.1", "1.2", "1.3"} }

// said makes the reader of a key that is true, false or not there.
func said[T any](what string, into func(*T) **bool) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, t *T) {
		var b bool
		before := len(d.problems)
		if flag(what, func(b *bool) *bool { return b })(d, n, &b); len(d.problems) == before {
			*into(t) = &b
		}
	}
}

func certificateFields() []field[certificateDraft] {
	return []field[certificateDraft]{
		{"pem", "", single("pem", func(c *certificateDraft) *word { return &c.pem })},
		{"key", "", single("key", func(c *certificateDraft) *word { return &c.key })},
		{"pkcs12", "", single("pkcs12", func(c *certificateDraft) *word { return &c.pkcs12 })},
		{"password", "", func(d *decoder, n *yaml.Node, c *certificateDraft) {
			if w, ok := d.word(n, "password"); ok {
				c.password = w
				c.password.s = d.expandAs(w, inPassword, nil)
			}
		}},
	}
}

// origins checks that their identities exist.
func (d *decoder) origins(f *fileDraft, known map[string]Identity) []Origin {
	var all []Origin
	for _, o := range f.origins {
		for _, w := range o.identities {
			if _, ok := known[w.s]; !ok && w.s != anonymous {
				d.errorAt(w.n, "name one of those under identities:", "there is no such identity")
			}
			o.Identities = append(o.Identities, w.s)
		}
		all = append(all, o.Origin)
	}
	return all
}

// certificate reads the files of a client certificate.
func (d *decoder) certificate(n *yaml.Node, c *certificateDraft) *tls.Certificate {
	switch {
	case c.pem.given() && c.pkcs12.given():
		d.errorAt(c.pkcs12.n, "keep pem:, or pkcs12:", "the certificate is named twice")
	case c.pkcs12.given() && c.key.given():
		d.errorAt(c.key.n, "take key: out", "a PKCS#12 file holds the key as well")
	case c.pem.given() && c.password.given():
		d.errorAt(c.password.n, "take password: out; make a PKCS#12 file where the key must stay encrypted", "only PKCS#12 files have a password here")
	case c.pem.given():
		return d.pemPair(c)
	case c.pkcs12.given():
		return d.pkcs12(c)
	default:
		d.errorAt(n, "write pem: FILE and key: FILE, or pkcs12: FILE and password:", "a certificate is in a file")
	}
	return nil
}

func (d *decoder) pemPair(c *certificateDraft) *tls.Certificate {
	chain, ok := d.near(c.pem)
	key, at := chain, c.pem
	if ok && c.key.given() {
		at = c.key
		key, ok = d.near(c.key)
	}
	if !ok {
		return nil
	}
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			d.errorAt(at.n, "put it into a PKCS#12 file (openssl pkcs12 -export) and write pkcs12: and password:", "the key in this file is encrypted")
			return nil
		}
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		d.errorAt(at.n, "the certificate and its key as PEM are wanted; the key may stand in the same file", "the certificate cannot be read: %s", plainTLS(err))
		return nil
	}
	return &pair
}

func (d *decoder) pkcs12(c *certificateDraft) *tls.Certificate {
	raw, ok := d.near(c.pkcs12)
	if !ok {
		return nil
	}
	key, leaf, chain, err := pkcs12.DecodeChain(raw, c.password.s)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && !c.password.given():
		d.errorAt(c.pkcs12.n, "add password: \"${env:NAME}\"", "the PKCS#12 file wants a password")
		return nil
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		d.errorAt(c.password.n, "correct it", "this is not the password of the PKCS#12 file")
		return nil
	case errors.As(err, new(pkcs12.NotImplementedError)):
		d.errorAt(c.pkcs12.n, "make it anew with openssl pkcs12 -export", "the PKCS#12 file cannot be read: %s", plainTLS(err))
		return nil
	case err != nil: // what the parser says of it helps nobody
		d.errorAt(c.pkcs12.n, "a file with one key and its certificate is wanted, as of openssl pkcs12 -export", "this is no PKCS#12 file of one key")
		return nil
	}
	if _, ok := key.(crypto.Signer); !ok {
		d.errorAt(c.pkcs12.n, "a key of RSA, ECDSA or Ed25519 is wanted", "the key in the PKCS#12 file cannot sign")
		return nil
	}
	pair := &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair
}

// plainTLS is an error without the names of packages.
func plainTLS(err error) string {
	s := err.Error()
	for _, name := range []string{"tls: ", "pkcs12: ", "x509: "} {
		s = strings.TrimPrefix(s, name)
	}
	return s
}

// roots reads certificates to trust.
func (d *decoder) roots(w word) []*x509.Certificate {
	raw, ok := d.near(w)
	if !ok {
		return nil
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			d.errorAt(w.n, "get the file anew", "certificate %s of this file cannot be read: %s", strconv.Itoa(len(all)+1), plainTLS(err))
			return nil
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		d.errorAt(w.n, "name a file that has -----BEGIN CERTIFICATE-----", "this file holds no certificate in PEM")
	}
	return all
}

// near reads a file whose name is relative to the configuration.
func (d *decoder) near(w word) ([]byte, bool) {
	path := w.s
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.text.name), path)
	}
	if !d.may(w.n, 0, useCertificate, path) {
		return nil, false
	}
	raw, err := d.read(w.n, path)
	switch {
	case err != nil:
		d.errorAt(w.n, "the name is relative to the configuration file: "+path, "the file %s cannot be read: %s", w.s, cause(err))
		return nil, false
	case len(raw) > MaxFileSize:
		d.errorAt(w.n, "at most "+formatSize(MaxFileSize)+" are read", "the file %s is too large", w.s)
		return nil, false
	}
	return raw, true
}
