package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

const (
	// RootYears is how long a root that this package makes is valid.
	RootYears = 10
	// CacheSize is how many leaves an Authority keeps; a leaf takes about
	// 1 KiB.
	CacheSize = 4096

	day = 24 * time.Hour
	// backdate is how far a clock may be behind ours. The same span before
	// a leaf's end it is renewed, for clocks that are ahead.
	backdate = 30 * day
	// leafDays is the whole validity. Apple's and the CA/Browser Forum's
	// limit for leaves was 398 days when they began to set one.
	leafDays = 395 * day
)

// Block types of PEM (RFC 7468 §4).
const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
)

// An Authority is a root certificate with its key, and the leaves made under
// it. The zero value is of no use; see [New] and [Open].
type Authority struct {
	root  *x509.Certificate
	key   crypto.Signer
	chain [][]byte // what a server sends after the leaf: intermediates, never a self-signed root
	clock func() time.Time

	leafKey   *ecdsa.PrivateKey
	leafKeyID []byte // subject key identifier of all leaves
	spki      string
	mold      mold
	leaves    cache
}

// New makes a root of its own that exists in memory only. It is for tests and
// for throw-away servers; clients have to be told of [Authority.RootPEM].
func New(clock func() time.Time) (*Authority, error) {
	raw, err := generate(clock())
	if err != nil {
		return nil, err
	}
	return parse(raw, clock)
}

// RootPEM is the root certificate as clients import it. It holds no key.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.root.Raw})
}

// Root is the root certificate; it must not be changed.
func (a *Authority) Root() *x509.Certificate { return a.root }

// Fingerprint is the SHA-256 of the root certificate, as browsers show it:
// upper-case hexadecimal bytes with colons between.
func (a *Authority) Fingerprint() string {
	sum := sha256.Sum256(a.root.Raw)
	digits := strings.ToUpper(hex.EncodeToString(sum[:]))
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String()
}

// SPKI is the value for Chromium's --ignore-certificate-errors-spki-list: the
// base64 of the SHA-256 of a SubjectPublicKeyInfo. It is that of the leaves'
// common key and not of the root's, because Chromium looks only at
// certificates that the server sends, and a server does not send its root.
func (a *Authority) SPKI() string { return a.spki }

// Pool holds the root, for clients that are to trust it.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// generate makes a root and returns it as the PEM text that Open stores: the
// key, then the certificate.
func generate(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the root's key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("making the root's key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	// Two roots of the same name confuse both people and the trust stores
	// that look an issuer up by its name, so the name tells them apart.
	sum := sha256.Sum256(public)
	notBefore := now.Add(-backdate).UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Organization: []string{organization},
			CommonName:   "Holdfast root " + hex.EncodeToString(sum[:4]),
		},
		NotBefore:             notBefore,
		NotAfter:              notBefore.AddDate(RootYears, 0, 0),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("signing the root: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the root's key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: pkcs8})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...), nil
}

// parse reads what generate wrote, or what a person put in its place: one
// private key, the certificate that signs leaves, and after it the
// certificates that lead up to a root.
func parse(raw []byte, clock func() time.Time) (*Authority, error) {
	a := &Authority{clock: clock}
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if err := a.take(block); err != nil {
			return nil, err
		}
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	if err := a.deriveLeafKey(); err != nil {
		return nil, err
	}
	mold, err := a.cast()
	if err != nil {
		return nil, fmt.Errorf("no certificate can be signed with the key: %w", err)
	}
	a.mold = mold
	return a, nil
}

// take files one PEM block where it belongs.
func (a *Authority) take(block *pem.Block) error {
	if block.Type != pemCertificate {
		key, err := parseKey(block)
		if err != nil {
			return err
		}
		if a.key != nil {
			return errors.New("it holds more than one private key")
		}
		a.key = key
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("its certificate cannot be read: %w", err)
	}
	if a.root == nil {
		a.root = cert
	}
	if cert.CheckSignatureFrom(cert) != nil {
		a.chain = append(a.chain, cert.Raw)
	}
	return nil
}

// parseKey reads the three encodings of private keys that are in use.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case pemPrivateKey:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		err = errors.New("it is encrypted; decrypt it with openssl pkey first")
	default:
		err = fmt.Errorf("it holds a %q block, where only a private key and certificates belong", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("its private key cannot be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("its private key cannot sign")
	}
	return signer, nil
}

// check refuses a root under which no leaf would be accepted.
func (a *Authority) check() error {
	switch {
	case a.key == nil:
		return errors.New("it holds no private key")
	case a.root == nil:
		return errors.New("it holds no certificate")
	}
	public, ok := a.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(a.root.PublicKey) {
		return errors.New("its private key does not belong to its first certificate")
	}
	if !a.root.BasicConstraintsValid || !a.root.IsCA {
		return errors.New("its first certificate is not that of an authority (basicConstraints CA:TRUE)")
	}
	if a.root.KeyUsage != 0 && a.root.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("its first certificate may not sign others (keyUsage keyCertSign)")
	}
	if now := a.clock(); now.After(a.root.NotAfter) {
		return fmt.Errorf("its certificate ended on %s", a.root.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// deriveLeafKey computes the key of all leaves from the root's key by HKDF
// (RFC 5869): it needs no file, and it does not give the root's key away.
func (a *Authority) deriveLeafKey() error {
	secret, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return fmt.Errorf("its private key cannot be encoded: %w", err)
	}
	// A candidate is refused when it is zero or not below the curve's
	// order, which befalls one in 2^32.
	for i := range 8 {
		candidate, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("holdfast leaf key %d", i), 32)
		if err != nil {
			return fmt.Errorf("deriving the leaves' key: %w", err)
		}
		if a.leafKey, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), candidate); err == nil {
			break
		}
	}
	if a.leafKey == nil {
		return errors.New("internal error: no key for leaves in eight attempts")
	}
	public, err := x509.MarshalPKIXPublicKey(&a.leafKey.PublicKey)
	if err != nil {
		return fmt.Errorf("encoding the leaves' key: %w", err)
	}
	sum := sha256.Sum256(public)
	a.leafKeyID = sum[:20] // a hash of the key info, as in RFC 7093 §2, shortened to 160 bits
	a.spki = base64.StdEncoding.EncodeToString(sum[:])
	return nil
}

// newSerial draws 127 random bits: positive, never zero, and within the 20
// octets of RFC 5280 §4.1.2.2.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
