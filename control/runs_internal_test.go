package control

import (
	"context"
	"strings"
	"testing"
)

func TestARunThatGoesWrongEndsAlone(t *testing.T) {
	events := NewEvents()
	listener := events.Listen()
	defer listener.Close()
	r := newRuns(events)
	defer r.close()
	run, err := r.start("learn", "", "", func(context.Context, *Run) error {
		var pages []string
		_ = pages[len(pages)]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-run.over
	found, err := r.find(run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if found.State != RunFailed || found.Error == nil || found.Error.Code != ReasonInternal {
		t.Errorf("the run ended as %s, %+v", found.State, found.Error)
	}
	for event := range listener.C {
		if event.Type != "warning" {
			continue
		}
		if !strings.Contains(string(event.Data), "internal error in learn") {
			t.Errorf("the warning is %s", event.Data)
		}
		return
	}
}
