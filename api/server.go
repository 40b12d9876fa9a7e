package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/holdfast-proxy/holdfast/control"
)

// DefaultListen is where the API listens when nothing else is said.
const DefaultListen = "127.0.0.1:8081"

// The bounds of what is asked.
const (
	maxConnections = 256
	maxHead        = 16 << 10 // bytes
	maxBody        = 20 << 20 // bytes; a jar's file is the largest that one sends
	headTimeout    = 10 * time.Second
	readTimeout    = time.Minute
	idleTimeout    = 2 * time.Minute
	callTimeout    = 90 * time.Second
	writeTimeout   = 30 * time.Second // behind the call; for each piece of a stream
)

// Config is what a Server is made of.
type Config struct {
	Address string // host:port; port 0 takes a free one
	Token   string // what callers must have
	// Chosen says that a person chose the token, so that others than this
	// machine may be listened to.
	Chosen bool
	// Hosts are names by which the API is asked, besides its address.
	Hosts       []string
	Metrics     *Metrics
	MetricsOpen bool // /metrics wants no token
	// MCP makes what answers at /mcp, behind the same checks; nil: nothing does.
	MCP func(*control.Desk) (Face, error)
}

// Face answers at a path of its own.
type Face interface {
	http.Handler
	Close() // called when nobody asks any more
}

// minChosen is how long a token must be that a person chose, in bytes.
const minChosen = 16

// Server is a listener that serves the API once it is told what about.
type Server struct {
	listener net.Listener
	config   Config
	http     *http.Server
	guard    guard
	face     Face // of Config.MCP, while it is served
}

// Listen opens the listener; connections wait until Serve. An address that
// others can reach is refused unless a person chose the token.
func Listen(c Config) (*Server, error) {
	if c.Token == "" {
		return nil, errors.New("api: Config.Token is needed")
	}
	if c.Chosen && len(c.Token) < minChosen {
		return nil, fmt.Errorf("the token of the API has %d bytes, and %d are wanted at least; make one with: openssl rand -hex 32", len(c.Token), minChosen)
	}
	listener, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("the API cannot listen on %s: %w; name another place with --ui, or turn it off: --ui off", c.Address, err)
	}
	if at, ok := listener.Addr().(*net.TCPAddr); !c.Chosen && (!ok || !at.IP.IsLoopback()) {
		listener.Close()
		return nil, fmt.Errorf("others can reach %s, and the API hands out sessions; give it a token of your own with --api-token-file, or listen on 127.0.0.1", listener.Addr())
	}
	s := &Server{listener: listener, config: c}
	s.guard = guard{token: sha256.Sum256([]byte(c.Token)), open: func(path string) bool { return c.MetricsOpen && path == metricsPath || withoutToken(path) }}
	for _, h := range c.Hosts {
		s.guard.hosts = append(s.guard.hosts, strings.ToLower(h))
	}
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// URL is its address for clients on this machine.
func (s *Server) URL() string {
	at, ok := s.listener.Addr().(*net.TCPAddr)
	if ok && at.IP.IsUnspecified() {
		at = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.Port}
	}
	if !ok {
		return "http://" + s.listener.Addr().String()
	}
	return "http://" + at.String()
}

const (
	metricsPath = "/metrics"
	mcpPath     = "/mcp"
	prefix      = "/api/v1"
)

// Serve serves until ctx ends, which is no error, or the listener fails.
func (s *Server) Serve(ctx context.Context, desk *control.Desk) error {
	var err error
	if s.config.MCP != nil {
		if s.face, err = s.config.MCP(desk); err != nil {
			s.listener.Close()
			return err
		}
		defer s.face.Close()
	}
	handler, err := s.handler(desk)
	if err != nil {
		s.listener.Close()
		return err
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: headTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHead,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    quiet(),
	}
	unhook := context.AfterFunc(ctx, func() {
		cancel()
		s.http.Close()
	})
	defer unhook()
	err = s.http.Serve(netutil.LimitListener(s.listener, maxConnections))
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends a Server that was never served.
func (s *Server) Close() { s.listener.Close() }

// endpoint is something that is answered here. Whoever may ask for one is the
// same for all: see guarded.
type endpoint struct {
	pattern string // of the mux: a method and a path
	handler http.Handler
}

// endpoints is all that is answered, the one place where that stands.
func (s *Server) endpoints(desk *control.Desk) ([]endpoint, error) {
	document, routes, err := project(control.Operations())
	if err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, err
	}
	var all []endpoint
	add := func(pattern string, handler http.HandlerFunc) { all = append(all, endpoint{pattern, handler}) }
	for i := range routes {
		r := &routes[i]
		add(r.op.Method+" "+prefix+r.op.Path, func(w http.ResponseWriter, req *http.Request) { r.serve(w, req, desk) })
	}
	add("GET "+prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
		w.Write(append(raw, '\n'))
	})
	add("GET "+prefix+"/events", func(w http.ResponseWriter, req *http.Request) { stream(w, req, desk) })
	if s.config.Metrics != nil {
		handler := promhttp.HandlerFor(s.config.Metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: writeTimeout})
		add("GET "+metricsPath, handler.ServeHTTP)
	}
	if s.face != nil {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
			add(method+" "+mcpPath, s.face.ServeHTTP)
		}
	}
	return append(all, s.pageEndpoints()...), nil
}

func (s *Server) handler(desk *control.Desk) (http.Handler, error) {
	all, err := s.endpoints(desk)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, e := range all {
		mux.Handle(e.pattern, e.handler)
	}
	return s.guarded(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if fallback, pattern := mux.Handler(req); pattern == "" {
			missing(w, req, fallback)
			return
		}
		mux.ServeHTTP(w, req)
	})), nil
}

// missing answers where the mux has no handler, in the form of all problems.
func missing(w http.ResponseWriter, req *http.Request, fallback http.Handler) {
	said := &verdict{header: make(http.Header)}
	fallback.ServeHTTP(said, req)
	if allow := said.header.Get("Allow"); said.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		newProblem(405, CodeMethod, "The path is not for this method.", "Use one of "+allow+".").write(w)
		return
	}
	newProblem(404, CodePath, "There is no such path.", "See "+prefix+"/openapi.json for those that there are.").write(w)
}

// verdict is what a handler says, without its words.
type verdict struct {
	header http.Header
	status int
}

// Header is the answer's.
func (v *verdict) Header() http.Header { return v.header }

// WriteHeader keeps the status.
func (v *verdict) WriteHeader(status int) { v.status = status }

// Write drops the words.
func (v *verdict) Write(p []byte) (int, error) { return len(p), nil }

// guarded is a handler for those who may ask.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(callTimeout + writeTimeout))
		if p := s.guard.check(r); p != nil {
			if p.Status == http.StatusUnauthorized {
				h.Set("WWW-Authenticate", `Bearer realm="holdfast"`)
			}
			h.Set("Connection", "close")
			p.write(w)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}
