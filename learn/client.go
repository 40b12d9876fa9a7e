package learn

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// maxAnswer is how long one answer through Holdfast is waited for.
const maxAnswer = 2 * time.Minute

// proxied is a running Holdfast with clients that know of no session.
type proxied struct {
	ctx    context.Context
	h      *holdfast.Holdfast
	pause  time.Duration
	most   int
	sent   int
	stop   func()
	served chan error

	mu  sync.Mutex
	own []ownFlow // requests of macros

	transports []*http.Transport
	clients    map[string]*http.Client // by identity
}

// ownFlow is one request that Holdfast sent for a macro.
type ownFlow struct {
	method, path string
	took         time.Duration
}

// startProxy runs a Holdfast with a home of its own, so that what is tried here
// is not counted as failed logins of the person's.
func startProxy(ctx context.Context, c holdfast.Config, pause time.Duration, most int) (*proxied, error) {
	home, err := os.MkdirTemp("", "holdfast-learn-*")
	if err != nil {
		return nil, err
	}
	p := &proxied{ctx: ctx, pause: pause, most: most, served: make(chan error, 1), clients: make(map[string]*http.Client)}
	c.Store = nil
	c.Home, c.Listen, c.Trace, c.Ended = home, []holdfast.Listen{{Address: "127.0.0.1:0"}}, nil, p.ended
	if p.h, err = holdfast.New(c); err != nil {
		os.RemoveAll(home)
		return nil, err
	}
	run, cancel := context.WithCancel(ctx)
	go func() { p.served <- p.h.Run(run) }()
	p.stop = func() {
		for _, t := range p.transports {
			t.CloseIdleConnections()
		}
		cancel()
		<-p.served
		p.h.Close()
		os.RemoveAll(home)
	}
	return p, nil
}

func (p *proxied) ended(f *flow.Flow) {
	if f.Tool != flow.ToolMacro {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own = append(p.own, ownFlow{string(f.Request.Method()), string(f.Request.Path()), f.Ended.Sub(f.Start)})
}

// client speaks for an identity, "" for the one that speaks where nobody is
// named.
func (p *proxied) client(identity string) (*http.Client, error) {
	if c := p.clients[identity]; c != nil {
		return c, nil
	}
	at, err := url.Parse(p.h.ProxyURL())
	if err != nil {
		return nil, err
	}
	if identity != "" {
		password, _ := at.User.Password()
		at.User = url.UserPassword(identity, password)
	}
	roots := p.h.CA().Pool()
	t := &http.Transport{Proxy: http.ProxyURL(at), TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true, MaxIdleConnsPerHost: 8}
	p.transports = append(p.transports, t)
	c := &http.Client{Transport: t, Timeout: maxAnswer, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	p.clients[identity] = c
	return c, nil
}

// ask sends a question as a client that has neither cookie nor token.
func (p *proxied) ask(q *question, identity string) (*answer, time.Duration, error) {
	if p.sent++; p.sent > p.most {
		return nil, 0, ErrBudget
	}
	if p.sent > 1 {
		if err := sleep(p.ctx, p.pause); err != nil {
			return nil, 0, err
		}
	}
	c, err := p.client(identity)
	if err != nil {
		return nil, 0, err
	}
	return p.do(c, q)
}

func (p *proxied) do(c *http.Client, q *question) (*answer, time.Duration, error) {
	head, body, _ := strings.Cut(q.plain, "\n\n")
	req, err := http.NewRequestWithContext(p.ctx, q.method, q.url, strings.NewReader(strings.TrimSuffix(body, "\n")))
	if err != nil {
		return nil, 0, err
	}
	if body == "" {
		req.Body, req.ContentLength = nil, 0
	}
	for _, line := range strings.Split(head, "\n")[1:] {
		if name, value, ok := strings.Cut(line, ": "); ok {
			req.Header.Add(name, value)
		}
	}
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxCompared))
	if err != nil {
		return nil, 0, fmt.Errorf("the answer to %s breaks off: %w", q.shown, err)
	}
	text := "HTTP/1.1 " + resp.Status + "\r\n"
	for _, name := range []string{"Location", "Content-Type", "Holdfast-Error"} {
		if v := resp.Header.Get(name); v != "" {
			text += name + ": " + v + "\r\n"
		}
	}
	parsed, err := wire.ParseResponse([]byte(text + "\r\n"))
	if err != nil {
		return nil, 0, fmt.Errorf("the answer to %s cannot be read: %w", q.shown, err)
	}
	return newAnswer(parsed, raw), time.Since(began), nil
}

// burst sends a question n times at once.
func (p *proxied) burst(q *question, identity string, n int) ([]*answer, error) {
	if p.sent += n; p.sent > p.most {
		return nil, ErrBudget
	}
	c, err := p.client(identity)
	if err != nil {
		return nil, err
	}
	answers, errs := make([]*answer, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { answers[i], _, errs[i] = p.do(c, q) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}
