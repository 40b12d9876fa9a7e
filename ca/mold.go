package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/netip"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// A leaf is what one leaf does not share with all others.
type leaf struct {
	name                string // canonical
	serial              *big.Int
	notBefore, notAfter time.Time // UTC
}

// A mold is what all leaves share. crypto/x509 makes the first one, and the
// others are that one with the fields of leaf exchanged: x509 encodes by
// reflection and verifies each signature that it made, which was a tenth of
// the processor time of a connection to a host that is new.
type mold struct {
	algorithm  []byte // AlgorithmIdentifier
	hash       crypto.Hash
	issuer     []byte // Name
	spki       []byte // SubjectPublicKeyInfo
	extensions []pkix.Extension
}

// subjectAltName is id-ce-subjectAltName (RFC 5280 §4.2.1.6).
func subjectAltName() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

// cast has x509 make a leaf, and keeps what others will share with it.
func (a *Authority) cast() (mold, error) {
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{Organization: []string{organization}},
		NotBefore:             a.root.NotBefore,
		NotAfter:              a.root.NotAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		SubjectKeyId:          a.leafKeyID,
		DNSNames:              []string{"leaf.invalid"},
	}, a.root, &a.leafKey.PublicKey, a.key)
	if err != nil {
		return mold{}, err
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return mold{}, err
	}
	m := mold{issuer: cert.RawIssuer, spki: cert.RawSubjectPublicKeyInfo, extensions: cert.Extensions}
	switch cert.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.SHA256WithRSA:
		m.hash = crypto.SHA256
	case x509.ECDSAWithSHA384, x509.SHA384WithRSA:
		m.hash = crypto.SHA384
	case x509.ECDSAWithSHA512, x509.SHA512WithRSA:
		m.hash = crypto.SHA512
	case x509.PureEd25519: // signs the message, not its hash
	default:
		return mold{}, errors.New("it signs by " + cert.SignatureAlgorithm.String() + ", which leaves are not made with")
	}
	fields, algorithm := cryptobyte.String(cert.RawTBSCertificate), cryptobyte.String(nil)
	if !fields.ReadASN1(&fields, der.SEQUENCE) || !fields.SkipASN1(der.Tag(0).Constructed().ContextSpecific()) ||
		!fields.SkipASN1(der.INTEGER) || !fields.ReadASN1Element(&algorithm, der.SEQUENCE) {
		return mold{}, errors.New("the leaf that was made cannot be read") // x509 could
	}
	m.algorithm = algorithm
	return m, nil
}

// sign makes a leaf (RFC 5280 §4.1).
func (a *Authority) sign(l leaf) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 512))
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { a.mold.pour(b, l) })
	tbs, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	signature, err := crypto.SignMessage(a.key, rand.Reader, tbs, a.mold.hash)
	if err != nil {
		return nil, err
	}
	b = cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(signature)+64))
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(a.mold.algorithm)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// pour adds the fields of a TBSCertificate.
func (m *mold) pour(b *cryptobyte.Builder, l leaf) {
	const version3 = 2
	b.AddASN1(der.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(version3) })
	b.AddASN1BigInt(l.serial)
	b.AddBytes(m.algorithm)
	b.AddBytes(m.issuer)
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		addTime(b, l.notBefore)
		addTime(b, l.notAfter)
	})
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		addAttribute(b, asn1.ObjectIdentifier{2, 5, 4, 10}, organization)
		if len(l.name) <= maxCommonName {
			addAttribute(b, asn1.ObjectIdentifier{2, 5, 4, 3}, l.name)
		}
	})
	b.AddBytes(m.spki)
	b.AddASN1(der.Tag(3).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, e := range m.extensions {
				b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(e.Id)
					if e.Critical {
						b.AddASN1Boolean(true)
					}
					b.AddASN1(der.OCTET_STRING, func(b *cryptobyte.Builder) {
						if e.Id.Equal(subjectAltName()) {
							addName(b, l.name)
						} else {
							b.AddBytes(e.Value)
						}
					})
				})
			}
		})
	})
}

// addTime adds a Time: to the year 2049 it has two digits of the year.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() < 2050 {
		b.AddASN1UTCTime(t)
	} else {
		b.AddASN1GeneralizedTime(t)
	}
}

// addAttribute adds a RelativeDistinguishedName of one attribute.
func addAttribute(b *cryptobyte.Builder, kind asn1.ObjectIdentifier, value string) {
	b.AddASN1(der.SET, func(b *cryptobyte.Builder) {
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(kind)
			b.AddASN1(der.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
		})
	})
}

// addName adds the GeneralNames of a leaf, which are one dNSName or iPAddress.
func addName(b *cryptobyte.Builder, name string) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		tag, value := der.Tag(2).ContextSpecific(), []byte(name)
		if addr, err := netip.ParseAddr(name); err == nil {
			tag, value = der.Tag(7).ContextSpecific(), addr.AsSlice()
		}
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	})
}
