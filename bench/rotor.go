package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// rotor is an origin's one session, which dies, and is had again by a refresh
// token that is replaced with each use. One that comes a second time ends it all,
// as RFC 9700 §4.14.2 wants it.
type rotor struct {
	mu      sync.Mutex
	n       int
	token   string // of the live session; "" while it is dead
	refresh string // the one that is good; "" is none
	spent   map[string]bool
	kills   int
	unseen  bool // nobody has asked since it died

	logins, refreshes int
	observed          int // deaths that somebody met
	needless          int // sessions that were given out while one lived
	reused            int // refresh tokens that came twice
	unused            int // logins while there was a good refresh token that somebody could have used
	unheard           int // while the only one who had it was stopped
	dead              int // answers of 401

	born  time.Time                  // when the live session was given out
	uses  map[string]bool            // by node, and by node and what it used that is dead
	after map[string][]time.Duration // by node: until it used a new session

	freeze func(node string) // called once, before the next session is answered
	// stopped is the node that does nothing since freeze, and holder the one
	// that the live session, and the good refresh token, were given to.
	stopped, holder string

	log    []heard
	wrongs []time.Time // when something happened that must not
}

func newRotor() *rotor {
	return &rotor{spent: make(map[string]bool), uses: make(map[string]bool), after: make(map[string][]time.Duration)}
}

// field is the value of a field of a head; "" is none.
func field(head []byte, name string) string {
	_, rest, _ := bytes.Cut(head, []byte("\r\n"+name+": "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	return string(value)
}

// respond answers a request whose head is given.
func (m *rotor) respond(head []byte) []byte {
	node := field(head, "X-Node")
	reply, freeze := m.answer(head, node)
	if freeze != nil {
		freeze(node)
	}
	return reply
}

func (m *rotor) answer(head []byte, node string) (reply []byte, freeze func(string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unseen {
		m.unseen = false
		m.observed++
		m.note(node, "the death is observed")
	}
	refused := answerText(401, "Unauthorized", mortalDead)
	switch {
	case bytes.HasPrefix(head, []byte("POST /refresh")):
		with := field(head, "X-Refresh")
		m.note(node, "asks for a session with %q; the good one is %q", with, m.refresh)
		switch {
		case m.spent[with]:
			m.reused++
			m.wrong(node, "the refresh token was sent before")
			m.token, m.refresh = "", ""
			return refused, nil
		case with == "" || with != m.refresh:
			return refused, nil
		}
		m.spent[with] = true
		m.refreshes++
	case bytes.HasPrefix(head, []byte("POST ")):
		m.note(node, "logs in")
		switch {
		case m.refresh == "" || m.logins == 0:
		case m.stopped != "" && m.stopped == m.holder:
			m.unheard++
		default:
			m.unused++
			m.wrong(node, "it does not use "+m.refresh+", which node "+m.holder+" got")
		}
		m.logins++
	default:
		if m.token == "" || field(head, "Authorization") != "Bearer "+m.token {
			m.dead++
			if dead := node + " " + field(head, "Authorization"); !m.uses[dead] {
				m.uses[dead] = true // the first of many
				m.note(node, "%q is dead", field(head, "Authorization"))
			}
			return refused, nil
		}
		if !m.uses[node] {
			m.uses[node] = true
			m.note(node, "uses %s", m.token)
			m.after[node] = append(m.after[node], time.Since(m.born))
		}
		return answerText(200, "OK", mortalLife), nil
	}
	if m.token != "" {
		m.needless++
		m.wrong(node, m.token+" lives")
	}
	m.n++
	m.token, m.refresh = fmt.Sprintf("session-%d", m.n), fmt.Sprintf("refresh-%d", m.n)
	m.born, m.uses = time.Now(), make(map[string]bool)
	m.holder = node
	m.note(node, "gets session-%d", m.n)
	if freeze, m.freeze = m.freeze, nil; freeze != nil {
		m.stopped = node
		m.note(node, "is stopped")
	}
	return answerText(200, "OK", `{"access_token":"`+m.token+`","refresh_token":"`+m.refresh+`"}`), freeze
}

// revokeEvery is which death takes the refresh token too.
const revokeEvery = 5

// reap kills once in a time, until ctx ends.
func (m *rotor) reap(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		if m.token != "" {
			m.note("", "%s dies", m.token)
			m.token, m.unseen = "", true
			if m.kills++; m.kills%revokeEvery == 0 {
				m.refresh = ""
				m.note("", "the refresh token too")
			}
		}
		m.mu.Unlock()
	}
}

// freezeNext has a function called when the next session is given out, before
// the answer is sent.
func (m *rotor) freezeNext(f func(node string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.freeze = f
}

// goOn says that the node that was stopped no longer is.
func (m *rotor) goOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(m.stopped, "goes on")
	m.stopped = ""
}

// spread are the times from a new session to its first use at a node, of all
// nodes, sorted.
func (m *rotor) spread() (all []time.Duration, text string) {
	var b strings.Builder
	for node, times := range m.after {
		slices.Sort(times)
		fmt.Fprintf(&b, "  node %s: %d sessions, p50 %.1f ms, p99 %.1f ms\n", node, len(times), millis(percentile(times, 0.5)), millis(percentile(times, 0.99)))
		all = append(all, times...)
	}
	slices.Sort(all)
	lines := strings.SplitAfter(b.String(), "\n")
	slices.Sort(lines)
	return all, strings.Join(lines, "")
}
