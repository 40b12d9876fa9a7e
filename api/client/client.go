package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-proxy/holdfast/control"
)

// ErrNotServing is that no serve runs with a home directory.
var ErrNotServing = errors.New("no holdfast serve runs with this home directory")

// The bounds of answers.
const (
	maxAnswer = 64 << 20 // bytes
	maxEvent  = 1 << 20  // bytes
	patience  = 100 * time.Second
)

// Problem is what the API says of a request that it does not do.
type Problem struct {
	Status int     `json:"status"`
	Code   string  `json:"code"`
	Detail string  `json:"detail"`
	Next   string  `json:"next"`
	Errors []Fault `json:"errors"`
}

// Fault is one thing that is wrong with a request.
type Fault struct {
	Where string `json:"where"`
	What  string `json:"what"`
}

// Error is the detail, and the next step.
func (p *Problem) Error() string {
	text := strings.TrimSuffix(p.Detail, ".")
	for _, f := range p.Errors {
		text += "; " + f.Where + " " + f.What
	}
	if p.Next != "" && p.Code != control.ReasonParameter {
		text += "; " + strings.TrimSuffix(p.Next, ".")
	}
	return text
}

// Client asks one API. Any goroutine may use it.
type Client struct {
	url, token string
	http       *http.Client
}

// New makes a Client of an address, such as http://127.0.0.1:8081, and a token.
func New(url, token string) *Client {
	return &Client{strings.TrimSuffix(url, "/"), token, &http.Client{
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Open makes a Client of a home directory, for the only one that serves there.
// Where nobody does, the error is ErrNotServing.
func Open(dir string) (*Client, error) { return OpenProject(dir, "") }

// OpenProject is Open for the serve of a project, by its DSN without a password.
func OpenProject(dir, project string) (*Client, error) {
	all, err := Places(dir)
	if err != nil {
		return nil, err
	}
	if project != "" {
		all = slices.DeleteFunc(all, func(p *Place) bool { return p.Project != project })
	}
	switch {
	case len(all) == 0:
		return nil, ErrNotServing
	case len(all) > 1:
		text := ""
		for _, p := range all {
			text += fmt.Sprintf("; %s at %s (process %d)", p.Project, p.URL, p.PID)
		}
		return nil, fmt.Errorf("several serve with this home directory: name one with --project or --store%s", text)
	}
	p := all[0]
	token, err := os.ReadFile(p.Token)
	if err != nil {
		return nil, fmt.Errorf("the token of the API cannot be read: %w", err)
	}
	return New(p.URL, string(bytes.TrimSpace(token))), nil
}

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call does an operation of the table by its name. params is a struct or a map
// with the parameters, nil: none. result is what the answer is decoded into.
func (c *Client) Call(ctx context.Context, name string, params, result any) error {
	table := control.Operations()
	i := slices.IndexFunc(table, func(o control.Operation) bool { return o.Name == name })
	if i < 0 || table[i].Method == control.Nowhere {
		return fmt.Errorf("the API has no operation %s", name)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := c.request(ctx, &table[i], params)
	if err != nil {
		return err
	}
	raw, err := c.send(req)
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(raw, result)
}

// request puts the parameters where the operation has them.
func (c *Client) request(ctx context.Context, op *control.Operation, params any) (*http.Request, error) {
	values := map[string]json.RawMessage{}
	if params != nil {
		raw, err := json.Marshal(params)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &values); err != nil {
			return nil, err
		}
	}
	path := op.Path
	for name, raw := range values {
		if place := "{" + name + "}"; strings.Contains(path, place) {
			path = strings.ReplaceAll(path, place, url.PathEscape(text(raw)))
			delete(values, name)
		}
	}
	address := c.url + "/api/v1" + path
	var body io.Reader
	if op.Method == http.MethodPost || op.Method == http.MethodPut {
		raw, err := json.Marshal(values)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	} else if len(values) > 0 {
		query := url.Values{}
		for name, raw := range values {
			query.Set(name, text(raw))
		}
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, op.Method, address, body)
	if err == nil && body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

// text is a value as a path or a query has it.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// Get fetches a path, such as /metrics.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	return c.send(req)
}

// Link asks for an address that lets one browser in, once, for some seconds.
func (c *Client) Link(ctx context.Context) (url string, seconds int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/api/v1/link", nil)
	if err != nil {
		return "", 0, err
	}
	raw, err := c.send(req)
	if err != nil {
		return "", 0, err
	}
	var link struct {
		URL     string `json:"url"`
		Seconds int    `json:"seconds"`
	}
	err = json.Unmarshal(raw, &link)
	return link.URL, link.Seconds, err
}

func (c *Client) send(req *http.Request) ([]byte, error) {
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(raw) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return raw, nil
}

// do sends a request; an answer that is an error is one.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the API at %s cannot be reached: %w", c.url, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
	p := &Problem{}
	if json.Unmarshal(raw, p) != nil || p.Code == "" {
		return nil, fmt.Errorf("what answers at %s is no Holdfast: %s", c.url, resp.Status)
	}
	return nil, p
}

// Follow hears of events until ctx ends, heard returns false, or the stream
// ends. began, where it is not nil, is called when the stream is there.
func (c *Client) Follow(ctx context.Context, began func(), heard func(control.Event) bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/api/v1/events", nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if began != nil {
		began()
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e control.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("an event is no JSON: %w", err)
		}
		if !heard(e) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return lines.Err()
}
