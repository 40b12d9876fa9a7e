package main

import (
	"bytes"
	"io"
	"net"

	"golang.org/x/net/http2/hpack"
)

// relayH2 takes HTTP/2 frames across, both ways, one connection for one. Only
// header blocks are taken apart and put together again, each hop having its own
// compression state (RFC 9113 §4.3); settings, windows and stream numbers go
// across as they are, so flow control is that of the two ends.
func (t *tunnel) relayH2(client, origin net.Conn) {
	preface := make([]byte, len(h2Preface))
	if _, err := io.ReadFull(client, preface); err != nil {
		return
	}
	if _, err := origin.Write(preface); err != nil {
		return
	}
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		relayFrames(client, origin)
		origin.Close()
		client.Close()
	}()
	relayFrames(origin, client)
	origin.Close()
	client.Close()
}

// relayFrames reads frames from src while there are any, and writes them in
// one go.
func relayFrames(src io.Reader, dst io.Writer) {
	in := newH2Reader(src)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		_ = enc.WriteField(f) // a bytes.Buffer takes every write
	})
	var out []byte
	var flags byte // of the HEADERS frame whose block is being read
	for {
		f, err := in.next()
		if err != nil {
			return
		}
		switch f.kind {
		case h2Headers, h2Continuation:
			if f.kind == h2Headers {
				flags = f.flags & h2FlagEndStream
				block.Reset()
			}
			fragment, err := f.headerBlock()
			if err != nil {
				return
			}
			if _, err := dec.Write(fragment); err != nil {
				return
			}
			if f.flags&h2FlagEndHeaders == 0 {
				continue
			}
			if dec.Close() != nil || block.Len() > h2MaxFrame {
				return
			}
			out = appendH2(out, h2Headers, flags|h2FlagEndHeaders, f.stream, block.Bytes())
		default:
			out = appendH2(out, f.kind, f.flags, f.stream, f.payload)
		}
		if in.buffered() && len(out) < 2*h2MaxFrame {
			continue
		}
		if _, err := dst.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}
