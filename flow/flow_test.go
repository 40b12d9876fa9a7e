package flow_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

func request(t testing.TB, raw string) *wire.Request {
	t.Helper()
	r, err := wire.ParseRequest([]byte(raw))
	if err != nil {
		t.Fatalf("ParseRequest(%q): %v", raw, err)
	}
	return r
}

func response(t testing.TB, raw string) *wire.Response {
	t.Helper()
	r, err := wire.ParseResponse([]byte(raw))
	if err != nil {
		t.Fatalf("ParseResponse(%q): %v", raw, err)
	}
	return r
}

func TestEditKeepsWhatTheClientWrote(t *testing.T) {
	const raw = "GET /a HTTP/1.1\r\nhost:  x\r\n\r\n"
	received := request(t, raw)
	f := &flow.Flow{Received: received, Request: received}

	edited := f.Edit()
	if err := edited.Set("Authorization", "Bearer new"); err != nil {
		t.Fatal(err)
	}
	if again := f.Edit(); again != edited {
		t.Error("the second Edit made another copy")
	}
	if f.Request != edited || f.Received != received {
		t.Error("Edit did not put its copy in the place of Request only")
	}
	if got := string(f.Received.Bytes()); got != raw {
		t.Errorf("Received is %q after an edit, want %q", got, raw)
	}
	if got, want := string(f.Request.Bytes()), "GET /a HTTP/1.1\r\nhost:  x\r\nAuthorization: Bearer new\r\n\r\n"; got != want {
		t.Errorf("Request is %q, want %q", got, want)
	}
}

func TestEndHappensOnce(t *testing.T) {
	f := &flow.Flow{}
	var order []string
	for _, name := range []string{"first", "second"} {
		f.OnEnd(func(ended *flow.Flow) {
			if ended != f || ended.Ended.IsZero() {
				t.Error("a function was called with another flow, or before its end was set")
			}
			order = append(order, name)
		})
	}
	now, broken := time.Unix(1000, 0), errors.New("broken")
	f.End(now, broken)
	f.End(now.Add(time.Hour), nil)

	if want := []string{"second", "first"}; !slices.Equal(order, want) {
		t.Errorf("called %v, want %v: the latest first, each once", order, want)
	}
	if !f.Ended.Equal(now) || f.Err != broken {
		t.Errorf("ended at %v with %v, want %v with %v: the first end counts", f.Ended, f.Err, now, broken)
	}
}

func TestEndInsideEnd(t *testing.T) {
	f := &flow.Flow{}
	calls := 0
	f.OnEnd(func(f *flow.Flow) { calls++; f.End(time.Unix(2, 0), nil) })
	f.End(time.Unix(1, 0), nil)
	if calls != 1 {
		t.Errorf("called %d times, want 1", calls)
	}
}

func TestTraceIsBounded(t *testing.T) {
	var tr flow.Trace
	for i := range flow.MaxTraceEvents + 3 {
		tr.Add(flow.Event{At: time.Duration(i), Action: flow.ActionNote})
	}
	if len(tr.Events) != flow.MaxTraceEvents || tr.Dropped != 3 {
		t.Errorf("%d events and %d dropped, want %d and 3", len(tr.Events), tr.Dropped, flow.MaxTraceEvents)
	}
	if last := tr.Events[len(tr.Events)-1].At; last != flow.MaxTraceEvents-1 {
		t.Errorf("the last event kept is number %d, want %d: the early ones stay", last, flow.MaxTraceEvents-1)
	}
}

func TestOriginURL(t *testing.T) {
	for _, c := range []struct {
		origin flow.Origin
		want   string
	}{
		{flow.Origin{TLS: true, Host: "shop.example", Port: 443}, "https://shop.example/a?b"},
		{flow.Origin{TLS: true, Host: "shop.example", Port: 80}, "https://shop.example:80/a?b"},
		{flow.Origin{Host: "shop.example", Port: 80}, "http://shop.example/a?b"},
		{flow.Origin{Host: "::1", Port: 8080}, "http://[::1]:8080/a?b"},
	} {
		if got := c.origin.URL([]byte("/a?b")); got != c.want {
			t.Errorf("%+v: %s, want %s", c.origin, got, c.want)
		}
	}
}

func TestErrorNamesReasonAndCause(t *testing.T) {
	cause := errors.New("refused by 192.0.2.1")
	err := &flow.Error{Reason: flow.ReasonUnreachable, Detail: "no connection", Cause: cause}
	if got, want := err.Error(), "origin_unreachable: no connection: refused by 192.0.2.1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is not unwrapped")
	}
}

func TestIDs(t *testing.T) {
	g := &flow.IDs{Seed: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	now := time.UnixMilli(1_700_000_000_123)
	first := g.Next(now)
	s := first.String()
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		t.Fatalf("%q has not the form of a UUID", s)
	}
	if s[14] != '7' || strings.IndexByte("89ab", s[19]) < 0 {
		t.Errorf("%q is not version 7, variant 10 (RFC 9562 §4.1, §4.2)", s)
	}
	if want := "018bcfe5-687b"; s[:13] != want {
		t.Errorf("%q begins with another time than %s", s, want)
	}

	earlier := first
	for i := range 100 {
		id := g.Next(now.Add(time.Duration(i+1) * time.Millisecond))
		if bytes.Compare(id[:], earlier[:]) <= 0 {
			t.Fatalf("%v does not sort behind %v, which is a millisecond older", id, earlier)
		}
		earlier = id
	}
}

func TestIDsOfOneMillisecondSortInOrder(t *testing.T) {
	g := &flow.IDs{}
	now := time.UnixMilli(1)
	earlier := g.Next(now)
	for range 10_000 {
		id := g.Next(now)
		if bytes.Compare(id[:], earlier[:]) <= 0 {
			t.Fatalf("%v does not sort behind %v", id, earlier)
		}
		earlier = id
	}
}

func TestIDsAreUniqueAcrossGoroutines(t *testing.T) {
	const each, goroutines = 20_000, 4
	g := &flow.IDs{}
	now := time.UnixMilli(1)
	var got [goroutines][]flow.ID
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			for range each {
				got[i] = append(got[i], g.Next(now))
			}
		})
	}
	wg.Wait()
	seen := make(map[flow.ID]bool, each*goroutines)
	for _, ids := range got {
		for _, id := range ids {
			if seen[id] {
				t.Fatalf("%v was given twice", id)
			}
			seen[id] = true
		}
	}
}

func TestIDsOfTwoProcesses(t *testing.T) {
	a, b := &flow.IDs{Seed: [8]byte{0, 1}}, &flow.IDs{Seed: [8]byte{0, 2}}
	now := time.UnixMilli(1)
	if x, y := a.Next(now), b.Next(now); x == y {
		t.Errorf("two seeds give the same ID %v", x)
	}
}
