package api

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// maxTools is how many labels of the users' own have a series of their own;
// further ones are counted as other.
const maxTools = 32

// Metrics are the figures at /metrics. Seen and Changed are of holdfast.Config;
// Bind adds what is asked for. Any goroutine may use it.
type Metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.CounterVec
	recoveries *prometheus.HistogramVec
	going      prometheus.Gauge
	lockouts   prometheus.Counter

	identities map[string]bool // never changes

	mu     sync.Mutex // guards what follows
	tools  map[string]bool
	locked map[string]bool // sessions
}

// NewMetrics makes them. identities are those of the configuration: others have
// no series of their own.
func NewMetrics(identities []string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), identities: map[string]bool{flow.Anonymous: true},
		tools: make(map[string]bool), locked: make(map[string]bool)}
	for _, name := range identities {
		m.identities[name] = true
	}
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_requests_total",
		Help: "Requests of clients that are over, by the tool they come from and the identity they speak for."}, []string{"tool", "identity"})
	m.recoveries = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holdfast_recovery_seconds", Help: "How long recoveries of sessions took, by how they ended.",
		Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 300}}, []string{"result"})
	m.going = prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_recoveries_in_progress", Help: "Recoveries of sessions that are under way."})
	m.lockouts = prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_lockouts_total", Help: "Times that logins were stopped after too many had failed."})
	m.registry.MustRegister(m.requests, m.recoveries, m.going, m.lockouts, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Register adds figures of another part, such as those of a store. It fails
// where a name is taken.
func (m *Metrics) Register(c prometheus.Collector) error { return m.registry.Register(c) }

// Bind adds the figures that a Holdfast is asked for. Call it once.
func (m *Metrics) Bind(h *holdfast.Holdfast) error {
	count := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	engine := h.Engine()
	for _, c := range []prometheus.Collector{
		count("holdfast_dead_answers_seen_total", "Answers of a dead session that a client was given.", func() uint64 { return h.Totals().Lost }),
		count("holdfast_dead_answers_absorbed_total", "Requests sent while the session was dead whose answers no client saw.", func() uint64 { return h.Totals().Absorbed }),
		count("holdfast_refused_total", "Requests that were answered with the reason why there is no session.", func() uint64 { return h.Totals().Refused }),
		count("holdfast_failed_total", "Exchanges that broke off.", func() uint64 { return h.Totals().Failed }),
		count("holdfast_own_requests_total", "Requests that Holdfast sent for logins and probes.", func() uint64 { return h.Totals().Own }),
		count("holdfast_trace_lines_dropped_total", "Lines of the trace that a slow writer lost.", func() uint64 { return h.Totals().Missed }),
		count("holdfast_logins_total", "Recoveries that brought a session.", func() uint64 { return engine.Counts().Logins }),
		count("holdfast_resent_total", "Requests that were sent again.", func() uint64 { return engine.Counts().Resends }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_connections_open", Help: "Connections with clients that are open."}, func() float64 { return float64(h.Connections()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "holdfast_uptime_seconds", Help: "For how long Holdfast has been there."}, func() float64 { return h.Uptime().Seconds() }),
	} {
		if err := m.registry.Register(c); err != nil {
			return err
		}
	}
	if h.Commits() != nil {
		if err := m.registry.Register(commits{h}); err != nil {
			return err
		}
	}
	return m.bindHistory(h)
}

// commits collects how long the project's transactions took.
type commits struct{ of *holdfast.Holdfast }

// Describe implements [prometheus.Collector].
func (c commits) Describe(to chan<- *prometheus.Desc) { to <- c.desc() }

func (commits) desc() *prometheus.Desc {
	return prometheus.NewDesc("holdfast_store_commit_seconds", "How long the project's transactions took until they were on the disk: of state, for which answers wait, and of the history.",
		[]string{"kind"}, nil)
}

// Collect implements [prometheus.Collector].
func (c commits) Collect(to chan<- prometheus.Metric) {
	for _, l := range c.of.Commits() {
		to <- prometheus.MustNewConstHistogram(c.desc(), l.Count, l.Sum.Seconds(), l.Within, l.Kind)
	}
}

// bindHistory adds the figures of the history, where one is written.
func (m *Metrics) bindHistory(h *holdfast.Holdfast) error {
	if _, is := h.History(); !is {
		return nil
	}
	written := func() float64 { s, _ := h.History(); return float64(s.Written) }
	dropped := func() float64 { s, _ := h.History(); return float64(s.Dropped) }
	bodies := func() float64 { s, _ := h.History(); return float64(s.Bodies) }
	waiting := func() float64 { s, _ := h.History(); return float64(s.Waiting) }
	held := func() float64 { s, _ := h.History(); return float64(s.Bytes) }
	failing := func() float64 {
		if s, _ := h.History(); s.Failing == "" {
			return 0
		}
		return 1
	}
	counter := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value)
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	for _, c := range []prometheus.Collector{
		counter("holdfast_history_flows_written_total", "Flows that are in the history, on the disk.", written),
		counter("holdfast_history_flows_dropped_total", "Flows that were left out of the history.", dropped),
		counter("holdfast_history_bodies_dropped_total", "Flows of which a body was left out for want of memory.", bodies),
		gauge("holdfast_history_flows_waiting", "Flows that wait for the disk.", waiting),
		gauge("holdfast_history_waiting_bytes", "Memory of what waits for the disk, and of bodies on their way.", held),
		gauge("holdfast_history_failing", "1 while nothing can be written to the history.", failing),
	} {
		if err := m.registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// Seen counts a request.
func (m *Metrics) Seen(f *flow.Flow) {
	identity := "other"
	switch {
	case f.Identity == "":
		identity = "default"
	case m.identities[f.Identity]:
		identity = strings.ToValidUTF8(f.Identity, "?")
	}
	m.requests.WithLabelValues(m.tool(f.Tool), identity).Inc()
}

// tool is the label of a tool, of which there is a bounded number.
func (m *Metrics) tool(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tools[name] {
		if len(m.tools) >= maxTools {
			return "other"
		}
		m.tools[strings.Clone(name)] = true
	}
	return strings.ToValidUTF8(name, "?")
}

// Changed counts recoveries and lockouts.
func (m *Metrics) Changed(c session.Change) {
	switch c.Kind {
	case session.Began:
		m.going.Inc()
	case session.Ended:
		m.going.Dec()
		result := "session"
		if c.Err != nil {
			result = c.Err.Reason
		}
		m.recoveries.WithLabelValues(result).Observe(c.Took.Seconds())
	}
	key := c.Identity + "\x00" + strings.Join(c.Recovery, ",")
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := c.State == session.Locked.String(); now != m.locked[key] {
		if m.locked[key] = now; now {
			m.lockouts.Inc()
		}
	}
}
