package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
)

// What is kept of a trace.
const (
	keptLines = 1000
	keptBytes = 8 << 20
)

// Trace keeps the newest lines of a trace, and writes all of them on. It is
// holdfast.Config.Trace. Any goroutine may use it.
type Trace struct {
	next io.Writer // nil: nowhere

	mu      sync.Mutex
	lines   []keptLine // the oldest first
	bytes   int
	number  uint64
	dropped uint64
}

type keptLine struct {
	number uint64
	raw    []byte
}

// NewTrace makes a Trace. next gets every line; nil: nobody does.
func NewTrace(next io.Writer) *Trace { return &Trace{next: next} }

// Write takes one line.
func (t *Trace) Write(line []byte) (int, error) {
	t.mu.Lock()
	t.number++
	t.lines = append(t.lines, keptLine{t.number, append([]byte(nil), line...)})
	t.bytes += len(line)
	for len(t.lines) > keptLines || t.bytes > keptBytes && len(t.lines) > 1 {
		t.bytes -= len(t.lines[0].raw)
		t.lines[0].raw = nil
		t.lines = t.lines[1:]
		t.dropped++
	}
	t.mu.Unlock()
	if t.next == nil {
		return len(line), nil
	}
	return t.next.Write(line)
}

func (t *Trace) kept() []keptLine {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]keptLine(nil), t.lines...)
}

func (t *Trace) lost() uint64 {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped
}

// TraceItem is one line of the trace, with its place.
type TraceItem struct {
	Number uint64 `json:"number" doc:"Rises with each line."`
	holdfast.TraceLine
}

type traceParams struct {
	Identity string `json:"identity,omitempty" maxLength:"256" doc:"Only what was for this one."`
	Tool     string `json:"tool,omitempty" maxLength:"256" doc:"Only what came from this one."`
	Since    uint64 `json:"since,omitempty" doc:"Only lines with a higher number."`
	Paging
}

// Summary counts what has happened.
type Summary struct {
	Version     int                 `json:"v" doc:"Of this shape: 1."`
	Totals      holdfast.Totals     `json:"totals"`
	Engine      session.Counts      `json:"engine"`
	Connections int                 `json:"connections" doc:"With clients, open now."`
	Overwritten uint64              `json:"trace_lines_overwritten" doc:"In the memory of the newest lines; a file has them."`
	Listeners   int                 `json:"event_listeners"`
	History     *store.HistoryStats `json:"history,omitempty" doc:"What became of the flows that go to the history; missing where it is off."`
}

func traceOperations() []Operation {
	return []Operation{
		of(Operation{Name: "trace.recent", Doc: fmt.Sprintf("List what was done to the last requests, and why, the newest first: of the last %d to which anything was done.", keptLines), Danger: Read, Foreign: true,
			Method: "GET", Path: "/trace", Tool: "trace.recent", Command: "trace recent"}, recent),
	}
}

func recent(_ context.Context, d *Desk, p *traceParams) (*Page[TraceItem], error) {
	var all []TraceItem
	for _, line := range d.trace.kept() {
		item := TraceItem{Number: line.number}
		if line.number <= p.Since || json.Unmarshal(line.raw, &item.TraceLine) != nil {
			continue
		}
		if (p.Identity == "" || item.Identity == p.Identity) && (p.Tool == "" || item.Tool == p.Tool) {
			all = append(all, item)
		}
	}
	return paged(all, p.Paging, func(i *TraceItem) string { return fmt.Sprintf("%020d", math.MaxUint64-i.Number) })
}

// moment is a time as events have it.
func moment() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
