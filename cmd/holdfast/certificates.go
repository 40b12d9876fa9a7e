package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-proxy/holdfast/ca"
)

// certificates reads the PEM files that --upstream-ca names.
func certificates(paths []string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--upstream-ca: %w", err)
		}
		found := 0
		for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("--upstream-ca %s: certificate %d: %w", path, found+1, err)
			}
			all = append(all, cert)
			found++
		}
		if found == 0 {
			return nil, fmt.Errorf("--upstream-ca %s holds no certificate in PEM", path)
		}
	}
	return all, nil
}

func rootFile(home string) string { return filepath.Join(home, ca.CertificateFile) }

// systemBundles are where systems keep the certificates they trust, in one
// file.
var systemBundles = [...]string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/cert.pem",
}

// bundle writes our root and the system's certificates into one file, since
// programs that are given a file trust nothing else.
func bundle(dir string, root []byte) (string, error) {
	all := append([]byte(nil), root...)
	for _, path := range systemBundles {
		if raw, err := os.ReadFile(path); err == nil {
			all = append(append(all, '\n'), raw...)
			break
		}
	}
	path := filepath.Join(dir, "bundle.pem")
	return path, os.WriteFile(path, all, 0o600)
}
