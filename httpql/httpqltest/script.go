// Package httpqltest holds evaluators of httpql to one set of scripts, so that
// one on a database cannot drift from the one in memory.
//
// A script is text. A line that begins with # is a comment; others are
//
//	load NAME            one exchange, described by the indented lines below it
//	  tool scanner       row, port, tls, created, roundtrip, duration, tool,
//	                     identity, state, generation, rules, actions
//	  > GET / HTTP/1.1   the request, line by line: head, empty line, body
//	  < HTTP/1.1 200 OK  the response; without one there is none
//	  pending            there may still be a response
//	  live               the exchange has not ended
//	eval QUERY           what a query answers about all that was loaded
//	  true a b           those it is true of
//	  unknown c          those it cannot tell about yet; of the rest it is false
//	fail QUERY           a query that cannot be read
//	  1:5: …             a part of the error
//	clear                forget what was loaded
//
// The lines of a head end in CRLF, those of a body in LF save the last. A line
// of a body in double quotes is a Go string, and a body that ends in a line of
// three dots is only a beginning.
//
// It reads scripts from a file system that it is given, and makes no evaluator
// of its own except [Memory].
package httpqltest

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// Evaluator answers a query about each of the exchanges, in their order.
type Evaluator func(xs []*Exchange, q *httpql.Query) ([]httpql.Truth, error)

// Memory is the evaluator of httpql itself.
func Memory(xs []*Exchange, q *httpql.Query) ([]httpql.Truth, error) {
	answers := make([]httpql.Truth, len(xs))
	for i, x := range xs {
		answers[i] = q.Match(x)
	}
	return answers, nil
}

// Run runs every *.test of files. With stored, exchanges of which something is
// still to arrive are left out, as in a store, and queries about rows too, which
// a store numbers itself.
func Run(t *testing.T, files fs.FS, stored bool, eval Evaluator) {
	t.Helper()
	names, err := fs.Glob(files, "*.test")
	if err != nil || len(names) == 0 {
		t.Fatalf("there is no script *.test (%v)", err)
	}
	for _, name := range names {
		src, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(name, ".test"), func(t *testing.T) {
			s := script{t: t, name: name, stored: stored, eval: eval}
			if s.run(string(src)); s.asked == 0 {
				t.Errorf("%s asks nothing", name)
			}
		})
	}
}

type script struct {
	t      *testing.T
	name   string
	stored bool
	eval   Evaluator
	loaded []*Exchange
	asked  int
}

// run splits the script into commands with their indented lines.
func (s *script) run(src string) {
	lines := strings.Split(src, "\n")
	for i := 0; i < len(lines); {
		at, head := i+1, lines[i]
		i++
		if strings.TrimSpace(head) == "" || strings.HasPrefix(head, "#") {
			continue
		}
		var below []string
		for ; i < len(lines) && strings.HasPrefix(lines[i], "  "); i++ {
			below = append(below, strings.TrimPrefix(lines[i], "  "))
		}
		if err := s.command(head, below); err != nil {
			s.t.Errorf("%s:%d: %s: %v", s.name, at, head, err)
		}
	}
}

func (s *script) command(head string, below []string) error {
	word, rest, _ := strings.Cut(head, " ")
	switch word {
	case "load":
		x, err := load(rest, below)
		if err == nil && (x.Stored() || !s.stored) {
			s.loaded = append(s.loaded, x)
		}
		return err
	case "clear":
		s.loaded = nil
		return nil
	case "eval":
		s.asked++
		return s.evaluate(rest, below)
	case "fail":
		s.asked++
		q, err := httpql.Parse(rest)
		if err == nil {
			return fmt.Errorf("it was read as %s", q)
		}
		if len(below) == 0 {
			return fmt.Errorf("say a part of the error %q", err)
		}
		for _, want := range below {
			if !strings.Contains(err.Error(), want) {
				return fmt.Errorf("the error is %q, without %q", err, want)
			}
		}
		return nil
	}
	return errors.New("no such command")
}

// evaluate asks the query, and its canonical form too.
func (s *script) evaluate(src string, below []string) error {
	want := make([]httpql.Truth, len(s.loaded))
	for _, line := range below {
		w := strings.Fields(line)
		truth, ok := map[string]httpql.Truth{"true": httpql.True, "unknown": httpql.Unknown}[w[0]]
		if !ok {
			return fmt.Errorf("%q is no answer", w[0])
		}
		for _, id := range w[1:] {
			i := slices.IndexFunc(s.loaded, func(x *Exchange) bool { return x.ID == id })
			if i < 0 && !s.stored {
				return fmt.Errorf("nothing was loaded as %s", id)
			}
			if i >= 0 {
				want[i] = truth
			}
		}
	}
	q, err := httpql.Parse(src)
	if err != nil {
		return err
	}
	again, err := httpql.Parse(q.String())
	if err != nil {
		return fmt.Errorf("the canonical form %s: %w", q, err)
	}
	if s.stored && q.Needs()&httpql.NeedRow != 0 {
		return nil
	}
	for _, q := range []*httpql.Query{q, again} {
		got, err := s.eval(s.loaded, q)
		if err != nil {
			return err
		}
		for i, x := range s.loaded {
			if got[i] != want[i] {
				return fmt.Errorf("%s: %v, want %v", x.ID, got[i], want[i])
			}
		}
	}
	return nil
}

// load makes an exchange of what a script says about it.
func load(id string, below []string) (*Exchange, error) {
	x := &Exchange{ID: id, TLS: true, Port: 443, Tool: "proxy", Created: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}
	var request, response []string
	for _, line := range below {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case ">":
			request = append(request, rest)
			continue
		case "<":
			response = append(response, rest)
			continue
		}
		if err := x.set(word, rest); err != nil {
			return nil, err
		}
	}
	var err error
	if x.Request, x.RequestBody, x.RequestCut, err = message(request); err == nil {
		x.Response, x.ResponseBody, x.ResponseCut, err = message(response)
	}
	return x, err
}

func (x *Exchange) set(word, value string) (err error) {
	switch word {
	case "row":
		x.Row, err = strconv.ParseInt(value, 10, 64)
	case "port":
		x.Port, err = strconv.ParseInt(value, 10, 64)
	case "generation":
		x.Generation, err = strconv.ParseInt(value, 10, 64)
	case "tls":
		x.TLS, err = strconv.ParseBool(value)
	case "created":
		x.Created, err = time.Parse(time.RFC3339Nano, value)
	case "roundtrip":
		x.Roundtrip, err = time.ParseDuration(value)
	case "duration":
		x.Duration, err = time.ParseDuration(value)
	case "tool":
		x.Tool = value
	case "identity":
		x.Identity = value
	case "node":
		x.Node = value
	case "state":
		x.State = value
	case "rules":
		x.Rules = strings.Fields(value)
	case "actions":
		x.Actions = strings.Fields(value)
	case "pending":
		x.ResponsePending = true
	case "live":
		x.Live = true
	default:
		return fmt.Errorf("an exchange has no %q", word)
	}
	return err
}

func message(lines []string) (head, body []byte, cut bool, err error) {
	if len(lines) == 0 {
		return nil, nil, false, nil
	}
	n := slices.Index(lines, "")
	if n < 0 {
		n = len(lines)
	}
	head = []byte(strings.Join(lines[:n], "\r\n") + "\r\n\r\n")
	rest := lines[min(n+1, len(lines)):]
	if len(rest) > 0 && rest[len(rest)-1] == "..." {
		cut, rest = true, rest[:len(rest)-1]
	}
	for i, line := range rest {
		if strings.HasPrefix(line, `"`) {
			if line, err = strconv.Unquote(line); err != nil {
				return nil, nil, false, err
			}
		}
		if i > 0 {
			body = append(body, '\n')
		}
		body = append(body, line...)
	}
	return head, body, cut, nil
}
