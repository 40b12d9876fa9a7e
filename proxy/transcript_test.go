package proxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
)

// A step is one line of a transcript, or several of the same kind together:
// testdata/README.md says how they are written.
type step struct {
	line int
	who  string // ">", "»", "«", "<"
	verb string // "", "close", "new", "problem"
	text string
}

type transcript struct {
	modes  []string
	policy wire.Policy
	steps  []step
}

// TestTranscripts is the promise that bytes are the truth: through the proxy
// as such, through a tunnel, and through a tunnel with TLS on both sides.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d transcripts found (%v)", len(files), err)
	}
	for _, file := range files {
		tr, err := readTranscript(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range tr.modes {
			name := strings.TrimSuffix(filepath.Base(file), ".txt") + "/" + mode
			t.Run(name, func(t *testing.T) { play(t, file, mode, tr) })
		}
	}
}

func readTranscript(file string) (*transcript, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	tr := &transcript{modes: []string{"proxy", "tunnel", "tls"}}
	for i, line := range strings.Split(string(raw), "\n") {
		bad := func(what string) error { return fmt.Errorf("%s:%d: %s", file, i+1, what) }
		if list, ok := strings.CutPrefix(line, "modes: "); ok {
			tr.modes = strings.Fields(list)
			continue
		}
		if word, ok := strings.CutPrefix(line, "policy: "); ok {
			if tr.policy, ok = wire.ParsePolicy(word); !ok {
				return nil, bad("no such policy")
			}
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		var s step
		for _, who := range []string{">", "»", "«", "<"} {
			if rest, ok := strings.CutPrefix(line, who); ok {
				s.who, line = who, rest
			}
		}
		s.line = i + 1
		if s.who == "" {
			return nil, bad("begins with none of > » « <")
		}
		s.verb, s.text, _ = strings.Cut(line, " ")
		if s.verb == "" {
			if s.text, err = unescape(s.text); err != nil {
				return nil, bad(err.Error())
			}
			if n := len(tr.steps); n > 0 && tr.steps[n-1].who == s.who && tr.steps[n-1].verb == "" {
				tr.steps[n-1].text += s.text
				continue
			}
		}
		tr.steps = append(tr.steps, s)
	}
	if len(tr.steps) == 0 {
		return nil, errors.New(file + ": no steps")
	}
	return tr, nil
}

// unescape is Go's escapes and nothing else; {repeat N TEXT} is TEXT N times.
func unescape(s string) (string, error) {
	var b strings.Builder
	for s != "" {
		if rest, ok := strings.CutPrefix(s, "{repeat "); ok {
			count, rest, _ := strings.Cut(rest, " ")
			text, after, ok := strings.Cut(rest, "}")
			n, err := strconv.Atoi(count)
			if err != nil || !ok {
				return "", errors.New("a repeat is {repeat N TEXT}")
			}
			b.WriteString(strings.Repeat(text, n))
			s = after
			continue
		}
		if s[0] != '\\' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		c, multi, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			return "", fmt.Errorf("bad escape at %q", s)
		}
		if multi {
			b.WriteRune(c)
		} else {
			b.WriteByte(byte(c))
		}
		s = rest
	}
	return b.String(), nil
}

// A player has both ends of the proxy.
type player struct {
	t      *testing.T
	w      *world
	where  string
	ln     net.Listener
	client net.Conn
	origin net.Conn
	vars   *strings.Replacer
}

func play(t *testing.T, file, mode string, tr *transcript) {
	w := newWorld(t, proxy.Config{Policy: tr.policy}, upstream.Config{Policy: tr.policy}, nil)
	p := &player{t: t, w: w, ln: listen(t)}
	host := authorityOf(p.ln)
	to := ""
	switch mode {
	case "proxy":
		p.client, to = w.dial(), "http://"+host
	case "tunnel":
		p.client = w.tunnel(host)
	case "tls":
		p.ln = listenTLS(t, w.ca, p.ln)
		p.client = w.secure(w.tunnel(host), "127.0.0.1")
	default:
		t.Fatalf("%s: no mode %q", file, mode)
	}
	p.vars = strings.NewReplacer("{to}", to, "{host}", host)
	for _, s := range tr.steps {
		p.where = fmt.Sprintf("%s:%d: ", file, s.line)
		p.step(s)
	}
	p.where = file + ": at the end: "
	p.end(w)
}

func (p *player) step(s step) {
	p.t.Helper()
	text := p.vars.Replace(s.text)
	switch s.who + s.verb {
	case ">":
		p.write(p.client, text)
	case ">close":
		if half, ok := p.client.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	case "»new":
		p.origin = nil
	case "»":
		p.accept()
		p.read(p.origin, text)
	case "»close":
		p.accept()
		p.readEnd(p.origin)
	case "«":
		p.accept()
		p.write(p.origin, text)
	case "«close":
		p.origin.Close()
		p.origin = nil
	case "<":
		p.read(p.client, text)
	case "<close":
		p.readEnd(p.client)
	case "<note":
		p.noted(text)
	case "<problem":
		p.readProblem(text)
	default:
		p.t.Fatalf("%sno step %q", p.where, s.who+s.verb)
	}
}

// end checks that neither side got more than the transcript says.
func (p *player) end(w *world) {
	p.t.Helper()
	if half, ok := p.client.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	p.readEnd(p.client)
	w.server.Close()
	w.pool.Close()
	if p.origin != nil {
		p.readEnd(p.origin)
	}
}

func (p *player) accept() {
	p.t.Helper()
	if p.origin != nil {
		return
	}
	conn, err := p.ln.Accept()
	if err != nil {
		p.t.Fatalf("%s%v", p.where, err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	p.t.Cleanup(func() { conn.Close() })
	p.origin = conn
}

func (p *player) write(conn net.Conn, text string) {
	p.t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		p.t.Fatalf("%s%v", p.where, err)
	}
}

func (p *player) read(conn net.Conn, want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	for n := 0; n < len(want); {
		m, err := conn.Read(got[n:])
		n += m
		if !bytes.HasPrefix([]byte(want), got[:n]) || err != nil && n < len(want) {
			p.t.Fatalf("%sread (%v)\n%q, want\n%q", p.where, err, got[:n], want)
		}
	}
}

func (p *player) readEnd(conn net.Conn) {
	p.t.Helper()
	var one [1]byte
	n, err := conn.Read(one[:])
	var timeout net.Error
	if n > 0 || errors.As(err, &timeout) && timeout.Timeout() {
		p.t.Fatalf("%sread %q (%v), want the end", p.where, one[:n], err)
	}
}

// noted waits for the flow to end and looks into its trace.
func (p *player) noted(want string) {
	p.t.Helper()
	eventually(p.t, "the flow ends", func() bool { return p.w.begun.Load() == p.w.over.Load() })
	var all []string
	for _, e := range p.w.last.Load().Trace.Events {
		if e.Actor == "wire" && strings.Contains(e.Detail, want) {
			return
		}
		all = append(all, e.Actor+": "+e.Detail)
	}
	p.t.Fatalf("%sthe trace does not note %q: %q", p.where, want, all)
}

// readProblem reads an answer of the proxy's own: "STATUS REASON".
func (p *player) readProblem(want string) {
	p.t.Helper()
	status, reason := readProblem(p.t, p.client)
	if got := fmt.Sprintf("%d %s", status, reason); got != want {
		p.t.Fatalf("%sgot the problem %q, want %q", p.where, got, want)
	}
}

// readProblem reads one problem document and checks its form.
func readProblem(t testing.TB, conn net.Conn) (status int, reason string) {
	t.Helper()
	r := wire.NewReader(conn, wire.Limits{})
	var head wire.Response
	if err := r.ReadResponse(&head); err != nil {
		t.Fatalf("reading a problem: %v", err)
	}
	framing, err := wire.ResponseFraming(&head, []byte("GET"))
	if err != nil {
		t.Fatal(err)
	}
	var body []byte
	for b, err := r.Body(framing), error(nil); err != io.EOF; {
		var piece []byte
		if piece, err = b.Next(); err != nil && err != io.EOF {
			t.Fatalf("reading the problem %s: %v", head.Bytes(), err)
		}
		body = append(body, piece...)
	}
	var doc struct {
		Type, Title, Detail, Reason, Next, Flow string
		Status                                  int
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatalf("%v in %s%s", err, head.Bytes(), body)
	}
	kind, _ := head.Get("Content-Type")
	proxyStatus, _ := head.Get("Proxy-Status")
	if string(kind) != "application/problem+json" || doc.Status != head.Status() || doc.Detail == "" || doc.Next == "" ||
		!strings.Contains(string(proxyStatus), "holdfast; error=") || !strings.Contains(string(proxyStatus), "reason="+doc.Reason) {
		t.Fatalf("not a problem document:\n%s%s", head.Bytes(), body)
	}
	return doc.Status, doc.Reason
}
