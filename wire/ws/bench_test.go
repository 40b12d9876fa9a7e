package ws_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// BenchmarkDecoder is what listening in costs for a piece of 16 KiB: by heads
// only, and with payloads.
func BenchmarkDecoder(b *testing.B) {
	for _, size := range []int{100, 1000, 16 << 10} {
		var plain []byte
		for len(plain)+size+14 < 16<<10 || len(plain) == 0 {
			plain = ws.AppendFrame(plain, ws.Header{Fin: true, Opcode: ws.OpBinary, Masked: true, Mask: [4]byte{1, 2, 3, 4}}, bytes.Repeat([]byte("x"), size))
		}
		text := bytes.Repeat([]byte(`{"id":17,"name":"socket"},`), size/26+1)[:size]
		deflated := masked(compress(b, [][]byte{text, text, text, text}, true))
		for _, c := range []struct {
			name   string
			stream []byte
			cfg    ws.Config
		}{
			{"heads", plain, ws.Config{FromClient: true}},
			{"payloads", plain, ws.Config{FromClient: true, Payloads: true}},
			{"deflate", deflated, ws.Config{FromClient: true, Payloads: true, Deflate: &ws.Deflate{NoContext: true}}},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) {
				d := ws.NewDecoder(c.cfg)
				b.SetBytes(int64(len(c.stream)))
				b.ReportAllocs()
				for b.Loop() {
					d.Feed(c.stream)
					for m := d.Next(); m != nil; m = d.Next() {
					}
				}
			})
		}
	}
}
