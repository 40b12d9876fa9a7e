package session_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/session"
)

// A body above the first 64 KiB, which cost nothing, in pieces.
func largeBody(last string) (pieces []string, whole string) {
	pieces = append(pieces, strings.Repeat("a", 64<<10), strings.Repeat("b", 1000), strings.Repeat("c", 1000), last)
	return pieces, strings.Join(pieces, "")
}

func TestAllHeldBodiesTogetherAreBounded(t *testing.T) {
	o := newOrigin()
	setup := newSetup(t, o, deadWords(t))
	setup.Limits.Memory = 2500
	p := setup.start(t, o)
	p.get("/a")
	pieces, whole := largeBody("please log in")
	serve := func() {
		s := newStream(pieces...)
		s.end(io.EOF)
		serveStream(o, s)
	}
	first := newFlow(t, "GET /s HTTP/1.1\nHost: o", nil)
	held := newStream(strings.Repeat("a", 64<<10), strings.Repeat("b", 2000))
	held.end(io.EOF)
	serveStream(o, held)
	if err := p.handler(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	serve()
	r := p.get("/s")
	if r.body != whole || r.err != nil || !r.traced("judged on its first 66536 bytes") {
		t.Errorf("%d bytes, %v, trace %+v; want all, judged on the beginning", len(r.body), r.err, r.flow.Trace.Events)
	}
	logins := o.loginCount()
	readAll(first.ResponseBody)
	first.End(time.Now(), nil)
	o.handle("/s", func(_ context.Context, f *flow.Flow) error {
		if o.loginCount() > logins {
			return answer(f, 200, "welcome")
		}
		s := newStream(pieces...)
		s.end(io.EOF)
		return answerWith(f, 200, s)
	})
	if r := p.get("/s"); r.body != "welcome" {
		t.Errorf("once the first had ended: %d bytes, %v; want it judged dead and sent again", len(r.body), r.err)
	}
}

func TestKeptBodiesTogetherAreBounded(t *testing.T) {
	pieces, whole := largeBody("end")
	for name, c := range map[string]struct {
		limits  session.Limits
		spooled bool
		why     string
	}{
		"within memory":     {session.Limits{}, false, ""},
		"memory is used up": {session.Limits{Memory: 1500}, true, ""},
		"the disk is, too":  {session.Limits{Memory: 1500, Disk: 500}, true, "limits.disk"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStream(pieces...)
			s.end(io.EOF)
			k := session.Keep(s, c.limits)
			defer k.Release()
			raw, err := readAll(k.Reader())
			if string(raw) != whole || err != nil || k.Spooled() != c.spooled {
				t.Errorf("%d bytes, %v, spooled %v", len(raw), err, k.Spooled())
			}
			r, why := k.Again()
			if !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
				t.Fatalf("again: %q, want %q", why, c.why)
			}
			if r == nil {
				return
			}
			if raw, err := readAll(r); string(raw) != whole || err != nil {
				t.Errorf("again: %d bytes, %v", len(raw), err)
			}
		})
	}
}

// The answers that a client never sees are kept until the request has ended,
// and count.
func TestEarlierAnswersTogetherAreBounded(t *testing.T) {
	o := newOrigin()
	setup := newSetup(t, o, bearer(t))
	setup.Limits.Memory = 40 << 10
	p := setup.start(t, o)
	p.want(p.get("/a"), 200)
	large := strings.Repeat("d", 100<<10) // 36 KiB above what is free
	o.handle("/x", func(_ context.Context, f *flow.Flow) error {
		if o.isLive(f) {
			return answer(f, 200, "welcome")
		}
		return answer(f, 401, large)
	})
	send := func() *flow.Flow {
		o.kill()
		f := newFlow(t, "GET /x HTTP/1.1\nHost: o", nil)
		if err := p.handler(context.Background(), f); err != nil || len(f.Earlier) != 1 {
			t.Fatalf("%v after %d answers", err, len(f.Earlier))
		}
		return f
	}
	first, second := send(), send()
	if n := len(first.Earlier[0].Body); n != len(large) {
		t.Errorf("the first keeps %d bytes", n)
	}
	if n := len(second.Earlier[0].Body); n != 0 || second.Earlier[0].Response == nil {
		t.Errorf("the second keeps %d bytes", n)
	}
	if r := (result{flow: second}); !r.traced("is not kept: all bodies together are larger than limits.memory") {
		t.Errorf("trace %+v", second.Trace.Events)
	}
	first.End(time.Now(), nil)
	second.End(time.Now(), nil)
	third := send()
	if n := len(third.Earlier[0].Body); n != len(large) {
		t.Errorf("once they have ended: %d bytes", n)
	}
	third.End(time.Now(), nil)
}
