package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// deathsOptions are the flags of bench deaths.
type deathsOptions struct {
	requests, conns, rate int
	life                  time.Duration
	nopin                 bool
}

func parseDeaths(args []string, stderr io.Writer) (*deathsOptions, error) {
	o := &deathsOptions{}
	fs := flag.NewFlagSet("bench deaths", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.requests, "requests", 100_000, "requests, with holdfast and without")
	fs.IntVar(&o.conns, "conns", 64, "connections")
	fs.IntVar(&o.rate, "rate", 2000, "requests per second, of all connections")
	fs.DurationVar(&o.life, "life", 50*time.Millisecond, "mean life of a session")
	fs.BoolVar(&o.nopin, "no-pin", false, "do not keep the proxy and the harness on processors of their own")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 || o.requests < 1 || o.requests > 10_000_000 || o.conns < 1 || o.conns > 1000 || o.rate < 1 || o.rate > 1_000_000 || o.life < time.Millisecond || o.life > time.Minute {
		return nil, errors.New("use --requests up to 10000000, --conns up to 1000, --rate up to 1000000, --life 1ms to 1m, and no further words")
	}
	return o, nil
}

// mortal is an origin's one session, which dies.
type mortal struct {
	mu       sync.Mutex
	token    string // of the live session; "" while it is dead
	died     time.Time
	unseen   bool // nobody has asked since it died
	logins   int
	observed int // deaths that somebody met
	needless int // logins while it lived
	dead     int // answers of 401
	spans    []span
}

// span is a time in which there was no session.
type span struct{ from, to time.Time }

const (
	mortalLife = "the session lives"
	mortalDead = "no session"
)

// respond answers a request whose head is given.
func (m *mortal) respond(head []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unseen {
		m.unseen = false
		m.observed++
	}
	if bytes.HasPrefix(head, []byte("POST ")) {
		if m.token != "" {
			m.needless++
		} else if !m.died.IsZero() {
			m.spans = append(m.spans, span{m.died, time.Now()})
		}
		m.logins++
		m.token = fmt.Sprintf("session-%d", m.logins)
		return answerText(200, "OK", `{"access_token":"`+m.token+`"}`)
	}
	if m.token != "" && bytes.Contains(head, []byte("\r\nAuthorization: Bearer "+m.token+"\r\n")) {
		return answerText(200, "OK", mortalLife)
	}
	m.dead++
	return answerText(401, "Unauthorized", mortalDead)
}

func answerText(status int, reason, body string) []byte {
	return newAnswer(status, reason, "application/json", []byte(body), 0).http1
}

// kill ends the session, if there is one.
func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.token != "" {
		m.token, m.died, m.unseen = "", time.Now(), true
	}
}

// reap kills again and again, with exponential pauses, until ctx ends.
func (m *mortal) reap(ctx context.Context, life time.Duration) {
	for {
		t := time.NewTimer(time.Duration(rand.ExpFloat64() * float64(life)))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
			m.kill()
		}
	}
}

// asked is one request as its client saw it.
type asked struct {
	from, to time.Time
	fate     fate
}

type fate uint8

const (
	fateAlive  fate = iota
	fateDead        // the dead session's answer
	fateFailed      // another answer, or none
)

// outside are the latencies of good requests that were under way at no time
// without a session, sorted; and how many good ones were.
func outside(all []asked, spans []span) (latencies []time.Duration, inside int) {
	slices.SortFunc(all, func(a, b asked) int { return a.from.Compare(b.from) })
	first := 0
	for _, a := range all {
		if a.fate != fateAlive {
			continue
		}
		for first < len(spans) && spans[first].to.Before(a.from) { // spans are in order, and so are the starts
			first++
		}
		if first < len(spans) && !spans[first].from.After(a.to) {
			inside++
			continue
		}
		latencies = append(latencies, a.to.Sub(a.from))
	}
	slices.Sort(latencies)
	return latencies, inside
}

// mourner is a client on one connection.
type mourner struct {
	t       *target
	request []byte
	conn    net.Conn
	s       *stream1
	all     []asked
	err     error // the first one
}

func (c *mourner) ask() {
	a := asked{from: time.Now()}
	body, status, err := c.exchange()
	a.to = time.Now()
	switch {
	case err == nil && status == 200 && body == mortalLife:
	case err == nil && (status == 401 || body == mortalDead):
		a.fate = fateDead
	default:
		if err == nil {
			err = fmt.Errorf("status %d: %.200s", status, body)
		}
		if a.fate = fateFailed; c.err == nil {
			c.err = err
		}
		c.close()
	}
	c.all = append(c.all, a)
}

func (c *mourner) exchange() (body string, status int, err error) {
	if c.conn == nil {
		raw, err := c.t.connect(c.t.tls, time.Now().Add(grace))
		if err != nil {
			return "", 0, err
		}
		if c.conn, err = secure(raw, "", "http/1.1"); err != nil {
			return "", 0, err
		}
		c.s = newStream1(c.conn)
	}
	if err := c.conn.SetDeadline(time.Now().Add(grace)); err != nil {
		return "", 0, err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return "", 0, err
	}
	h, err := c.s.readResponse(false)
	if err != nil {
		return "", 0, noEOF(err)
	}
	status = h.status()
	var b bytes.Buffer
	_, err = c.s.forward(h, &b)
	_, body, _ = strings.Cut(b.String(), "\r\n\r\n")
	return body, status, err
}

func (c *mourner) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// mourn drives the load, paced, and returns what the clients saw. Before it
// each has connected and asked once; that is left out.
func (o *deathsOptions) mourn(ctx context.Context, t *target, token string, begin func()) (all []asked, took time.Duration, first error) {
	request := requestBytes("/account", t.tls)
	if token != "" {
		request = bytes.Replace(request, []byte("\r\n\r\n"), []byte("\r\nAuthorization: Bearer "+token+"\r\n\r\n"), 1)
	}
	clients := make([]*mourner, o.conns)
	var group sync.WaitGroup
	for i := range clients {
		clients[i] = &mourner{t: t, request: request}
		group.Go(clients[i].ask)
	}
	group.Wait()
	begin()
	var left atomic.Int64
	left.Store(int64(o.requests))
	interval := time.Second * time.Duration(o.conns) / time.Duration(o.rate)
	start := time.Now()
	for i, c := range clients {
		if c.err != nil && first == nil {
			first = fmt.Errorf("before the load: %w", c.err)
		}
		c.all = c.all[:0]
		group.Go(func() {
			next := start.Add(interval * time.Duration(i) / time.Duration(o.conns))
			for ctx.Err() == nil && left.Add(-1) >= 0 {
				time.Sleep(time.Until(next))
				next = later(time.Now(), next.Add(interval))
				c.ask()
			}
		})
	}
	group.Wait()
	took = time.Since(start)
	for _, c := range clients {
		c.close()
		all = append(all, c.all...)
		if first == nil {
			first = c.err
		}
	}
	return all, took, first
}

// runDeaths has sessions die all the time under a load through holdfast, and
// measures what the clients notice.
func runDeaths(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseDeaths(args, stderr)
	if err != nil {
		return err
	}
	r, spec, note, end, err := alone(ctx, "holdfast-rule", o.nopin, stderr)
	if err != nil {
		return err
	}
	defer end()
	org := r.origin
	t := &target{plain: org.plain.Addr().String(), tls: org.secure.Addr().String(), next: new(atomic.Int64)}
	fmt.Fprintln(stderr, "without a proxy")
	org.setMortal(&mortal{token: "steady"})
	bare, bareTook, err := o.mourn(ctx, t, "steady", func() {})
	if err != nil {
		return fmt.Errorf("without a proxy: %w", err)
	}
	m := new(mortal)
	org.setMortal(m)
	pl := places{dir: r.dir, built: r.built[spec.Build], plain: t.plain, tls: t.tls}
	proxy, err := startProxy(ctx, spec, pl, r.pins)
	if err != nil {
		return err
	}
	defer proxy.stop()
	t.proxy = proxy.addr()
	fmt.Fprintln(stderr, "through holdfast")
	killing, stop := context.WithCancel(ctx)
	defer stop()
	all, took, first := o.mourn(ctx, t, "", func() { go m.reap(killing, o.life) })
	stop()
	if err = o.tell(stdout, note, bare, bareTook, all, took, m, first); err != nil {
		fmt.Fprintf(stderr, "holdfast said:\n%s\n", proxy.output())
	}
	return err
}

// tell writes the figures; an error is a promise that was not kept.
func (o *deathsOptions) tell(w io.Writer, note string, bare []asked, bareTook time.Duration, all []asked, took time.Duration, m *mortal, first error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := map[fate]int{}
	slow := time.Duration(0)
	for _, a := range all {
		count[a.fate]++
		slow = max(slow, a.to.Sub(a.from))
	}
	quiet, inside := outside(all, m.spans)
	direct, _ := outside(bare, nil)
	fmt.Fprintf(w, "%d requests on %d connections at up to %d a second; a session lives %v on average. %s.\n\n", o.requests, o.conns, o.rate, o.life, note)
	fmt.Fprintf(w, "requests                    %d in %.1f s\n", len(all), took.Seconds())
	fmt.Fprintf(w, "deaths observed             %d\n", m.observed)
	fmt.Fprintf(w, "logins                      %d: the first, and %d; %d while the session lived\n", m.logins, m.logins-1, m.needless)
	fmt.Fprintf(w, "dead answers of the origin  %d\n", m.dead)
	fmt.Fprintf(w, "dead answers to clients     %d\n", count[fateDead])
	fmt.Fprintf(w, "failed requests             %d\n", count[fateFailed])
	fmt.Fprintf(w, "under way in a recovery     %d, the slowest request of all %.1f ms\n\n", inside, millis(slow))
	fmt.Fprintf(w, "latency in ms               p50     p99\n")
	for _, row := range []struct {
		name     string
		p50, p99 float64
	}{
		{"outside of recoveries", millis(percentile(quiet, 0.50)), millis(percentile(quiet, 0.99))},
		{"without the proxy", millis(percentile(direct, 0.50)), millis(percentile(direct, 0.99))},
		{"added", millis(percentile(quiet, 0.50) - percentile(direct, 0.50)), millis(percentile(quiet, 0.99) - percentile(direct, 0.99))},
	} {
		fmt.Fprintf(w, "%-27s %-7.2f %.2f\n", row.name, row.p50, row.p99)
	}
	fmt.Fprintf(w, "\nWithout the proxy no session died, and the load took %.1f s.\n", bareTook.Seconds())
	switch {
	case first != nil:
		return fmt.Errorf("a request failed: %w", first)
	case len(all) != o.requests || count[fateDead]+count[fateFailed] > 0:
		return errors.New("requests were lost, or answered by a dead session")
	case m.logins-1 != m.observed || m.needless > 0:
		return errors.New("there were more or fewer logins than deaths")
	}
	return nil
}
