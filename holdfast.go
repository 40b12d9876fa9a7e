package holdfast

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-proxy/holdfast/browser"
	"github.com/holdfast-proxy/holdfast/ca"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Config is what a Holdfast is made of. Home is needed; every other zero value
// works.
type Config struct {
	// File is the configuration file. nil: no rules, a plain intercepting
	// proxy.
	File *config.File
	// Home is the directory of the CA and of what survives a restart. It is
	// made, mode 0700, when it does not exist.
	Home string
	// Listen names the listeners; none means those of File, and without them
	// DefaultListen.
	Listen []Listen
	// Password is what proxy credentials must have, besides the one of File;
	// "" takes any and none.
	Password string
	// PassThrough names hosts that are not looked into, besides those of File.
	PassThrough flow.HostPatterns
	// NoAutoPassThrough looks into hosts whose certificates clients refuse,
	// as often as they do.
	NoAutoPassThrough bool
	// Identity is who requests speak for that name nobody.
	Identity string
	// Tool labels the requests of listeners that have no label.
	Tool string
	// Upstream is a proxy on the way to every origin that File does not reach
	// directly, in place of File's own; nil: none. See config.ParseProxy.
	Upstream *url.URL
	// Insecure accepts every certificate of an origin. Roots are accepted
	// besides those of the system.
	Insecure bool
	Roots    []*x509.Certificate
	// Framing says what to do with messages whose framing is ambiguous:
	// "strict", "lenient" or "raw". "" is what File says.
	Framing string
	// Trace gets one JSON line for each flow that something was done to. nil:
	// none. A writer that is slow loses lines, which are counted; it never
	// holds up a request.
	Trace io.Writer
	// TraceMessages adds a line for each message on a WebSocket: who sent what
	// kind of message, and how large. What it says does not stand there.
	TraceMessages bool
	// Warn is told what a person should hear of at once. nil drops it. Any
	// goroutine calls it.
	Warn func(string)
	// Ask asks a person for what a macro's prompt wants, and returns soon after
	// ctx has ended; where Question.Answer is false it is enough to show the
	// text. Any goroutine calls it. nil: there is nobody, and a macro that wants
	// an answer is an error of New.
	Ask func(ctx context.Context, q Question) (answer string, err error)
	// Ended hears of each flow that ended. It must be quick, and any
	// goroutine calls it. nil: nobody listens.
	Ended func(*flow.Flow)
	// Seen hears of each flow of a client that ended, before its memory is used
	// again: it must not keep it. It must be quick, and any goroutine calls it.
	// nil: nobody listens.
	Seen func(*flow.Flow)
	// Changed hears of each change of a session's state; see session.Config.
	Changed func(session.Change)
	// Reloaded hears of each configuration that holds from now on. It must be
	// quick, and may not call the Holdfast. nil: nobody listens.
	Reloaded func(*Reloaded)
	// TrustChanges has Put and Change run programs and read files and the
	// environment as File does. Else they may only do what File does.
	TrustChanges bool
	// Browser says which browser logins are made in, and how; its zero value
	// works, and what it leaves out is what File says. Home and SPKI are ours.
	Browser browser.Config
	// Message hears of each message on a WebSocket, decoded and cut at 256 KiB;
	// it must copy what it keeps. It must be quick: the WebSocket waits for
	// it. nil: messages are not decoded, unless TraceMessages wants them.
	Message func(*flow.Flow, *flow.Message)
	// Store is the project: what survives a restart. It is the caller's to
	// close, after Close. nil: all is in memory only.
	Store *store.Store
	// Record keeps what clients send and are answered. nil: nothing is kept.
	Record *Recording
	// History is what is kept of flows in Store: HistoryOff, HistoryHeads or
	// HistoryFull; "" is what File says.
	History string
}

// Holdfast is a running proxy: New, then Run, then Close.
type Holdfast struct {
	config    Config
	ca        *ca.Authority
	holds     atomic.Pointer[edition] // the configuration; each request looks once
	server    *proxy.Server
	policy    wire.Policy
	listeners []net.Listener
	ids       *flow.IDs
	record    *recorder
	history   *historian
	watches   watches
	node      string // of a fleet; "" is none
	began     time.Time

	changing sync.Mutex       // one change of the configuration at a time; guards what follows
	changed  changes          // by hand
	pools    []*upstream.Pool // of earlier configurations, whose connections may still be in use
	closed   sync.Once
}

// New opens the home directory and the listeners; connections wait until Run.
func New(c Config) (*Holdfast, error) {
	h, err := newCore(c)
	if err != nil {
		return nil, err
	}
	if h.ca, err = ca.Open(h.config.Home, time.Now); err != nil {
		h.Close()
		return nil, err
	}
	h.holds.Load().browser = h.newBrowser(h.config.File)
	h.server = proxy.New(h.proxyConfig(h.handle))
	if err := h.listen(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// newCore is what needs no listener: the ways out, and the sessions.
func newCore(c Config) (*Holdfast, error) {
	if c.Home == "" {
		return nil, errors.New("holdfast: Config.Home is needed")
	}
	if err := os.MkdirAll(c.Home, 0o700); err != nil {
		return nil, fmt.Errorf("the home directory cannot be made: %w; name another with --home", err)
	}
	if c.File == nil {
		file, _, err := config.Parse("no file", []byte("rules: []\n"), config.Options{})
		if err != nil {
			return nil, fmt.Errorf("internal error: the empty configuration does not load: %w", err)
		}
		c.File = file
	}
	if err := askable(c); err != nil {
		return nil, err
	}
	policy := c.File.Framing
	if c.Framing != "" {
		var known bool
		if policy, known = wire.ParsePolicy(c.Framing); !known {
			return nil, fmt.Errorf("there is no framing %q; write one of strict, lenient, raw", c.Framing)
		}
	}
	h := &Holdfast{config: c, policy: policy, node: nodeOf(c.Store), ids: new(flow.IDs), record: newRecorder(c.Trace, c.Ended), began: time.Now()}
	h.record.messages, h.record.said, h.record.seen = c.TraceMessages, c.Message, c.Seen
	rand.Read(h.ids.Seed[:]) // never fails, says its doc
	if err := h.takeChanges(); err != nil {
		h.Close()
		return nil, err
	}
	c.File = h.config.File
	var err error
	if h.history, err = newHistorian(c, h.node, &h.watches); err == nil {
		err = h.firstEdition()
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// proxyConfig is how clients are served whose flows go to a handler.
func (h *Holdfast) proxyConfig(handler flow.Handler) proxy.Config {
	c := h.config
	return proxy.Config{
		Handler: handler,
		CA:      h.ca.Leaf,
		Policy:  h.policy,
		HTTP2: func(ctx context.Context, o flow.Origin) (bool, error) {
			return h.holds.Load().pool.SpeaksHTTP2(ctx, o)
		},
		Connect: func(ctx context.Context, o flow.Origin) bool { return h.holds.Load().pool.TakesConnect(ctx, o) },
		Local:   proxy.LocalPages(h.ca.RootPEM(), func() []proxy.Passed { return h.server.Passed() }),
		IDs:     h.ids,
		Tool:    c.Tool,
		OnError: h.record.connectionError,
		Spare:   func() bool { return h.holds.Load().pool.Shed() },
		Warn:    c.Warn,

		Password:    h.password(),
		Tunnel:      h.tunnel,
		Tunnelled:   func(f *flow.Flow) { h.history.tunnelled(f); h.record.tunnelled(f) },
		PassThrough: h.passThrough(),
		Limits:      proxy.Limits{Connections: maxConnections(c.File.Limits.Connections), LargeHeads: c.File.Limits.LargeHeads},
	}
}

// handle has a request live by the configuration that holds when it comes, from
// begin to end.
func (h *Holdfast) handle(ctx context.Context, f *flow.Flow) error {
	return h.holds.Load().handler(ctx, f)
}

// pipeline is the life of a request, in order. The engine's own requests
// (logins, refreshes, probes) enter below it, at own.
func (h *Holdfast) pipeline(e *edition) flow.Handler {
	stages := []flow.Stage{
		h.record.stage,        // every flow is counted, and its trace written, when it ends
		h.history.stage,       // and goes to the project
		e.engine.Direct,       // what the client says about this one request, taken out of it
		e.identify,            // who speaks, where the client did not say
		h.config.Record.stage, // what the client did, where that is recorded
		h.watches.stage,       // and which flows there were, where somebody watches
		e.engine.Stage,        // the rules: recover, inject, judge, send again
	}
	handler := e.sending()
	for _, stage := range slices.Backward(stages) {
		handler = stage(handler)
	}
	return handler
}

// own is where the engine's own requests go: recorded, but past the rules.
func (h *Holdfast) own(e *edition) flow.Handler { return h.record.stage(h.history.stage(e.sending())) }

// sending is the end of both: find credentials, wait for a turn, and send.
func (e *edition) sending() flow.Handler { return e.authenticate(e.throttle.Stage(e.send)) }

// send is the end of the pipeline.
func (e *edition) send(ctx context.Context, f *flow.Flow) error {
	f.Sent = now(f)
	err := e.pool.Send(ctx, f)
	f.Answered = now(f)
	f.Waited += f.Answered.Sub(f.Sent)
	return err
}

// now is the time by the flow's own clock: the monotonic one alone, at half the
// price of time.Now.
func now(f *flow.Flow) time.Time { return f.Start.Add(time.Since(f.Start)) }

// identify names the identity of requests whose client named nobody.
func (e *edition) identify(next flow.Handler) flow.Handler {
	return func(ctx context.Context, f *flow.Flow) error {
		if f.Identity == "" {
			f.Identity = e.identity
		}
		return next(ctx, f)
	}
}

// Addr is where the first listener listens, for example 127.0.0.1:8080.
func (h *Holdfast) Addr() string { return h.listeners[0].Addr().String() }

// Addrs is where all of them listen.
func (h *Holdfast) Addrs() []string {
	var all []string
	for _, ln := range h.listeners {
		all = append(all, ln.Addr().String())
	}
	return all
}

// CA is the authority that makes the certificates clients are shown.
func (h *Holdfast) CA() *ca.Authority { return h.ca }

// Sessions lists the sessions with their state.
func (h *Holdfast) Sessions() []session.Status { return h.Engine().Status() }

// Run serves until ctx ends, which is no error, or a listener fails. Close
// must be called afterwards.
func (h *Holdfast) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(h.listeners))
	for _, ln := range h.listeners {
		go func() { failed <- h.server.Serve(ctx, ln) }()
	}
	var first error
	for range h.listeners {
		if err := <-failed; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// Close ends everything and waits for it. It may be called more than once.
func (h *Holdfast) Close() {
	h.closed.Do(func() {
		if h.server != nil {
			h.server.Close()
		}
		for _, ln := range h.listeners {
			ln.Close()
		}
		if e := h.holds.Load(); e != nil {
			e.engine.Close()
			e.pool.Close()
		}
		h.changing.Lock()
		defer h.changing.Unlock()
		for _, p := range h.pools {
			p.Close()
		}
		h.record.close()
		if err := h.history.close(); err != nil {
			h.warn(err.Error())
		}
	})
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
