package script

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/dop251/goja"
)

// jwtSign makes a compact JWS of claims (RFC 7515 §7.1): sign(claims, key,
// {alg, header}). alg is HS256 where none is said.
func (n *run) jwtSign(c goja.FunctionCall) goja.Value {
	alg := "HS256"
	header := n.js.NewObject()
	if o, ok := c.Argument(2).(*goja.Object); ok {
		if v := o.Get("alg"); given(v) {
			alg = v.String()
		}
		if more, ok := o.Get("header").(*goja.Object); ok {
			for _, name := range more.Keys() {
				_ = header.Set(name, more.Get(name))
			}
		}
	}
	_ = header.Set("alg", alg)
	if !given(header.Get("typ")) {
		_ = header.Set("typ", "JWT")
	}
	signing := n.part(header) + "." + n.part(c.Argument(0))
	signature, err := signJWT(alg, n.data(c.Argument(1), "the key"), signing)
	if err != nil {
		n.throw("the JWT cannot be signed: %s", err.Error())
	}
	return n.js.ToValue(signing + "." + base64.RawURLEncoding.EncodeToString(signature))
}

// part is a value as JSON in base64url; a text is taken as JSON already.
func (n *run) part(v goja.Value) string {
	if _, ok := v.(*goja.Object); ok {
		s, err := n.stringify(goja.Undefined(), v)
		if err != nil {
			panic(err)
		}
		v = s
	}
	return base64.RawURLEncoding.EncodeToString(n.data(v, "what the JWT claims"))
}

// signJWT is the signature of RFC 7518 §3.
func signJWT(alg string, key []byte, signing string) ([]byte, error) {
	digest := sha256.Sum256([]byte(signing))
	switch alg {
	case "none":
		return nil, nil // what some verifiers accept is worth a test
	case "HS256", "HS384", "HS512":
		m := hmac.New(newHash("sha"+alg[2:]), key)
		m.Write([]byte(signing))
		return m.Sum(nil), nil
	case "RS256":
		private, err := privateKey[*rsa.PrivateKey](key, "an RSA")
		if err != nil {
			return nil, err
		}
		return rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	case "ES256":
		private, err := privateKey[*ecdsa.PrivateKey](key, "an EC")
		if err != nil {
			return nil, err
		}
		if private.Curve != elliptic.P256() {
			return nil, errors.New("ES256 wants a key of the curve P-256")
		}
		r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
		if err != nil {
			return nil, err
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return signature, nil
	}
	return nil, errors.New("there is no such alg; write HS256, HS384, HS512, RS256 or ES256")
}

// privateKey reads a PEM block: PKCS #8, PKCS #1 or SEC 1.
func privateKey[K any](text []byte, kind string) (k K, err error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return k, errors.New("the key is no PEM")
	}
	for _, read := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
		func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
	} {
		if any, err := read(block.Bytes); err == nil {
			if k, ok := any.(K); ok {
				return k, nil
			}
		}
	}
	return k, errors.New("the PEM block is not " + kind + " private key")
}

// jwtDecode takes a JWT apart. It verifies nothing.
func (n *run) jwtDecode(c goja.FunctionCall) goja.Value {
	parts := strings.Split(strings.TrimPrefix(n.word(c.Argument(0), "the JWT"), "Bearer "), ".")
	if len(parts) != 3 {
		n.throw("a JWT has three parts with dots between them")
	}
	out := n.js.NewObject()
	for i, name := range []string{"header", "claims"} {
		b, err := decodeBase64(parts[i])
		if err != nil {
			n.throw("the %s of the JWT is no base64url", name)
		}
		v, err := n.parseJSON(goja.Undefined(), n.js.ToValue(text(b)))
		if err != nil {
			n.throw("the %s of the JWT is no JSON", name)
		}
		_ = out.Set(name, v)
	}
	_ = out.Set("signature", parts[2])
	return out
}
