package config_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/config"
)

// withCertificate loads a configuration in testdata/tls with one certificate.
func withCertificate(t *testing.T, certificate string) (*config.File, error) {
	t.Helper()
	src := "origins: [{hosts: shop.example, certificate: {" + certificate + "}, ca: cert.pem}]\n"
	file, _, err := config.Parse(filepath.Join("testdata", "tls", "c.yaml"), []byte(src), config.Options{
		Env: func(string) (string, bool) { return "value", true }})
	return file, err
}

func TestCertificatesLoad(t *testing.T) {
	want, err := tls.LoadX509KeyPair("testdata/tls/cert.pem", "testdata/tls/key.pem")
	if err != nil {
		t.Fatal(err)
	}
	for about, certificate := range map[string]string{
		"PEM in two files":                     `pem: cert.pem, key: key.pem`,
		"PEM in one":                           `pem: both.pem`,
		"PKCS#12 with modern encryption":       `pkcs12: modern.p12, password: "${env:P12}"`,
		"PKCS#12 with legacy encryption":       `pkcs12: legacy.p12, password: value`,
		"PKCS#12 with RC2 for the certificate": `pkcs12: rc2.p12, password: value`,
		"PKCS#12 without a password":           `pkcs12: nopass.p12`,
	} {
		t.Run(about, func(t *testing.T) {
			file, err := withCertificate(t, certificate)
			if err != nil {
				t.Fatal(err)
			}
			o := file.Ways.Origins[0]
			if len(o.Certificate.Certificate) != 1 || string(o.Certificate.Certificate[0]) != string(want.Certificate[0]) {
				t.Error("another certificate was read")
			}
			if key, ok := o.Certificate.PrivateKey.(*ecdsa.PrivateKey); !ok || !key.Equal(want.PrivateKey) {
				t.Error("another key was read")
			}
			if len(o.Roots) != 1 || o.Roots[0].Subject.CommonName != "alice" {
				t.Errorf("roots: %v", o.Roots)
			}
		})
	}
}

func TestCertificatesThatDoNotLoad(t *testing.T) {
	for certificate, want := range map[string]string{
		`pkcs12: modern.p12, password: hunter2`: "this is not the password",
		`pkcs12: legacy.p12, password: hunter2`: "this is not the password",
		`pkcs12: modern.p12`:                    "wants a password",
		`pkcs12: cert.pem`:                      "no PKCS#12 file",
		`pem: cert.pem, key: encrypted.pem`:     "is encrypted",
		`pem: cert.pem`:                         "cannot be read",
		`pem: key.pem`:                          "cannot be read",
	} {
		_, err := withCertificate(t, certificate)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", certificate, err, want)
		}
	}
}

func TestParseProxy(t *testing.T) {
	u, err := config.ParseProxy("SOCKS5H://us%40er:p%2Fw@proxy.example:1080")
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	if u.Scheme != "socks5h" || u.User.Username() != "us@er" || password != "p/w" || u.Host != "proxy.example:1080" {
		t.Errorf("got %v", u)
	}
	if _, err := config.ParseProxy("proxy:hunter2@x"); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "; ") {
		t.Errorf("the error is %v", err)
	}
}

// certificateFiles stands in for the files that an example names.
func certificateFiles(path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".pem":
		return os.ReadFile("testdata/tls/both.pem")
	case ".p12":
		return os.ReadFile("testdata/tls/modern.p12")
	}
	if strings.HasSuffix(path, "cookies.txt") {
		return []byte("shop.example\tFALSE\t/\tTRUE\t0\tsid\tvalue\n"), nil
	}
	return []byte("value\n"), nil
}
