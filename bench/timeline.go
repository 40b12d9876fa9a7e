package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// The timeline of what went wrong.
const (
	wrongBefore = 3 * time.Second // how much of it is shown
	wrongAfter  = time.Second
	maxWrongs   = 5 // that are shown
)

// heard is one thing that the origin saw.
type heard struct {
	at         time.Time
	node, what string // node is "" where it was nobody's request
}

// note writes into the timeline. mu is held.
func (m *rotor) note(node, format string, args ...any) {
	m.log = append(m.log, heard{time.Now(), node, fmt.Sprintf(format, args...)})
}

// wrong notes that something happened now that must not. mu is held.
func (m *rotor) wrong(node, what string) {
	m.note(node, "WRONG: %s", what)
	m.wrongs = append(m.wrongs, time.Now())
}

// tellWrongs shows what the origin saw around each thing that must not happen,
// and what the nodes did then. mu is held.
func (m *rotor) tellWrongs(w io.Writer, traces []string) {
	for i, at := range m.wrongs[:min(len(m.wrongs), maxWrongs)] {
		from, to := at.Add(-wrongBefore), at.Add(wrongAfter)
		var all []heard
		for _, h := range m.log {
			if h.at.After(from) && h.at.Before(to) {
				if h.node != "" {
					h.node = "from node " + h.node
				}
				h.what = "origin: " + h.what
				all = append(all, h)
			}
		}
		for node, file := range traces {
			all = append(all, traced(file, fmt.Sprint("node ", node), from, to)...)
		}
		slices.SortStableFunc(all, func(a, b heard) int { return a.at.Compare(b.at) })
		fmt.Fprintf(w, "what was wrong, number %d of %d, in ms from then:\n", i+1, len(m.wrongs))
		for _, h := range all {
			fmt.Fprintf(w, "%10.2f  %-11s %s\n", millis(h.at.Sub(at)), h.node, h.what)
		}
	}
}

// traceEvent is an event in a node's trace.
type traceEvent struct {
	Ms             float64
	Action, Detail string
}

// traced are the requests in a node's trace that began a recovery, or were one's.
func traced(file, node string, from, to time.Time) (all []heard) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			Time       time.Time
			Ms         float64
			Method     string
			Tool, URL  string
			Status     int
			Error      string
			Generation uint64
			Trace      []traceEvent
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Time.After(to) || l.Time.Add(time.Duration(l.Ms*1e6)).Before(from) {
			continue
		}
		if l.Tool == "proxy" && !slices.ContainsFunc(l.Trace, func(e traceEvent) bool { return e.Action == "recover" }) {
			continue
		}
		all = append(all, heard{l.Time, node, fmt.Sprintf("%s %s: %d %s in %.1f ms, generation %d", l.Method, l.URL, l.Status, l.Error, l.Ms, l.Generation)})
		for _, e := range l.Trace {
			all = append(all, heard{l.Time.Add(time.Duration(e.Ms * 1e6)), node, "  " + e.Action + ": " + e.Detail})
		}
	}
	return all
}
