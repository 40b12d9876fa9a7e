package ca_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/ca"
)

const day = 24 * time.Hour

func newAuthority(t testing.TB) *ca.Authority {
	t.Helper()
	a, err := ca.New(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// leaf makes a leaf and parses it, since an Authority keeps the bytes only.
func leaf(t testing.TB, a *ca.Authority, host string) *x509.Certificate {
	t.Helper()
	pair, err := a.Leaf(host)
	if err != nil {
		t.Fatalf("Leaf(%q): %v", host, err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatalf("Leaf(%q) cannot be parsed: %v", host, err)
	}
	return cert
}

func TestLeafIsForExactlyThisName(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, label[:57]}, ".") + ".de" // 252 characters
	tests := []struct {
		name, host, verify, common string
		dns, ip                    string
	}{
		{name: "a plain name", host: "shop.example", verify: "shop.example", common: "shop.example", dns: "shop.example"},
		{name: "case is folded", host: "Shop.EXAMPLE", verify: "shop.example", common: "shop.example", dns: "shop.example"},
		{name: "a closing dot is dropped", host: "shop.example.", verify: "shop.example", common: "shop.example", dns: "shop.example"},
		{name: "a name without a dot", host: "localhost", verify: "localhost", common: "localhost", dns: "localhost"},
		{name: "an underscore", host: "my_shop.example", verify: "my_shop.example", common: "my_shop.example", dns: "my_shop.example"},
		{name: "a name that looks like an address", host: "1.2.3.4.5", verify: "1.2.3.4.5", common: "1.2.3.4.5", dns: "1.2.3.4.5"},
		{name: "letters outside ASCII", host: "Bücher.example", verify: "xn--bcher-kva.example", common: "xn--bcher-kva.example", dns: "xn--bcher-kva.example"},
		{name: "the same, encoded already", host: "xn--bcher-kva.example", verify: "xn--bcher-kva.example", common: "xn--bcher-kva.example", dns: "xn--bcher-kva.example"},
		{name: "an ideographic full stop", host: "例え。jp", verify: "xn--r8jz45g.jp", common: "xn--r8jz45g.jp", dns: "xn--r8jz45g.jp"},
		{name: "64 characters fit the common name", host: label[:60] + ".com", verify: label[:60] + ".com", common: label[:60] + ".com", dns: label[:60] + ".com"},
		{name: "65 characters do not", host: label[:61] + ".com", verify: label[:61] + ".com", dns: label[:61] + ".com"},
		{name: "as long as DNS allows", host: long, verify: long, dns: long},
		{name: "IPv4", host: "127.0.0.1", verify: "127.0.0.1", common: "127.0.0.1", ip: "127.0.0.1"},
		{name: "IPv6", host: "::1", verify: "::1", common: "::1", ip: "::1"},
		{name: "IPv6 in brackets, long-winded", host: "[2001:DB8:0:0::1]", verify: "2001:db8::1", common: "2001:db8::1", ip: "2001:db8::1"},
		{name: "IPv6 with a zone", host: "fe80::1%eth0", verify: "fe80::1", common: "fe80::1", ip: "fe80::1"},
		{name: "IPv4 inside IPv6", host: "::ffff:192.0.2.1", verify: "192.0.2.1", common: "192.0.2.1", ip: "192.0.2.1"},
	}
	a := newAuthority(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert := leaf(t, a, tt.host)
			if cert.Subject.CommonName != tt.common {
				t.Errorf("common name is %q, want %q", cert.Subject.CommonName, tt.common)
			}
			if got := strings.Join(cert.DNSNames, " "); got != tt.dns {
				t.Errorf("DNS names are %q, want %q", got, tt.dns)
			}
			var ips []string
			for _, ip := range cert.IPAddresses {
				ips = append(ips, ip.String())
			}
			if got := strings.Join(ips, " "); got != tt.ip {
				t.Errorf("IP addresses are %q, want %q", got, tt.ip)
			}
			if _, err := cert.Verify(x509.VerifyOptions{DNSName: tt.verify, Roots: a.Pool()}); err != nil {
				t.Errorf("does not verify for %q: %v", tt.verify, err)
			}
		})
	}
}

func TestLeafRefusesWhatIsNoHost(t *testing.T) {
	tests := []struct{ name, host string }{
		{"empty", ""},
		{"only a dot", "."},
		{"a wildcard", "*.example.com"},
		{"with a port", "shop.example:443"},
		{"a URL", "https://shop.example/"},
		{"credentials", "alice@shop.example"},
		{"a control character", "shop\n.example"},
		{"a NUL", "shop.example\x00.evil.example"},
		{"invalid UTF-8", "sh\xffop.example"},
		{"254 characters", strings.Repeat("a", 254)},
	}
	a := newAuthority(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := a.Leaf(tt.host)
			var bad *ca.NameError
			if !errors.As(err, &bad) {
				t.Fatalf("Leaf(%q) returned %v, want a *NameError", tt.host, err)
			}
			if bad.Host != tt.host || bad.Reason == "" {
				t.Errorf("the error names host %q and reason %q", bad.Host, bad.Reason)
			}
		})
	}
}

func TestLeafFields(t *testing.T) {
	a := newAuthority(t)
	first, second := leaf(t, a, "one.example"), leaf(t, a, "two.example")
	if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
		t.Error("two leaves have one serial number")
	}
	if first.SerialNumber.Sign() <= 0 || first.SerialNumber.BitLen() > 159 {
		t.Errorf("serial number %v is not positive and within 20 octets", first.SerialNumber)
	}
	if fmt.Sprint(first.PublicKey) != fmt.Sprint(second.PublicKey) {
		t.Error("two leaves have different keys")
	}
	spki := sha256.Sum256(first.RawSubjectPublicKeyInfo)
	if want := base64.StdEncoding.EncodeToString(spki[:]); a.SPKI() != want {
		t.Errorf("SPKI is %s, the leaf's is %s", a.SPKI(), want)
	}
	if string(first.AuthorityKeyId) != string(a.Root().SubjectKeyId) || len(first.AuthorityKeyId) == 0 {
		t.Errorf("authority key identifier is %x, the root's is %x", first.AuthorityKeyId, a.Root().SubjectKeyId)
	}
	if len(first.SubjectKeyId) == 0 || string(first.SubjectKeyId) == string(first.AuthorityKeyId) {
		t.Errorf("subject key identifier is %x", first.SubjectKeyId)
	}
	if len(first.ExtKeyUsage) != 1 || first.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("extended key usage is %v, want serverAuth only", first.ExtKeyUsage)
	}
	if first.IsCA || !first.BasicConstraintsValid {
		t.Error("the leaf does not say that it is no authority")
	}
	if life := first.NotAfter.Sub(first.NotBefore); life > 397*day {
		t.Errorf("valid for %v, more than 397 days", life)
	}
	if behind := time.Since(first.NotBefore); behind < 29*day {
		t.Errorf("starts only %v ago: clocks that are behind refuse it", behind)
	}
}

// From 2050 on, times are written in another form (RFC 5280 §4.1.2.5).
func TestLeafAfter2050(t *testing.T) {
	now := time.Date(2055, 1, 1, 0, 0, 0, 0, time.UTC)
	a, err := ca.New(func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	cert := leaf(t, a, "shop.example")
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "shop.example", Roots: a.Pool(), CurrentTime: now}); err != nil {
		t.Error(err)
	}
}

func TestLeafIsRenewedBeforeItEnds(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a, err := ca.New(func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	first := leaf(t, a, "shop.example")
	now = first.NotAfter.Add(-31 * day)
	if again := leaf(t, a, "shop.example"); again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("was made anew 31 days before its end")
	}
	now = first.NotAfter.Add(-29 * day)
	second := leaf(t, a, "shop.example")
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("was not made anew 29 days before its end")
	}
	if !second.NotAfter.After(first.NotAfter) {
		t.Errorf("the new one ends on %v, no later than the old one", second.NotAfter)
	}

	now = a.Root().NotAfter.Add(-10 * day)
	last := leaf(t, a, "shop.example")
	if last.NotAfter.After(a.Root().NotAfter) {
		t.Errorf("ends on %v, after the root does (%v)", last.NotAfter, a.Root().NotAfter)
	}
}

func TestCacheIsBoundedAndDropsTheLeastRecentlyUsed(t *testing.T) {
	a := newAuthority(t)
	name := func(i int) string { return fmt.Sprintf("h%d.example", i) }
	get := func(host string) *tls.Certificate {
		t.Helper()
		pair, err := a.Leaf(host)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	first, second := get(name(0)), get(name(1))
	for i := 2; i < ca.CacheSize; i++ {
		get(name(i))
	}
	if get(name(0)) != first {
		t.Fatalf("the first of %d leaves is gone", ca.CacheSize)
	}
	get("one-more.example")
	if get(name(0)) != first {
		t.Error("the leaf that was used last is gone")
	}
	if get(name(1)) == second {
		t.Error("the least recently used leaf is still there")
	}
}

func TestOneLeafForAllWhoAskAtOnce(t *testing.T) {
	a := newAuthority(t)
	const callers, names = 64, 4
	var got [callers]*tls.Certificate
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range callers {
		done.Go(func() {
			start.Wait()
			pair, err := a.Leaf(fmt.Sprintf("h%d.example", i%names))
			if err != nil {
				t.Error(err)
			}
			got[i] = pair
		})
	}
	start.Done()
	done.Wait()
	for i := range callers {
		if got[i] != got[i%names] {
			t.Fatalf("callers %d and %d got different leaves of one name", i%names, i)
		}
	}
}

func TestOpenMakesARootOnceAndFindsItAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home", "ca")
	first := open(t, dir)
	second := open(t, dir)
	if first.Fingerprint() != second.Fingerprint() {
		t.Error("the second start has another root")
	}
	if first.SPKI() != second.SPKI() {
		t.Error("the second start has another key for leaves")
	}
	for path, want := range map[string]os.FileMode{
		dir:                                    0o700 | os.ModeDir,
		filepath.Join(dir, ca.RootFile):        0o600,
		filepath.Join(dir, ca.CertificateFile): 0o644,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, ca.CertificateFile))
	if err != nil {
		t.Fatal(err)
	}
	if string(public) != string(first.RootPEM()) || strings.Contains(string(public), "PRIVATE") {
		t.Errorf("%s holds\n%s", ca.CertificateFile, public)
	}
	if names := files(t, dir); len(names) != 2 {
		t.Errorf("the directory holds %v, want two files", names)
	}
	life := first.Root().NotAfter.Sub(time.Now())
	if life < (10*365-31)*day || life > 10*366*day {
		t.Errorf("the root ends in %v, want about ten years", life)
	}
}

func TestProcessesThatStartAtOnceAgree(t *testing.T) {
	for range 8 {
		dir := filepath.Join(t.TempDir(), "ca")
		const processes = 8
		var prints [processes]string
		var start, done sync.WaitGroup
		start.Add(1)
		for i := range processes {
			done.Go(func() {
				start.Wait()
				a, err := ca.Open(dir, time.Now)
				if err != nil {
					t.Error(err)
					return
				}
				prints[i] = a.Fingerprint()
			})
		}
		start.Done()
		done.Wait()
		for _, print := range prints {
			if print != prints[0] {
				t.Fatalf("roots differ: %v", prints)
			}
		}
		if names := files(t, dir); len(names) != 2 {
			t.Errorf("the directory holds %v, want two files", names)
		}
	}
}

func TestOpenRefusesAndSaysWhatToDo(t *testing.T) {
	good := t.TempDir()
	open(t, good)
	whole, err := os.ReadFile(filepath.Join(good, ca.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	key, certificate, _ := strings.Cut(string(whole), "-----BEGIN CERTIFICATE")
	certificate = "-----BEGIN CERTIFICATE" + certificate
	other := t.TempDir()
	open(t, other)
	foreign, err := os.ReadFile(filepath.Join(other, ca.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	foreignKey, _, _ := strings.Cut(string(foreign), "-----BEGIN CERTIFICATE")

	tests := []struct {
		name, text string
		mode       os.FileMode
		want       []string
	}{
		{"readable by the group", string(whole), 0o640, []string{"mode 0640", "chmod 600"}},
		{"readable by everybody", string(whole), 0o644, []string{"mode 0644", "chmod 600"}},
		{"empty", "", 0o600, []string{"no private key", "move the file away"}},
		{"cut short", string(whole[:40]), 0o600, []string{"no private key", "move the file away"}},
		{"without the key", certificate, 0o600, []string{"no private key"}},
		{"without the certificate", key, 0o600, []string{"no certificate"}},
		{"another root's key", foreignKey + certificate, 0o600, []string{"does not belong"}},
		{"two keys", key + foreignKey + certificate, 0o600, []string{"more than one private key"}},
		{"something else", "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", 0o600, []string{`"DH PARAMETERS"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, ca.RootFile)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := ca.Open(dir, time.Now)
			if err == nil {
				t.Fatal("was accepted")
			}
			for _, want := range append(tt.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not contain %q: %v", want, err)
				}
			}
			if now, _ := os.ReadFile(path); string(now) != tt.text {
				t.Error("the file was changed")
			}
		})
	}
	t.Run("ended", func(t *testing.T) {
		_, err := ca.Open(good, func() time.Time { return time.Now().AddDate(11, 0, 0) })
		if err == nil || !strings.Contains(err.Error(), "ended on") {
			t.Errorf("an ended root: %v", err)
		}
	})
	t.Run("a file in the directory's place", func(t *testing.T) {
		dir := filepath.Join(good, ca.RootFile, "ca")
		if _, err := ca.Open(dir, time.Now); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("a file: %v", err)
		}
	})
	t.Run("a directory in the file's place", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, ca.RootFile), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.Open(dir, time.Now); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("a directory: %v", err)
		}
	})
}

func TestHandshakeWithGo(t *testing.T) {
	a := newAuthority(t)
	addr, handshakes := serve(t, a)
	for _, host := range []string{"shop.example", "127.0.0.1", "my_shop.example", "xn--bcher-kva.example"} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.Pool(), ServerName: host})
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		conn.Close()
	}
	if _, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "shop.example"}); err == nil {
		t.Error("a client that does not know the root accepted the leaf")
	}
	if handshakes.Load() == 0 {
		t.Error("no handshake came to its end")
	}
}

func TestHandshakeWithCurl(t *testing.T) {
	a := newAuthority(t)
	addr, _ := serve(t, a)
	root := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(root, a.RootPEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	for _, host := range []string{"shop.example", "bücher.example", "127.0.0.1", strings.Repeat("a", 63) + ".example"} {
		url := "https://" + net.JoinHostPort(host, port) + "/"
		out, err := exec.Command("curl", "-sS", "--noproxy", "*", "--max-time", "10", "--cacert", root,
			"--connect-to", "::127.0.0.1:"+port, url).CombinedOutput()
		if err != nil || string(out) != "hello" {
			t.Errorf("curl %s: %v %s", url, err, out)
		}
	}
}

func TestVerifyWithOpenSSL(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t)
	root := filepath.Join(dir, "root.crt")
	if err := os.WriteFile(root, a.RootPEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct{ host, flag string }{
		{"shop.example", "-verify_hostname"},
		{"::1", "-verify_ip"},
		{strings.Repeat("a", 63) + ".example", "-verify_hostname"},
	} {
		file := filepath.Join(dir, fmt.Sprintf("leaf%d.pem", i))
		if err := os.WriteFile(file, pemOf(t, a, tt.host), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root, tt.flag, tt.host, file).CombinedOutput()
		if err != nil {
			t.Errorf("openssl verify %s: %v\n%s", tt.host, err, out)
		}
	}
}

// TestOpenTakesAnAuthorityThatExists puts an intermediate of somebody else's
// where Holdfast's own root would be.
func TestOpenTakesAnAuthorityThatExists(t *testing.T) {
	for _, kind := range []string{"rsa:2048", "ec", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			top, topKey := filepath.Join(dir, "top.crt"), filepath.Join(dir, "top.key")
			mid, midKey := filepath.Join(dir, "mid.crt"), filepath.Join(dir, "mid.key")
			newkey := []string{"-newkey", kind}
			if kind == "ec" {
				newkey = append(newkey, "-pkeyopt", "ec_paramgen_curve:P-384")
			}
			openssl(t, append([]string{"req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=Corporate root", "-keyout", topKey, "-out", top,
				"-addext", "keyUsage=critical,keyCertSign"}, newkey...)...)
			openssl(t, append([]string{"req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=Corporate issuer", "-keyout", midKey, "-out", mid,
				"-CA", top, "-CAkey", topKey, "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"}, newkey...)...)
			var text []byte
			for _, path := range []string{mid, top, midKey} {
				part, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				text = append(text, part...)
			}
			if err := os.WriteFile(filepath.Join(dir, ca.RootFile), text, 0o600); err != nil {
				t.Fatal(err)
			}
			addr, _ := serve(t, open(t, dir))
			rootPEM, err := os.ReadFile(top)
			if err != nil {
				t.Fatal(err)
			}
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(rootPEM)
			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "shop.example"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if n := len(conn.ConnectionState().PeerCertificates); n != 2 {
				t.Errorf("the server sends %d certificates, want leaf and issuer", n)
			}
		})
	}
}

func BenchmarkLeafNew(b *testing.B) {
	a := newAuthority(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := a.Leaf(fmt.Sprintf("h%d.example", i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeafCached(b *testing.B) {
	a := newAuthority(b)
	for _, host := range []string{"shop.example", "Shop.Example", "127.0.0.1"} {
		b.Run(host, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Leaf(host); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestCachedLeafAllocatesNothing(t *testing.T) {
	a := newAuthority(t)
	leaf(t, a, "shop.example")
	if n := testing.AllocsPerRun(100, func() { _, _ = a.Leaf("shop.example") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func open(t testing.TB, dir string) *ca.Authority {
	t.Helper()
	a, err := ca.Open(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range list {
		names = append(names, file.Name())
	}
	return names
}

func openssl(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// serve answers "hello" by HTTP/1.0 over TLS, and counts handshakes.
func serve(t testing.TB, a *ca.Authority) (addr string, handshakes *atomic.Int64) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == "" {
			return a.Leaf("127.0.0.1")
		}
		return a.Leaf(hello.ServerName)
	}})
	if err != nil {
		t.Fatal(err)
	}
	handshakes = new(atomic.Int64)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				if conn.(*tls.Conn).Handshake() != nil {
					return
				}
				handshakes.Add(1)
				if _, err := conn.Read(make([]byte, 4096)); err == nil {
					io.WriteString(conn, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String(), handshakes
}

func pemOf(t testing.TB, a *ca.Authority, host string) []byte {
	t.Helper()
	pair, err := a.Leaf(host)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
}
