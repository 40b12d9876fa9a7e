package script

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/dop251/goja"
)

// maxRandom is how many random bytes one call gives.
const maxRandom = 64 << 10

// newHash finds a hash by its name: sha256, SHA-256, HS256.
func newHash(name string) func() hash.Hash {
	switch strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name)) {
	case "md5":
		return md5.New
	case "sha1":
		return sha1.New
	case "sha256":
		return sha256.New
	case "sha384":
		return sha512.New384
	case "sha512":
		return sha512.New
	}
	return nil
}

func (n *run) hash(v goja.Value) func() hash.Hash {
	name := n.word(v, "the hash")
	h := newHash(name)
	if h == nil {
		n.throw("there is no hash %.20q; write md5, sha1, sha256, sha384 or sha512", name)
	}
	return h
}

// encoded gives bytes as the last argument of a function wants them.
func (n *run) encoded(b []byte, how goja.Value) goja.Value {
	name := "hex"
	if given(how) {
		name = how.String()
	}
	switch name {
	case "hex":
		return n.js.ToValue(hex.EncodeToString(b))
	case "base64":
		return n.js.ToValue(base64.StdEncoding.EncodeToString(b))
	case "base64url":
		return n.js.ToValue(base64.RawURLEncoding.EncodeToString(b))
	case "bytes":
		return n.bytes(b)
	}
	n.throw("there is no encoding %.20q; write hex, base64, base64url or bytes", name)
	return nil
}

func (n *run) cryptoObject() goja.Value {
	o := n.js.NewObject()
	n.method(o, "hmac", func(c goja.FunctionCall) goja.Value {
		m := hmac.New(n.hash(c.Argument(0)), n.data(c.Argument(1), "the key"))
		m.Write(n.data(c.Argument(2), "the data"))
		return n.encoded(m.Sum(nil), c.Argument(3))
	})
	n.method(o, "hash", func(c goja.FunctionCall) goja.Value {
		h := n.hash(c.Argument(0))()
		h.Write(n.data(c.Argument(1), "the data"))
		return n.encoded(h.Sum(nil), c.Argument(2))
	})
	for _, name := range []string{"md5", "sha1", "sha256", "sha384", "sha512"} {
		n.method(o, name, func(c goja.FunctionCall) goja.Value {
			h := newHash(name)()
			h.Write(n.data(c.Argument(0), "the data"))
			return n.encoded(h.Sum(nil), c.Argument(1))
		})
	}
	n.method(o, "randomBytes", func(c goja.FunctionCall) goja.Value {
		size := c.Argument(0).ToInteger()
		if size < 1 || size > maxRandom {
			n.rangeError("randomBytes gives 1 to %d bytes", maxRandom)
		}
		b := make([]byte, size)
		_, _ = rand.Read(b) // never fails, says its doc
		return n.encoded(b, c.Argument(1))
	})
	n.method(o, "uuid", func(goja.FunctionCall) goja.Value {
		var b [16]byte
		_, _ = rand.Read(b[:])
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562 §5.4
		return n.js.ToValue(fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16]))
	})
	n.coding(o, "hex", hex.EncodeToString, hex.DecodeString)
	n.coding(o, "base64", base64.StdEncoding.EncodeToString, decodeBase64)
	n.coding(o, "base64url", base64.RawURLEncoding.EncodeToString, decodeBase64)
	n.method(o, "text", func(c goja.FunctionCall) goja.Value { return n.js.ToValue(text(n.data(c.Argument(0), "the bytes"))) })
	n.method(o, "bytes", func(c goja.FunctionCall) goja.Value {
		return n.bytes([]byte(n.word(c.Argument(0), "the text")))
	})
	jwt := n.js.NewObject()
	n.method(jwt, "sign", n.jwtSign)
	n.method(jwt, "decode", n.jwtDecode)
	_ = o.Set("jwt", jwt)
	return o
}

// coding gives an object encode and decode.
func (n *run) coding(o *goja.Object, name string, encode func([]byte) string, decode func(string) ([]byte, error)) {
	pair := n.js.NewObject()
	n.method(pair, "encode", func(c goja.FunctionCall) goja.Value {
		return n.js.ToValue(encode(n.data(c.Argument(0), "the data")))
	})
	n.method(pair, "decode", func(c goja.FunctionCall) goja.Value {
		b, err := decode(n.word(c.Argument(0), "the text"))
		if err != nil {
			n.throw("the text is no %s", name)
		}
		return n.bytes(b)
	})
	_ = o.Set(name, pair)
}

// decodeBase64 takes both alphabets (RFC 4648 §4 and §5), with and without
// padding.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.DecodeString(s)
}

// btoa and atob are those of browsers: a character is a byte.
func (n *run) btoa(c goja.FunctionCall) goja.Value {
	var b []byte
	for _, r := range c.Argument(0).String() {
		if r > 0xff {
			n.throw("btoa takes characters up to U+00FF; crypto.base64.encode takes any text")
		}
		b = append(b, byte(r))
	}
	return n.js.ToValue(base64.StdEncoding.EncodeToString(b))
}

func (n *run) atob(c goja.FunctionCall) goja.Value {
	b, err := decodeBase64(c.Argument(0).String())
	if err != nil {
		n.throw("the text is no base64")
	}
	runes := make([]rune, len(b))
	for i, v := range b {
		runes[i] = rune(v)
	}
	return n.js.ToValue(string(runes))
}
