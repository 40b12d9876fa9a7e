package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/wire"
)

// A head of nearly 1 MiB, as hostile clients send them.
func BenchmarkLargeHead(b *testing.B) {
	raw := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 1000) + "\r\n")
	src := bytes.NewReader(nil)
	r := wire.NewReader(src, wire.Limits{})
	var req wire.Request
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(raw)
		if err := r.ReadRequest(&req); err != nil {
			b.Fatal(err)
		}
		r.Release()
	}
}
