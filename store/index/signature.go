package index

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/bits"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// Sizes of signatures.
const (
	// Bits is the size of a signature in memory.
	Bits = 1 << 16
	// fullBits is how many bits may be set until the block should be closed,
	// and what share of a folded signature: one in four, so that a needle of n
	// trigrams that is not there passes one block in 4ⁿ.
	fullBits = Bits / fullShare
	// fullShare is the inverse of that share.
	fullShare = 4
	// minBytes is the least size of a folded signature that is not empty.
	minBytes = 8
)

// trigrams is the number of windows of three ASCII bytes.
const trigrams = 1 << 21

// A Table gives each trigram its bit. It takes 4 MB and never changes: any
// goroutine may use it.
type Table struct {
	bit   [trigrams]uint16
	lower [256]byte // ASCII letters in lower case; others as they are
}

// NewTable draws the bits by a key of 16, 24 or 32 bytes.
func NewTable(key []byte) (*Table, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	t := new(Table)
	stream := cipher.NewCTR(block, make([]byte, aes.BlockSize))
	var chunk [4096]byte
	for i := 0; i < trigrams; i += len(chunk) / 2 {
		clear(chunk[:])
		stream.XORKeyStream(chunk[:], chunk[:])
		for j := 0; j < len(chunk); j += 2 {
			t.bit[i+j/2] = binary.LittleEndian.Uint16(chunk[j:])
		}
	}
	for c := range t.lower {
		t.lower[c] = byte(c)
		if 'A' <= c && c <= 'Z' {
			t.lower[c] += 'a' - 'A'
		}
	}
	return t, nil
}

// Signature is of the messages of one side of a block. The zero value is of
// none. One goroutine at a time owns it.
type Signature struct {
	words [Bits / 64]uint64
	set   int // bits of words
}

// Reset empties it.
func (s *Signature) Reset() { *s = Signature{} }

// AddText takes in texts that follow one another without a gap. It is for who
// knows that they are all that [Signature.Add] would find.
func (s *Signature) AddText(t *Table, texts ...[]byte) {
	var w window
	for _, text := range texts {
		w = s.text(t, w, text)
	}
}

// AddStatus takes in the status code of a response.
func (s *Signature) AddStatus(t *Table, code int64) {
	for _, bits := range [...][marks]uint16{t.status(code), t.class(code)} {
		for _, bit := range bits {
			s.put(bit)
		}
	}
}

func (s *Signature) put(bit uint16) {
	word := &s.words[bit>>6]
	s.set += int(^*word >> (bit & 63) & 1)
	*word |= 1 << (bit & 63)
}

// Add takes in all that a query can find in one side of a record: the text of
// its head and body, which is one, and what is told of the message otherwise,
// such as trailers and the pseudo-headers of HTTP/2.
func (s *Signature) Add(t *Table, r httpql.Record, side httpql.Side) {
	head, body, fields := httpql.ReqHead, httpql.ReqBody, httpql.ReqHeader
	if side == httpql.Response {
		head, body, fields = httpql.RespHead, httpql.RespBody, httpql.RespHeader
	}
	h, p := r.Bytes(head)
	if p == httpql.Missing {
		return
	}
	w := s.text(t, window{}, h)
	// The window is all that is left of the head, whose memory may be used
	// for the body.
	b, _ := r.Bytes(body)
	s.text(t, w, b)
	if side == httpql.Request {
		host, _ := r.Bytes(httpql.ReqHost)
		s.text(t, window{}, host)
	} else if code, p := r.Int(httpql.RespCode); p == httpql.Known {
		s.AddStatus(t, code)
	}
	n, _ := r.Int(fields)
	for i := range int(n) {
		name, value := r.Item(fields, i)
		s.text(t, window{}, name)
		s.text(t, window{}, value)
	}
}

// status are the bits of a status code, and class those of its hundreds: of
// trigrams with letters in upper case, which no text has.
func (t *Table) status(code int64) [marks]uint16 {
	return t.mark("ABC", code)
}

func (t *Table) class(code int64) [marks]uint16 { return t.mark("DEF", code/100) }

// marks is how many bits a code has.
const marks = 3

func (t *Table) mark(letters string, n int64) (bits [marks]uint16) {
	for i := range bits {
		bits[i] = t.bit[uint32(letters[i])<<14|uint32(n)&(1<<14-1)]
	}
	return bits
}

// window is the last bytes of a text: seven bits each, and how many of them in
// a row are ASCII.
type window struct{ last, ascii uint32 }

func (s *Signature) text(t *Table, w window, text []byte) window {
	last, ascii, set := w.last, w.ascii, s.set
	for _, c := range text {
		if c >= 0x80 {
			ascii = 0
			continue
		}
		last = (last<<7 | uint32(t.lower[c])) & (trigrams - 1)
		if ascii++; ascii >= 3 {
			bit := t.bit[last]
			word := &s.words[bit>>6]
			set += int(^*word >> (bit & 63) & 1)
			*word |= 1 << (bit & 63)
		}
	}
	s.set = set
	return window{last, ascii}
}

// Full reports that the block should take no more: its signature would soon say
// maybe to everything.
func (s *Signature) Full() bool { return s.set > fullBits }

// Append appends the signature as it is stored: a bitmap of a power of two of
// bits, as small as its share of set bits allows. That of nothing is empty.
func (s *Signature) Append(dst []byte) []byte {
	words := s.words
	size := len(words)
	if s.set == 0 {
		return dst
	}
	for size*8 > minBytes {
		// Each half has at most so many bits, and the two may coincide.
		n := 0
		for i := range size / 2 {
			n += bits.OnesCount64(words[i] | words[i+size/2])
		}
		if n > size*64/2/fullShare {
			break
		}
		size /= 2
		for i := range size {
			words[i] |= words[i+size]
		}
	}
	for _, w := range words[:size] {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst
}

// has reports whether a stored signature may be of messages with all the
// trigrams. A bitmap that no signature can be lets everything through: the
// flows are asked.
func has(stored []byte, grams []uint16) bool {
	n := len(stored)
	if n == 0 {
		return len(grams) == 0
	}
	if n < minBytes || n > Bits/8 || n&(n-1) != 0 {
		return true
	}
	mask := n*8 - 1
	for _, g := range grams {
		bit := int(g) & mask
		if stored[bit>>3]&(1<<(bit&7)) == 0 {
			return false
		}
	}
	return true
}
