package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

// toBody is a rule that puts ACCESS into a JSON body as well.
func toBody(r *rule.Rule) {
	r.Updates = append(r.Updates, rule.Update{Token: "ACCESS", Target: &rule.Target{Type: rule.TargetJSON, Pointer: "/t", IfAbsent: rule.IfAbsentSkip}})
}

// pieces is a body that comes piece by piece and then ends with err.
type pieces struct {
	framing wire.Framing
	list    []string
	err     error
}

func (p *pieces) Framing() wire.Framing { return p.framing }
func (p *pieces) Close() error          { return nil }
func (p *pieces) Next() ([]byte, error) {
	if len(p.list) == 0 {
		return nil, p.err
	}
	piece := p.list[0]
	p.list = p.list[1:]
	return []byte(piece), nil
}

// echoBodies has the origin keep what it is sent, with the Content-Length.
func echoBodies(o *origin, path string, live func() bool) *[]string {
	var sent []string
	o.handle(path, func(_ context.Context, f *flow.Flow) error {
		raw, err := readAll(f.RequestBody)
		length, _ := f.Request.Get("Content-Length")
		text := string(length) + "|" + string(raw)
		if err != nil {
			text += "|" + err.Error()
		}
		sent = append(sent, text)
		if live() {
			return answer(f, 200, "ok")
		}
		return answer(f, 401, "dead")
	})
	return &sent
}

func TestABodyIsSentInTheFramingItHad(t *testing.T) {
	broke := errors.New("broke off")
	for _, c := range []struct {
		name    string
		framing wire.Framing
		length  string
		pieces  []string
		end     error
		want    string
		says    string
	}{
		{"a length", wire.Framing{Kind: wire.Length, Length: 11}, "11", []string{`{"t":`, `"old"}`}, io.EOF, `15|{"t":"{T}"}`, ""},
		{"chunks", wire.Framing{Kind: wire.Chunked}, "", []string{"5;x=y\r\n{\"t\":\r\n", "6\r\n\"old\"}\r\n0\r\nA: b\r\n\r\n"}, io.EOF, "|f\r\n{\"t\":\"{T}\"}\r\n0\r\nA: b\r\n\r\n", ""},
		{"chunks that nothing changes", wire.Framing{Kind: wire.Chunked}, "", []string{"1;x=y\r\n{\r\n", "1\r\n}\r\n0\r\nA: b\r\n\r\n"}, io.EOF, "|1;x=y\r\n{\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n", ""},
		{"a stream", wire.Framing{Kind: wire.Stream}, "", []string{`{"t":`, `"old"}`}, io.EOF, `|{"t":"{T}"}`, ""},
		{"a body that broke off", wire.Framing{Kind: wire.Length, Length: 20}, "20", []string{`{"t":`}, broke, `20|{"t":|broke off`, "it broke off"},
		{"one that is too large", wire.Framing{Kind: wire.Chunked}, "", []string{"64\r\n", strings.Repeat("x", 100), "\r\n0\r\n\r\n"}, io.EOF, "|64\r\n" + strings.Repeat("x", 100) + "\r\n0\r\n\r\n", "larger than limits.edited_body"},
		{"one whose end is not certain", wire.Framing{Kind: wire.Length, Length: 11, Ambiguous: true}, "11", []string{`{"t":"old"}`}, io.EOF, `11|{"t":"old"}`, "not certain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOrigin()
			s := newSetup(t, o, bearer(t, toBody))
			s.Limits = session.Limits{EditedBody: 30}
			p := s.start(t, o)
			p.want(p.get("/first"), 200)
			dead := c.end == io.EOF
			sent := echoBodies(o, "/form", func() bool { was := dead; dead = false; return !was })
			head := "POST /form HTTP/1.1\nHost: o\nContent-Type: application/json"
			if c.length != "" {
				head += "\nContent-Length: " + c.length
			}
			r := p.deliver(context.Background(), newFlow(t, head, &pieces{c.framing, c.pieces, c.end}))
			p.want(r, 200)
			if c.says != "" && !r.traced(c.says) {
				t.Errorf("the trace does not say %q: %+v", c.says, r.flow.Trace.Events)
			}
			for i, got := range *sent {
				want := strings.ReplaceAll(c.want, "{T}", fmt.Sprintf("token-%d", i+1))
				if got != want {
					t.Errorf("sending %d: %q, want %q", i+1, got, want)
				}
			}
			if want := 1 + btoi(c.end == io.EOF); len(*sent) != want {
				t.Errorf("%d sendings, want %d", len(*sent), want)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// What a macro sends is no word of the client's.
func TestWhatAMacroSendsIsNotLearned(t *testing.T) {
	o := newOrigin()
	s := newSetup(t, o, bearer(t, func(r *rule.Rule) {
		r.Updates = append(r.Updates, rule.Update{Token: "OTHER", Target: header("X-Other"),
			Source: &rule.Source{Type: rule.SourceRequestHeader, Name: "X-Stale"}, Optional: true})
	}))
	s.Macros[0].Steps = append(s.Macros[0].Steps, oneStep(t, "GET http://o/free HTTP/1.1\nX-Stale: stale\n\n"))
	o.handle("/free", func(_ context.Context, f *flow.Flow) error { return answer(f, 200, "ok") })
	p := s.start(t, o)
	r := p.get("/first")
	p.want(r, 200)
	if r.flow.Request.Has("X-Other") {
		t.Error("the request carries what the macro sent")
	}
	r = p.do("GET /second HTTP/1.1\nHost: o\nX-Stale: mine")
	p.want(r, 200)
	r = p.get("/third")
	if got, _ := r.flow.Request.Get("X-Other"); string(got) != "mine" {
		t.Errorf("the request carries %q, want what the client sent", got)
	}
}

func TestAnEditedBodyIsAmongTheChanges(t *testing.T) {
	o := newOrigin()
	live := false
	sent := echoBodies(o, "/x", func() bool { live = !live; return !live }) // the first answer is dead
	p := newSetup(t, o, bearer(t, toBody)).start(t, o)
	const body = `{"pass":"secret","t":"old"}`
	r := p.deliver(context.Background(), request(t, "POST /x HTTP/1.1\nHost: o\nContent-Type: application/json", body))
	p.want(r, 200)
	got := strings.Join(r.flow.Changes(), "\n")
	if want := `): {"pass":"…","t":"***"}`; !strings.Contains(got, want) || len(*sent) != 2 {
		t.Errorf("changes %s, want %s; sent %q", got, want, *sent)
	}
	if r = p.deliver(context.Background(), request(t, "POST /x HTTP/1.1\nHost: o\nContent-Type: application/json", `{"pass":"secret"}`)); strings.Contains(strings.Join(r.flow.Changes(), "\n"), "body") {
		t.Errorf("a body that was sent as it came is among the changes: %q", r.flow.Changes())
	}
}
