package control

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/session"
)

// The bounds of events.
const (
	maxListeners = 32  // at a time
	maxWaiting   = 256 // events that wait for one listener
)

// Event is something that happened.
type Event struct {
	Version int             `json:"v"`
	ID      uint64          `json:"id"` // rises with each
	Time    time.Time       `json:"time"`
	Type    string          `json:"type"` // session, warning, run, rule, config, totals, dropped
	Data    json.RawMessage `json:"data"`
}

// SessionEvent is the data of an event of the type session.
type SessionEvent struct {
	Kind       string   `json:"kind"` // recovering, recovered, died, alive, changed
	Identity   string   `json:"identity"`
	Session    int      `json:"session,omitempty"`
	Recovery   []string `json:"recovery"`
	State      string   `json:"state"`
	Generation uint64   `json:"generation"`
	Seconds    float64  `json:"took_s,omitempty"` // of recovered
	Code       string   `json:"code,omitempty"`   // of recovered, that brought no session
	Detail     string   `json:"detail,omitempty"`
	Next       string   `json:"next,omitempty"`
}

// WarningEvent is the data of an event of the type warning.
type WarningEvent struct {
	Text string `json:"text"`
}

// RuleEvent is the data of an event of the type rule.
type RuleEvent struct {
	Rule    string `json:"rule"`
	Enabled bool   `json:"enabled"`
}

// RunEvent is the data of an event of the type run.
type RunEvent struct {
	ID        string    `json:"id"`
	Operation string    `json:"operation"`
	Identity  string    `json:"identity"`
	Macro     string    `json:"macro,omitempty"`
	State     string    `json:"state"`
	Requests  int       `json:"requests"`
	Progress  string    `json:"progress,omitempty"` // what is done now, in words
	Error     *RunError `json:"error,omitempty"`
}

func eventOf(r *Run) RunEvent {
	return RunEvent{ID: r.ID, Operation: r.Operation, Identity: r.Identity, Macro: r.Macro, State: r.State, Requests: r.Requests, Error: r.Error}
}

// Events hands on what happens to those who listen. Publishing never waits: a
// listener whose events have piled up is let go. Any goroutine may use it.
type Events struct {
	mu        sync.Mutex
	number    uint64
	listeners map[*Listener]struct{}
	closed    bool
}

// NewEvents makes one without listeners.
func NewEvents() *Events { return &Events{listeners: make(map[*Listener]struct{})} }

// Listener is somebody who hears of events.
type Listener struct {
	events *Events
	// C has the events. It is closed when the listener is let go, which
	// TooSlow explains, when Close was called, or at the end of Holdfast.
	C       <-chan Event
	in      chan Event
	tooSlow bool
}

// Listen adds a listener; nil where there are too many, or Holdfast is being
// stopped.
func (e *Events) Listen() *Listener {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.listeners) >= maxListeners {
		return nil
	}
	l := &Listener{events: e, in: make(chan Event, maxWaiting)}
	l.C = l.in
	e.listeners[l] = struct{}{}
	return l
}

// TooSlow says whether it was let go because its events had piled up.
func (l *Listener) TooSlow() bool {
	l.events.mu.Lock()
	defer l.events.mu.Unlock()
	return l.tooSlow
}

// Close ends the listening. It may be called more than once.
func (l *Listener) Close() {
	l.events.mu.Lock()
	defer l.events.mu.Unlock()
	l.events.drop(l)
}

// drop lets a listener go. mu is held.
func (e *Events) drop(l *Listener) {
	if _, there := e.listeners[l]; there {
		delete(e.listeners, l)
		close(l.in)
	}
}

// Listeners is how many there are.
func (e *Events) Listeners() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.listeners)
}

// Close lets all listeners go, and takes no more.
func (e *Events) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for l := range e.listeners {
		e.drop(l)
	}
}

// Changed tells of a session: it is holdfast.Config.Changed.
func (e *Events) Changed(c session.Change) {
	ev := SessionEvent{Kind: c.Kind.String(), Identity: c.Identity, Session: c.Session, Recovery: c.Recovery, State: c.State,
		Generation: c.Generation, Seconds: c.Took.Round(time.Millisecond).Seconds()}
	if c.Err != nil {
		ev.Code, ev.Detail, ev.Next = c.Err.Reason, c.Err.Detail, c.Err.Next
	}
	e.publish("session", ev)
}

// Warn tells what a person should hear of at once.
func (e *Events) Warn(text string) { e.publish("warning", WarningEvent{text}) }

func (e *Events) publish(kind string, data any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.number++
	if len(e.listeners) == 0 {
		return
	}
	event, err := NewEvent(kind, data)
	if err != nil {
		return // only texts and numbers: cannot fail
	}
	event.ID = e.number
	for l := range e.listeners {
		select {
		case l.in <- event:
		default:
			l.tooSlow = true
			e.drop(l)
		}
	}
}

// NewEvent makes an event that has no number.
func NewEvent(kind string, data any) (Event, error) {
	raw, err := json.Marshal(data)
	return Event{Version: 1, Time: moment(), Type: kind, Data: raw}, err
}
