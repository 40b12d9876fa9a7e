package ws_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// fuzzLimits are small, so that they are met.
var fuzzLimits = ws.Limits{Message: 200, Compressed: 300, Inflated: 4000}

// FuzzScanner: the pieces are the stream, and every head that was found is
// written back as it came.
func FuzzScanner(f *testing.F) {
	for _, c := range loadCases(f) {
		if len(c.wire) < 1000 {
			f.Add(c.wire, uint8(len(c.wire)))
			f.Add(masked(c.wire), uint8(3))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		var s ws.Scanner
		var joined, rebuilt []byte
		known := true
		for chunk := range slices.Chunk(stream, int(step)+1) {
			for p := chunk; len(p) > 0; {
				var piece ws.Piece
				piece, p = s.Next(p)
				if len(piece.Raw) == 0 || len(piece.Payload) > len(piece.Raw) || !bytes.HasSuffix(piece.Raw, piece.Payload) {
					t.Fatalf("a piece of % x with payload % x", piece.Raw, piece.Payload)
				}
				joined = append(joined, piece.Raw...)
				if piece.Header == nil {
					continue
				}
				if piece.First {
					rebuilt = ws.AppendHeader(rebuilt, *piece.Header)
				}
				rebuilt = append(rebuilt, piece.Payload...)
				known = s.Between()
			}
		}
		if !bytes.Equal(joined, stream) {
			t.Fatalf("% x came back as % x", stream, joined)
		}
		if s.Err() == nil && known && s.Between() && !bytes.Equal(rebuilt, stream) || !bytes.HasPrefix(stream, rebuilt) {
			t.Fatalf("% x was read as % x", stream, rebuilt)
		}
	})
}

// FuzzDecoder: limits hold, and what is decoded does not depend on the pieces
// in which the stream arrives.
func FuzzDecoder(f *testing.F) {
	for i, c := range loadCases(f) {
		if len(c.wire) < 1000 {
			f.Add(c.wire, uint8(1), false, c.extension != "", i%2 == 0, uint8(0))
			f.Add(masked(c.wire), uint8(5), true, c.extension != "", i%2 == 0, uint8(9))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, step uint8, fromClient, deflated, noContext bool, bits uint8) {
		cfg := ws.Config{FromClient: fromClient, Payloads: true, Limits: fuzzLimits}
		if deflated {
			cfg.Deflate = &ws.Deflate{NoContext: noContext, WindowBits: int(bits)}
		}
		whole, said1, messages := decode(cfg, stream, max(1, len(stream)))
		parts, said2, _ := decode(cfg, stream, int(step)+1)
		if len(said1) != len(said2) || whole.Notes() != parts.Notes() || whole.Err() != parts.Err() {
			t.Fatalf("%d messages, %q, %v; in pieces %d, %q, %v", len(said1), whole.Notes().Strings(), whole.Err(), len(said2), parts.Notes().Strings(), parts.Err())
		}
		for i := range said1 {
			if said1[i].opcode != said2[i].opcode || !bytes.Equal(said1[i].data, said2[i].data) {
				t.Fatalf("message %d: %q; in pieces %q", i, said1[i], said2[i])
			}
			m := messages[i]
			if len(m.Data) > fuzzLimits.Message || m.Size < int64(len(m.Data)) || m.Frames < 1 || m.Wire > int64(len(stream)) {
				t.Fatalf("message %d: %d bytes, %+v", i, len(m.Data), m)
			}
		}
		cfg.Payloads = false
		light, none, _ := decode(cfg, stream, int(step)+1)
		code1, reason1, ok1 := whole.Closed()
		code2, reason2, ok2 := light.Closed()
		if len(none) > 0 || ok1 != ok2 || code1 != code2 || !bytes.HasPrefix(reason1, reason2) {
			t.Fatalf("closed %v %d %q; by heads only %v %d %q", ok1, code1, reason1, ok2, code2, reason2)
		}
	})
}
