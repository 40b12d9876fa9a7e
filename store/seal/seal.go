package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
)

// Sizes in bytes.
const (
	KeySize   = 32
	saltSize  = 8
	nonceSize = 12
	tagSize   = 16
	Overhead  = saltSize + nonceSize + tagSize // of what is sealed over what it was
)

// maxKeys bounds how many processes' keys are remembered; they are derived again
// when needed.
const maxKeys = 1024

// Errors of [Box.Open].
var ErrSealed = errors.New("sealed with another key, or damaged")

// A Box seals and opens. Any goroutine may call its methods.
type Box struct {
	key  []byte
	mac  []byte // the key of Sum
	salt [saltSize]byte
	own  cipher.AEAD

	mu    sync.Mutex // guards known
	known map[[saltSize]byte]cipher.AEAD
}

// New makes a box of a key of KeySize random bytes.
func New(key []byte) (*Box, error) {
	if len(key) != KeySize {
		return nil, errors.New("a key has 32 bytes")
	}
	b := &Box{key: append([]byte(nil), key...), known: make(map[[saltSize]byte]cipher.AEAD)}
	rand.Read(b.salt[:])
	var err error
	if b.mac, err = hkdf.Key(sha256.New, b.key, nil, "holdfast sum", KeySize); err != nil {
		return nil, err
	}
	b.own, err = b.derive(b.salt)
	return b, err
}

// derive is the cipher of the process that drew a salt.
func (b *Box) derive(salt [saltSize]byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, b.key, salt[:], "holdfast seal", KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal appends plain, sealed for a place, to dst. Open wants the same place.
func (b *Box) Seal(dst, plain []byte, place string) []byte {
	dst = append(dst, b.salt[:]...)
	n := len(dst)
	dst = append(dst, make([]byte, nonceSize)...)
	rand.Read(dst[n : n+nonceSize])
	return b.own.Seal(dst, dst[n:n+nonceSize], plain, []byte(place))
}

// Open appends what was sealed for a place to dst; ErrSealed where it does not
// open.
func (b *Box) Open(dst, sealed []byte, place string) ([]byte, error) {
	if len(sealed) < Overhead {
		return dst, ErrSealed
	}
	c, err := b.of([saltSize]byte(sealed[:saltSize]))
	if err != nil {
		return dst, err
	}
	out, err := c.Open(dst, sealed[saltSize:saltSize+nonceSize], sealed[saltSize+nonceSize:], []byte(place))
	if err != nil {
		return dst, ErrSealed
	}
	return out, nil
}

func (b *Box) of(salt [saltSize]byte) (cipher.AEAD, error) {
	if salt == b.salt {
		return b.own, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.known[salt]; c != nil {
		return c, nil
	}
	c, err := b.derive(salt)
	if err != nil {
		return nil, err
	}
	if len(b.known) >= maxKeys {
		clear(b.known)
	}
	b.known[salt] = c
	return c, nil
}

// Sum is a digest that only a box of the same key can make.
func (b *Box) Sum(parts ...[]byte) [32]byte {
	h := hmac.New(sha256.New, b.mac)
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}
