package store

import (
	"bytes"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// FuzzContent: no content makes the decoder panic, hang or grow beyond what it
// was given, and what it reads it writes again with the same meaning.
func FuzzContent(f *testing.F) {
	fl := &flow.Flow{Tool: "proxy", Origin: flow.Origin{Host: "h", Port: 1}, Start: time.Unix(1, 2), Keep: []string{"cookie:a"},
		Earlier: []flow.Attempt{{Body: []byte("b"), Reason: "r"}}, Refused: &flow.Error{Reason: "x"}}
	fl.Received, _ = wire.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
	fl.Request = fl.Received
	fl.Trace.Add(flow.Event{Actor: "rule a"})
	fl.End(time.Unix(2, 0), nil)
	var e encoder
	e.flow(&Exchange{Flow: fl, Rules: []string{"a"}, Received: &Body{Raw: []byte("x"), Size: 1}, Sent: &Body{Raw: make([]byte, 2*inlineBody)}, Messages: []Message{{Data: []byte("m")}}})
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		stored, err := decodeContent(raw)
		if err != nil {
			return
		}
		stored.Record()
		var again encoder
		again.flow(&stored.Exchange)
		second, err := decodeContent(again.b)
		if err != nil {
			t.Fatalf("what was written again cannot be read: %v", err)
		}
		var third encoder
		third.flow(&second.Exchange)
		if len(stored.refs) == 0 && !bytes.Equal(again.b, third.b) {
			t.Errorf("%q and %q", again.b, third.b)
		}
	})
}
