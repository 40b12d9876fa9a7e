package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// A sender notes when requests come by.
type sender struct {
	mu    sync.Mutex
	began time.Time
	at    []time.Duration
	now   int
	most  int
}

func (s *sender) send(ctx context.Context, f *flow.Flow) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = append(s.at, time.Since(s.began))
	s.now++
	s.most = max(s.most, s.now)
	f.OnEnd(func(*flow.Flow) {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	})
	return nil
}

func throttledBy(limits ...upstream.Limit) (*sender, flow.Handler) {
	s := &sender{began: time.Now()}
	return s, upstream.NewThrottle(limits).Stage(s.send)
}

func flowTo(host, tool string) *flow.Flow {
	return &flow.Flow{Tool: tool, Origin: flow.Origin{Host: host, Port: 80}, Start: time.Now()}
}

func TestThrottleRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, handler := throttledBy(upstream.Limit{Rate: 10, Burst: 2})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				f := flowTo("a", "scanner")
				if err := handler(t.Context(), f); err != nil {
					t.Error(err)
				}
				if waited := time.Since(s.began) > 0; waited != (len(f.Trace.Events) == 1) {
					t.Errorf("the trace is %+v", f.Trace.Events)
				} else if waited && !strings.Contains(f.Trace.Events[0].Detail, "for its turn with a:80") {
					t.Errorf("the trace is %+v", f.Trace.Events)
				}
			})
		}
		wg.Wait()
		want := []time.Duration{0, 0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}
		if !slices.Equal(s.at, want) {
			t.Errorf("sent at %v, want %v", s.at, want)
		}
		// Another origin has its own count.
		if err := handler(t.Context(), flowTo("b", "scanner")); err != nil || s.at[5] != 300*time.Millisecond {
			t.Errorf("another origin's at %v, error %v", s.at[5], err)
		}
	})
}

func TestThrottleIsForToolsAndHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, handler := throttledBy(
			upstream.Limit{Tools: []string{"scanner"}, Hosts: patterns(t, "*.example"), Rate: 1},
			upstream.Limit{Hosts: patterns(t, "*.example"), Rate: 2})
		for _, c := range []struct {
			host, tool string
			at         time.Duration
		}{
			{"a.example", "scanner", 0}, {"a.example", "Scanner", time.Second},
			{"a.example", "ffuf", time.Second}, {"a.example", "proxy", 1500 * time.Millisecond},
			{"other", "scanner", 1500 * time.Millisecond}, {"other", "scanner", 1500 * time.Millisecond},
		} {
			if err := handler(t.Context(), flowTo(c.host, c.tool)); err != nil {
				t.Fatal(err)
			}
			if got := s.at[len(s.at)-1]; got != c.at {
				t.Errorf("%s to %s at %v, want %v", c.tool, c.host, got, c.at)
			}
		}
	})
}

func TestThrottleConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, handler := throttledBy(upstream.Limit{Concurrent: 3})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				f := flowTo("a", "scanner")
				for range 2 { // one flow that is sent again keeps its place
					if err := handler(t.Context(), f); err != nil {
						t.Error(err)
					}
				}
				<-time.After(time.Duration(i%4+1) * time.Second)
				f.End(time.Now(), nil)
			})
		}
		wg.Wait()
		if len(s.at) != 40 || s.most > 6 {
			t.Errorf("%d sent, %d at once", len(s.at), s.most)
		}
	})
}

// A WebSocket gives its place back; it would keep it for hours.
func TestThrottleForgetsUpgraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := upstream.NewThrottle([]upstream.Limit{{Concurrent: 1}}).Stage(func(_ context.Context, f *flow.Flow) error {
			f.Upgraded = nothing{}
			return nil
		})
		for range 3 {
			f := flowTo("a", "browser")
			if err := handler(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			defer f.End(time.Now(), nil)
		}
	})
}

type nothing struct{}

func (nothing) Read([]byte) (int, error)  { return 0, errors.New("nothing") }
func (nothing) Write([]byte) (int, error) { return 0, errors.New("nothing") }
func (nothing) Close() error              { return nil }

func TestThrottleLetsLoginsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, handler := throttledBy(upstream.Limit{Rate: 1, Concurrent: 1})
		ctx, cancel := context.WithCancel(t.Context())
		first := flowTo("a", "scanner")
		if err := handler(ctx, first); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := handler(ctx, flowTo("a", "scanner")); !errors.Is(err, context.Canceled) {
					t.Errorf("the error is %v", err)
				}
			})
		}
		synctest.Wait()
		for range 3 {
			if err := handler(ctx, flowTo("a", flow.ToolMacro)); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(s.at, []time.Duration{0, 0, 0, 0}) {
			t.Errorf("sent at %v", s.at)
		}
		cancel()
		wg.Wait()
		first.End(time.Now(), nil)
		// They counted: three seconds are owed, and this one's own.
		last := flowTo("a", "scanner")
		if err := handler(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if s.at[4] != 4*time.Second {
			t.Errorf("the next one was sent at %v", s.at[4])
		}
		last.End(time.Now(), nil)
	})
}

func TestThrottleOfMacrosByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, handler := throttledBy(upstream.Limit{Tools: []string{"macro"}, Rate: 1, Concurrent: 1})
		for range 3 {
			if err := handler(t.Context(), flowTo("a", flow.ToolMacro)); err != nil {
				t.Fatal(err)
			}
		}
		if s.at[2] != 2*time.Second {
			t.Errorf("sent at %v", s.at)
		}
	})
}

func TestThrottleBounds(t *testing.T) {
	t.Run("a turn that comes too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, handler := throttledBy(upstream.Limit{Rate: 0.01})
			if err := handler(t.Context(), flowTo("a", "x")); err != nil {
				t.Fatal(err)
			}
			wantReason(t, handler(t.Context(), flowTo("a", "x")), flow.ReasonThrottled)
		})
	})
	t.Run("a place that does not become free", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, handler := throttledBy(upstream.Limit{Concurrent: 1})
			began := time.Now()
			if err := handler(t.Context(), flowTo("a", "x")); err != nil {
				t.Fatal(err)
			}
			wantReason(t, handler(t.Context(), flowTo("a", "x")), flow.ReasonThrottled)
			if waited := time.Since(began); waited != upstream.ThrottleWait {
				t.Errorf("refused after %v", waited)
			}
		})
	})
	t.Run("too many who wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, handler := throttledBy(upstream.Limit{Concurrent: 1})
			ctx, cancel := context.WithCancel(t.Context())
			if err := handler(ctx, flowTo("a", "x")); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range upstream.ThrottleQueue {
				wg.Go(func() {
					if err := handler(ctx, flowTo("a", "x")); !errors.Is(err, context.Canceled) {
						t.Errorf("the error is %v", err)
					}
				})
			}
			synctest.Wait()
			wantReason(t, handler(ctx, flowTo("a", "x")), flow.ReasonThrottled)
			cancel()
			wg.Wait()
		})
	})
	t.Run("more origins than are counted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, handler := throttledBy(upstream.Limit{Rate: 1000, Concurrent: 1})
			for i := range 10000 {
				f := flowTo(fmt.Sprint("h", i), "x")
				if err := handler(t.Context(), f); err != nil {
					t.Fatal(err)
				}
				f.End(time.Now(), nil)
			}
			if len(s.at) != 10000 {
				t.Errorf("%d sent", len(s.at))
			}
		})
	})
}

func TestThrottleOfNothing(t *testing.T) {
	s, handler := throttledBy()
	if err := handler(t.Context(), flowTo("a", "x")); err != nil || len(s.at) != 1 {
		t.Errorf("%v, %d sent", err, len(s.at))
	}
}
