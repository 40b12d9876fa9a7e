package macro_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/macro"
)

func TestRepeat(t *testing.T) {
	const pending, slower, ready = "HTTP/1.1 400 No\n\n{\"error\":\"authorization_pending\"}", "HTTP/1.1 400 No\n\n{\"error\":\"slow_down\"}", "HTTP/1.1 200 OK\n\n{\"id\":\"t\"}"
	q, err := httpql.Parse(`resp.body.cont:"authorization_pending" or resp.body.cont:"slow_down"`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		answers []string
		waits   []time.Duration
		kind    macro.Kind // 0: it succeeds
	}{
		{"at once", []string{ready}, nil, 0},
		{"after a while", []string{pending, slower, pending, ready}, []time.Duration{time.Second, 6 * time.Second, 6 * time.Second}, 0},
		{"denied", []string{pending, "HTTP/1.1 400 No\n\n{\"error\":\"access_denied\"}"}, []time.Duration{time.Second}, macro.Rejected},
		{"never", []string{slower, slower, slower}, []time.Duration{6 * time.Second, 11 * time.Second}, macro.Unanswered},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{t: t, answers: c.answers}
			one := step(t, "POST https://o/token HTTP/1.1\n", take(t, "T", "id"))
			one.Repeat = &macro.Repeat{While: q, Every: time.Second, Timeout: 20 * time.Second}
			m := &macro.Macro{Name: "m", Steps: []macro.Step{one}}
			env := s.env(nil)
			var waits []time.Duration
			env.Wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
			result, err := m.Run(t.Context(), env)
			var e *macro.StepError
			if (err == nil) != (c.kind == 0) || errors.As(err, &e) && e.Kind != c.kind || err == nil && result.Values["T"] != "t" {
				t.Errorf("Run gave %v, %v", result, err)
			}
			if diff := cmp.Diff(c.waits, waits); diff != "" {
				t.Errorf("waits (-want +got):\n%s", diff)
			}
			if len(s.sent) != len(c.answers) {
				t.Errorf("%d requests, want %d", len(s.sent), len(c.answers))
			}
		})
	}
}
