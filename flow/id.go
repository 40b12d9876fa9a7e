package flow

import (
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// ID names a flow in every project and on every node: the 16 bytes of a
// UUIDv7 (RFC 9562 §5.7), so IDs sort by time.
type ID [16]byte

// String is the usual form of a UUID.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
	return string(b[:])
}

// IDs makes flow IDs. Seed must be random, different in every process. Any
// goroutine may call Next.
type IDs struct {
	Seed [8]byte
	n    atomic.Uint64
}

// Next returns an ID that was never returned before: the time, a counter, and
// the process's seed in the place of the random bits (RFC 9562 §6.2, method 1).
func (g *IDs) Next(now time.Time) ID {
	var id ID
	n := g.n.Add(1)
	binary.BigEndian.PutUint64(id[0:8], uint64(now.UnixMilli())<<16)
	binary.BigEndian.PutUint16(id[6:8], 0x7000|uint16(n>>12)&0x0fff)
	copy(id[8:16], g.Seed[:])
	id[8] = 0x80 | byte(n>>6)&0x3f
	id[9] = byte(n)<<2 | g.Seed[1]&0x03
	return id
}
