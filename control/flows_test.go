package control_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
	"github.com/holdfast-proxy/holdfast/wire"
)

// kept is a project with flows: logins with secrets everywhere, of which the
// first was sent again with another cookie.
func kept(t *testing.T, flows int) *store.Store {
	t.Helper()
	s := storetest.File(t).Open(t, store.Options{})
	h, err := s.StartHistory(store.HistoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ids := &flow.IDs{Seed: [8]byte{1}}
	for i := range flows {
		start := time.UnixMilli(1_800_000_000_000 + int64(i)*1000)
		f := &flow.Flow{Tool: "proxy", Identity: "alice", Origin: flow.Origin{TLS: true, Host: "shop.example", Port: 443}, Start: start, ID: ids.Next(start)}
		const login = `{"user":"alice","password":"hunter2 \"x\" secret-a"}`
		f.Received = message(t, wire.ParseRequest, fmt.Sprintf("POST /login/%d?csrf_token=secret-b&page=2 HTTP/1.1\r\nHost: shop.example\r\nCookie: sid=secret-cc; theme=secret-dd\r\n"+
			"Authorization: Bearer secret-ee\r\nX-Api-Key: secret-ff\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", i, len(login)))
		f.Request = f.Received
		if i == 0 {
			if err := f.Edit().Set("Cookie", "sid=secret-gg"); err != nil {
				t.Fatal(err)
			}
			f.Earlier = []flow.Attempt{{Request: f.Received, Response: message(t, wire.ParseResponse, "HTTP/1.1 401 No\r\n\r\n"), Reason: "rule shop: dead"}}
			f.Trace.Add(flow.Event{Actor: "rule shop", Action: flow.ActionDead, Detail: "401"})
		}
		const answer = "welcome, here is secret-hh again and secret-gg; page 2"
		f.Response = message(t, wire.ParseResponse, "HTTP/1.1 200 OK\r\nSet-Cookie: sid=secret-hh; Path=/\r\nContent-Type: text/plain\r\n\r\n")
		f.End(start.Add(7*time.Millisecond), nil)
		h.Record(&store.Exchange{Flow: f, Rules: []string{"shop"}, State: "alive",
			Received: &store.Body{Raw: []byte(login), Kind: wire.Length, Size: int64(len(login))},
			Response: &store.Body{Raw: []byte(answer), Kind: wire.UntilClose, Size: int64(len(answer))}}, 0)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

func message[M any](t testing.TB, parse func([]byte) (M, error), text string) M {
	t.Helper()
	m, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestListFlows(t *testing.T) {
	s := kept(t, 5)
	page, err := control.ListFlows(t.Context(), s, &control.FlowSearch{Query: `req.path.cont:"login"`, Paging: control.Paging{Limit: 3}})
	if err != nil || len(page.Items) != 3 || page.Next == "" || page.Incomplete {
		t.Fatalf("%+v, %v", page, err)
	}
	if got := page.Items[0]; got.URL != "https://shop.example/login/4?csrf_token=***&page=2" || got.Status != 200 || got.Method != "POST" || got.Length == 0 {
		t.Errorf("the newest: %+v", got)
	}
	rest, err := control.ListFlows(t.Context(), s, &control.FlowSearch{Reveal: true, Paging: control.Paging{Cursor: page.Next}})
	if err != nil || len(rest.Items) != 2 || rest.Next != "" {
		t.Fatalf("%+v, %v", rest, err)
	}
	if got := rest.Items[1]; got.URL != "https://shop.example/login/0?csrf_token=secret-b&page=2" || strings.Join(got.Flags, " ") != "resent rules edited traced" {
		t.Errorf("the oldest: %+v", got)
	}
	for query, want := range map[string]string{
		"resp.code.eq:x":          "line 1, column 14",
		"resp.code.eq:200\nand (": "line 2",
		"preset:mine":             "preset",
	} {
		var wrong *flow.Error
		if _, err := control.ListFlows(t.Context(), s, &control.FlowSearch{Query: query}); !errors.As(err, &wrong) || wrong.Reason != control.ReasonQuery || !strings.Contains(wrong.Detail, want) {
			t.Errorf("%s: %v", query, err)
		}
	}
	if _, err := control.ListFlows(t.Context(), s, &control.FlowSearch{Paging: control.Paging{Cursor: "x"}}); err == nil {
		t.Error("a cursor that is none is taken")
	}
}

func TestShowFlow(t *testing.T) {
	s := kept(t, 2)
	page, err := control.ListFlows(t.Context(), s, &control.FlowSearch{})
	if err != nil {
		t.Fatal(err)
	}
	oldest := page.Items[1]
	for _, id := range []string{fmt.Sprint(oldest.ID), oldest.UUID, oldest.UUID[:20], strings.ToUpper(oldest.UUID)} {
		stored, err := control.FindFlow(t.Context(), s, id)
		if err != nil || stored.ID != oldest.ID {
			t.Fatalf("%s: %v", id, err)
		}
	}
	for _, id := range []string{"99999", "019", "nothing", "0000000000", strings.Repeat("a", 40)} {
		var none *flow.Error
		if _, err := control.FindFlow(t.Context(), s, id); !errors.As(err, &none) {
			t.Errorf("%s: %v", id, err)
		}
	}
	stored, err := control.FindFlow(t.Context(), s, oldest.UUID)
	if err != nil {
		t.Fatal(err)
	}
	hidden := control.DetailFlow(stored, control.Window{Most: 1 << 20}, []string{"welcome"}, false)
	if shown := fmt.Sprintf("%+v %+v %+v %+v", hidden, hidden.Client, hidden.Request, hidden.Response); strings.Contains(shown, "secret-") || strings.Contains(shown, "hunter2") || strings.Contains(shown, "welcome") {
		t.Errorf("secrets are shown: %s", shown)
	}
	if want := "Cookie: sid=***; theme=***\nAuthorization: Bearer ***\nX-Api-Key: ***\nContent-Type: application/json\n"; !strings.Contains(hidden.Client.Head, want) {
		t.Errorf("the head is %q; want %q", hidden.Client.Head, want)
	}
	if hidden.Request.Body != `{"user":"alice","password":"***"}` || hidden.Response.Body != "***, here is *** again and ***; page 2" {
		t.Errorf("the bodies are %q and %q", hidden.Request.Body, hidden.Response.Body)
	}
	shown := control.DetailFlow(stored, control.Window{Most: 7}, nil, true)
	if !strings.Contains(shown.Request.Head, "sid=secret-gg\n") || shown.Response.Body != "welcome" || !shown.Response.Cut || shown.Response.Bytes != 54 {
		t.Errorf("revealed: %+v %+v", shown.Request, shown.Response)
	}
	if bare := control.DetailFlow(stored, control.Window{}, nil, true); bare.Response.Body != "" || bare.Response.Cut {
		t.Errorf("a body that nobody asked for: %+v", bare.Response)
	}
	if later := control.DetailFlow(stored, control.Window{Offset: 5, Most: 4}, nil, true); later.Response.Body != "me, " || !later.Response.Cut {
		t.Errorf("a part of a body: %+v", later.Response)
	}
	// Byte by byte a secret does not come out either.
	var pieces strings.Builder
	for i := range 100 {
		pieces.WriteString(control.DetailFlow(stored, control.Window{Offset: i, Most: 1}, nil, false).Response.Body)
	}
	if pieces.String() != "welcome, here is *** again and ***; page 2" {
		t.Errorf("byte by byte the body is %q", pieces.String())
	}
	if len(shown.Trace.Trace) != 1 || len(shown.Trace.Earlier) != 1 || shown.Trace.Earlier[0].Status != 401 {
		t.Errorf("the trace: %+v", shown.Trace)
	}
}

func TestDeleteFlows(t *testing.T) {
	s := kept(t, 5)
	if _, err := control.DeleteFlows(t.Context(), s, " ", ""); err == nil {
		t.Error("nothing was named, and nothing was said")
	}
	done, err := control.DeleteFlows(t.Context(), s, `req.path.cont:"login/3" or req.path.cont:"login/1"`, "")
	if err != nil || done.Deleted != 2 || done.Next != "" {
		t.Fatalf("%+v, %v", done, err)
	}
	if done, err = control.DeleteFlows(t.Context(), s, "()", ""); err != nil || done.Deleted != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
}
