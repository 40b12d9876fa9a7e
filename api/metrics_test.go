package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/api"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
)

// TestHistoryFigures has a history that is counted, and none that is not there.
func TestHistoryFigures(t *testing.T) {
	w := newWorld(t, settings{config: func(c *holdfast.Config, _ *api.Server) {
		c.Store = storetest.File(t).Open(t, store.Options{})
		c.History = holdfast.HistoryFull
	}})
	w.me()
	var figures string
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(figures, "holdfast_history_flows_waiting 0\n") || strings.Contains(figures, "holdfast_history_flows_written_total 0\n"); {
		if time.Now().After(end) {
			t.Fatalf("nothing was written: %s", figures)
		}
		figures = w.ask("GET", "/metrics", "").body
	}
	for _, want := range []string{"holdfast_history_flows_dropped_total 0\n", "holdfast_history_bodies_dropped_total 0\n", "holdfast_history_waiting_bytes ", "holdfast_history_failing 0\n",
		`holdfast_store_commit_seconds_bucket{kind="history",le="0.0005"} `, `holdfast_store_commit_seconds_count{kind="state"} `} {
		if !strings.Contains(figures, want) {
			t.Errorf("no %s in %s", want, figures)
		}
	}
	if strings.Contains(figures, `holdfast_store_commit_seconds_count{kind="history"} 0`) {
		t.Error("the history's transactions are not counted")
	}
	if figures := newWorld(t, settings{}).ask("GET", "/metrics", "").body; strings.Contains(figures, "holdfast_history") || strings.Contains(figures, "holdfast_store") {
		t.Error("a history that is not there has figures")
	}
}
