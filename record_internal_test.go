package holdfast

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// stopped is a writer that takes nothing until it is let go.
type stopped struct {
	bytes.Buffer
	free chan struct{}
}

func (s *stopped) Write(p []byte) (int, error) {
	<-s.free
	return s.Buffer.Write(p)
}

// A writer of traces that does not follow costs lines, and a bounded memory
// however long the lines are.
func TestASlowTraceIsBoundedInBytes(t *testing.T) {
	out := &stopped{free: make(chan struct{})}
	r := newRecorder(out, nil)
	path := "/" + strings.Repeat("x", 1<<20)
	request, err := wire.ParseRequest([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := &flow.Flow{Origin: flow.Origin{Host: "x", Port: 80}, Received: request, Request: request, Start: time.Now()}
	f.Trace.Add(flow.Event{Actor: "rule a", Action: flow.ActionNote, Detail: strings.Repeat("d", 1<<20)})
	const flows = 40
	for range flows {
		r.write(f, nil)
	}
	if n := r.waiting.Load(); n > traceBytes {
		t.Errorf("%d bytes wait for the writer, at most %d may", n, traceBytes)
	}
	close(out.free)
	r.close()
	written := bytes.Count(out.Bytes(), []byte("\n"))
	if missed := int(r.missed.Load()); missed == 0 || written+missed != flows {
		t.Errorf("%d lines written and %d missed of %d", written, missed, flows)
	}
	if line, _, _ := bytes.Cut(out.Bytes(), []byte("\n")); !bytes.Contains(line, []byte(`… (1048577 bytes)`)) {
		t.Errorf("the line does not say how long the path is: %.200q", line)
	}
}
