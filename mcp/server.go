package mcp

import (
	"context"
	"io"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/holdfast-proxy/holdfast/control"
)

// Config is what a Server is made of.
type Config struct {
	Caller   Caller
	Version  string            // of the program
	ReadOnly bool              // offer only what changes nothing
	Warn     func(text string) // hears of errors of ours; nil: nobody does
}

// Server has the operations as tools. Any goroutine may use it.
type Server struct {
	caller     Caller
	config     Config
	tools      []*tool
	described  []*sdk.Tool
	operations map[string]*control.Operation
	slots      chan struct{}   // one for each call that is under way
	open       context.Context // ends with the Server
	end        context.CancelFunc
}

// New makes a Server.
func New(c Config) (*Server, error) {
	s := &Server{caller: c.Caller, config: c, operations: map[string]*control.Operation{}, slots: make(chan struct{}, maxCalls)}
	s.open, s.end = context.WithCancel(context.Background())
	table := control.Operations()
	for i := range table {
		s.operations[table[i].Name] = &table[i]
	}
	registry := huma.NewMapRegistry("#/$defs/", huma.DefaultSchemaNamer)
	var err error
	if s.tools, err = toolsOf(table, registry, c.ReadOnly); err != nil {
		return nil, err
	}
	for _, t := range s.tools {
		d, err := t.describe(registry)
		if err != nil {
			return nil, err
		}
		s.described = append(s.described, d)
	}
	return s, nil
}

func (s *Server) warn(text string) {
	if s.config.Warn != nil {
		s.config.Warn(text)
	}
}

// protocol is a server of the protocol that has the tools.
func (s *Server) protocol() *sdk.Server {
	p := sdk.NewServer(&sdk.Implementation{Name: "holdfast", Title: "Holdfast", Version: s.config.Version},
		&sdk.ServerOptions{Instructions: instructions, Capabilities: &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{}}})
	for i, t := range s.tools {
		p.AddTool(s.described[i], func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
			return s.handle(ctx, req, t)
		})
	}
	return p
}

// Tools are the tools as clients see them.
func (s *Server) Tools() []*sdk.Tool { return slices.Clone(s.described) }

// Close ends the calls that are under way, and with them the runs that they wait
// for. The Server does nothing after it.
func (s *Server) Close() { s.end() }

// Run speaks over a pair of streams, a message a line, until the client ends
// them or ctx ends. It closes the Server.
func (s *Server) Run(ctx context.Context, in io.ReadCloser, out io.WriteCloser) error {
	defer s.Close()
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	return s.protocol().Run(ctx, &sdk.IOTransport{Reader: &lastRead{in, s.Close}, Writer: out, MaxLineLength: maxRequest})
}

// lastRead tells when a stream has ended: the client is gone, and nobody waits
// for what is under way.
type lastRead struct {
	io.ReadCloser
	ended func()
}

// Read reads on.
func (r *lastRead) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil {
		r.ended()
	}
	return n, err
}
