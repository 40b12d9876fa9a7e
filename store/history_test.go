package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

// limit is for waits that only end when something is broken.
const limit = 2 * time.Minute

func parsed[M any](t testing.TB, parse func([]byte) (M, error), text string) M {
	t.Helper()
	m, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func body(raw string, kind wire.FramingKind) *store.Body {
	return &store.Body{Raw: []byte(raw), Kind: kind, Size: int64(len(raw))}
}

// plain is an exchange with nothing special about it.
func plain(t testing.TB, path, answer string) *store.Exchange {
	f := &flow.Flow{Tool: "proxy", Origin: flow.Origin{Host: "shop.example", Port: 80}, Start: time.Unix(1_800_000_000, 123456789)}
	f.Received = parsed(t, wire.ParseRequest, "GET "+path+" HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	f.Request = f.Received
	f.Response = parsed(t, wire.ParseResponse, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
	f.Sent, f.Answered = f.Start.Add(time.Millisecond), f.Start.Add(5*time.Millisecond+999)
	f.End(f.Start.Add(7*time.Millisecond), nil)
	return &store.Exchange{Flow: f, Response: body(answer, wire.UntilClose)}
}

// rich is one that has everything.
func rich(t testing.TB) *store.Exchange {
	f := &flow.Flow{ID: flow.ID{1, 2, 3, 15: 9}, Tool: "scanner", Identity: "alice", Listener: "l", Client: 7, Start: time.Unix(1_800_000_000, 123456789),
		Origin: flow.Origin{TLS: true, Host: "shop.example", Port: 8443, Address: "192.0.2.1"}, ShownPath: "/***", Keep: []string{"cookie:sid"}, Unprotected: true,
		PassedDead: true, Recovered: true, Stamp: flow.Stamp{Generation: 3, Sequence: 99}}
	f.Received = parsed(t, wire.ParseRequest, "POST  /login?token=tok-1%zz HTTP/1.1\nhost : SHOP.example:8443\r\nX-Odd:  \xff\xfe\r\nCookie: sid=old-secret\r\nCookie: sid=two\r\n\r\n")
	f.Request = f.Received
	if err := f.Edit().Set("Cookie", "sid=new-secret"); err != nil {
		t.Fatal(err)
	}
	h2 := new(wire.Response)
	h2.Reset(wire.HTTP2)
	for _, kv := range [][2]string{{":status", "200"}, {"set-cookie", "sid=hidden"}, {"content-encoding", "identity"}} {
		if err := h2.AppendField([]byte(kv[0]), []byte(kv[1]), wire.NeverIndex); err != nil {
			t.Fatal(err)
		}
	}
	f.Response = h2
	trailers := new(wire.Head)
	trailers.Reset(wire.HTTP2)
	if err := trailers.AppendField([]byte("grpc-status"), []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	f.Sent, f.Answered, f.Waited = f.Start.Add(time.Millisecond), f.Start.Add(5*time.Millisecond+999), time.Second
	f.Earlier = []flow.Attempt{{Request: f.Received.Clone(), Response: parsed(t, wire.ParseResponse, "HTTP/1.1 401 No\r\n\r\n"), Body: []byte("expired"),
		Stamp: flow.Stamp{Generation: 2, Sequence: 98}, Reason: "401"}}
	f.Trace.Add(flow.Event{At: 5, Actor: "rule shop", Action: flow.ActionInject, Detail: "Cookie"})
	f.Trace.Dropped = 4
	f.End(f.Start.Add(time.Hour), errors.New("broke off"))
	return &store.Exchange{Flow: f, State: "alive", Rules: []string{"shop", "csrf"},
		Received: body("5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", wire.Chunked), Sent: body("user=a&password=hunter2hunter2", wire.Length),
		Response: &store.Body{Raw: []byte(strings.Repeat("<p>confidential</p>", 1000)), Kind: wire.Stream, Size: 20000, Cut: true, Broken: true, Trailers: trailers},
		Messages: []store.Message{{Time: f.Start.Add(time.Second), From: flow.Server, Opcode: ws.OpText, Size: 9, Data: []byte("websecret")}}, MessagesMissed: 3}
}

func history(t testing.TB, s *store.Store, o store.HistoryOptions) *store.History {
	t.Helper()
	h, err := s.StartHistory(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func flush(t testing.TB, h *store.History) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := h.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// same compares what the history has with what it was given.
func same(t *testing.T, got *store.Stored, want *store.Exchange) {
	t.Helper()
	g, w := got.Flow, want.Flow
	if !bytes.Equal(g.Received.Bytes(), w.Received.Bytes()) || !bytes.Equal(g.Request.Bytes(), w.Request.Bytes()) || !bytes.Equal(g.Response.Bytes(), w.Response.Bytes()) {
		t.Errorf("other heads:\n%q\n%q\n%q", g.Received.Bytes(), g.Request.Bytes(), g.Response.Bytes())
	}
	if g.Response.Flags(0) != w.Response.Flags(0) {
		t.Error("the flags of a field are others")
	}
	for name, pair := range map[string][2]*store.Body{"received": {got.Received, want.Received}, "sent": {got.Sent, want.Sent}, "response": {got.Response, want.Response}} {
		if (pair[0] == nil) != (pair[1] == nil) {
			t.Errorf("%s body: %v, want %v", name, pair[0], pair[1])
			continue
		}
		if pair[0] == nil {
			continue
		}
		a, b := *pair[0], *pair[1]
		if !bytes.Equal(a.Raw, b.Raw) || a.Kind != b.Kind || a.Size != b.Size || a.Cut != b.Cut || a.Broken != b.Broken || (a.Trailers == nil) != (b.Trailers == nil) {
			t.Errorf("%s body: %.60q…, want %.60q…", name, a.Raw, b.Raw)
		}
		if a.Trailers != nil && !bytes.Equal(a.Trailers.Bytes(), b.Trailers.Bytes()) {
			t.Errorf("%s trailers: %q", name, a.Trailers.Bytes())
		}
	}
	type facts struct {
		ID                               flow.ID
		Tool, Identity, Listener, Path   string
		Client                           uint64
		Origin                           flow.Origin
		Start                            int64
		Ended, Sent, Answered, Waited    time.Duration
		Keep, Rules                      []string
		Unprotected, Passed, Recovered   bool
		Stamp                            flow.Stamp
		Trace                            flow.Trace
		State                            string
		Missed                           int64
		Messages, Attempts               int
		Failed, Refused                  string
		EarlierBody, EarlierHead, Reason string
	}
	of := func(f *flow.Flow, x *store.Exchange) facts {
		v := facts{ID: f.ID, Tool: f.Tool, Identity: f.Identity, Listener: f.Listener, Path: f.ShownPath, Client: f.Client, Origin: f.Origin, Start: f.Start.UnixNano(),
			Ended: f.Ended.Sub(f.Start), Sent: f.Sent.Sub(f.Start), Answered: f.Answered.Sub(f.Start), Waited: f.Waited, Keep: f.Keep, Rules: x.Rules, Unprotected: f.Unprotected,
			Passed: f.PassedDead, Recovered: f.Recovered, Stamp: f.Stamp, Trace: f.Trace, State: x.State, Missed: x.MessagesMissed, Messages: len(x.Messages), Attempts: len(f.Earlier)}
		if f.Err != nil {
			v.Failed = f.Err.Error()
		}
		if f.Refused != nil {
			v.Refused = f.Refused.Error()
		}
		if len(f.Earlier) > 0 {
			v.EarlierBody, v.Reason, v.EarlierHead = string(f.Earlier[0].Body), f.Earlier[0].Reason, string(f.Earlier[0].Request.Bytes())+string(f.Earlier[0].Response.Bytes())
		}
		return v
	}
	if a, b := of(g, &got.Exchange), of(w, want); !reflect.DeepEqual(a, b) {
		t.Errorf("got  %+v\nwant %+v", a, b)
	}
	for i := range want.Messages {
		a, b := got.Messages[i], want.Messages[i]
		if !a.Time.Equal(b.Time) || a.From != b.From || a.Opcode != b.Opcode || a.Size != b.Size || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("message %+v, want %+v", a, b)
		}
	}
}

func TestFlowsComeBackAsTheyWere(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		h := history(t, s, store.HistoryOptions{Node: "n1"})
		given := []*store.Exchange{plain(t, "/a", "one"), rich(t), plain(t, "/b", strings.Repeat("two", 1000))}
		refused := plain(t, "/c", "")
		refused.Flow.Response, refused.Response = nil, nil
		refused.Flow.Refused = &flow.Error{Status: 502, Reason: flow.ReasonLocked, Detail: "d", Next: "n", NoSession: true, Cause: errors.New("c")}
		for _, x := range append(given, refused) {
			h.Record(x, 0)
		}
		flush(t, h)
		all, err := s.Flows(t.Context(), 0, 10, false)
		if err != nil || len(all) != 4 {
			t.Fatalf("%d flows, %v", len(all), err)
		}
		for i, x := range given {
			same(t, all[i], x)
			one, err := s.Flow(t.Context(), all[i].ID)
			if err != nil {
				t.Fatal(err)
			}
			same(t, one, x)
			if one.Node != "n1" {
				t.Errorf("node %q", one.Node)
			}
		}
		if r := all[3].Flow.Refused; r == nil || r.Error() != refused.Flow.Refused.Error() || r.Next != "n" || !r.NoSession || all[3].Flow.Response != nil {
			t.Errorf("refused: %+v", all[3].Flow.Refused)
		}
		newest, err := s.Flows(t.Context(), 0, 2, true)
		if err != nil || len(newest) != 2 || newest[0].ID != all[3].ID || newest[1].ID != all[2].ID {
			t.Errorf("newest: %v", err)
		}
		older, err := s.Flows(t.Context(), newest[1].ID-1, 2, true)
		if err != nil || len(older) != 2 || older[0].ID != all[1].ID {
			t.Errorf("older: %v", err)
		}
		if _, err := s.Flow(t.Context(), 5); !errors.Is(err, store.ErrNoFlow) {
			t.Errorf("no flow: %v", err)
		}
		if st := h.Stats(); st.Written != 4 || st.Dropped+st.Bodies != 0 || st.Bytes != 0 || st.Waiting != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAStoredFlowIsAskedAsInMemory(t *testing.T) {
	s := storetest.Project{DSN: filepath.Join(t.TempDir(), "p.db")}.Open(t, store.Options{})
	h := history(t, s, store.HistoryOptions{})
	h.Record(rich(t), 0)
	flush(t, h)
	all, err := s.Flows(t.Context(), 0, 1, true)
	if err != nil || len(all) != 1 {
		t.Fatal(err)
	}
	for query, want := range map[string]httpql.Truth{
		`resp.code.eq:200 AND resp.body.cont:"confidential"`:     httpql.True,
		`req.body.cont:"hunter2" AND req.host.eq:"SHOP.example"`: httpql.True,
		`session.state.eq:"alive" AND session.generation.eq:3`:   httpql.True,
		`flow.rule.eq:"shop" AND trace.action.eq:"inject"`:       httpql.True,
		`req.raw.cont:"old-secret"`:                              httpql.False,
	} {
		q, err := httpql.Parse(query)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if got := q.Match(all[0].Record()); got != want {
			t.Errorf("%s: %v", query, got)
		}
	}
}

func TestEqualBodiesAreKeptOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		h := history(t, s, store.HistoryOptions{})
		large := strings.Repeat("the same picture ", 1000)
		for range 2 {
			for range 3 {
				h.Record(plain(t, "/x", large), 0)
			}
			flush(t, h)
		}
		if n := store.Count(t, s, "bodies"); n != 1 {
			t.Errorf("%d bodies", n)
		}
		if n := store.Count(t, s, "flow_bodies"); n != 6 {
			t.Errorf("%d references", n)
		}
		all, err := s.Flows(t.Context(), 0, 10, false)
		if err != nil || len(all) != 6 || string(all[5].Response.Raw) != large {
			t.Errorf("%d, %v", len(all), err)
		}
	})
}

// The bytes of a project's files tell nothing that went over the wire.
func TestTheFileHasNoContent(t *testing.T) {
	dir := t.TempDir()
	s := storetest.Project{DSN: filepath.Join(dir, "p.db")}.Open(t, store.Options{})
	h := history(t, s, store.HistoryOptions{})
	h.Record(rich(t), 0)
	h.Record(plain(t, "/reset/tok-2?k=tok-3", "page"), 0)
	flush(t, h)
	search := func() {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "p.db*"))
		if err != nil || len(files) == 0 {
			t.Fatal(err)
		}
		for _, name := range files {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"old-secret", "new-secret", "sid=", "tok-1", "tok-2", "tok-3", "hunter2", "hidden", "expired", "confidential", "websecret", "grpc-status", "csrf"} {
				for shift := range 3 {
					coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
					if coded = strings.TrimRight(coded, "=")[(shift*4+2)/3:]; len(coded) > 4 && bytes.Contains(raw, []byte(coded[:len(coded)-1])) {
						t.Errorf("%s: %q in base64", filepath.Base(name), secret)
					}
				}
				if bytes.Contains(raw, []byte(secret)) {
					t.Errorf("%s: %q", filepath.Base(name), secret)
				}
			}
			if strings.HasSuffix(name, "-wal") && !bytes.Contains(raw, []byte("shop.example")) {
				t.Error("the host is not there either: this test sees nothing")
			}
		}
	}
	search()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	search()
}
