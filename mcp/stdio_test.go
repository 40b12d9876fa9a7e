package mcp_test

import (
	"context"
	"io"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/holdfast-proxy/holdfast/control"
	"github.com/holdfast-proxy/holdfast/mcp"
)

// TestClientGone has a run under way when its client goes away: without a word on
// a pair of streams, and when serve ends by HTTP.
func TestClientGone(t *testing.T) {
	w, _ := slow(t)
	caller, err := mcp.AtDesk(w.desk)
	if err != nil {
		t.Fatal(err)
	}
	server, err := mcp.New(mcp.Config{Caller: caller, Version: "test", Warn: func(text string) { t.Error(text) }})
	if err != nil {
		t.Fatal(err)
	}
	toServer, fromServer := pipe(), pipe()
	ended := make(chan error, 1)
	go func() { ended <- server.Run(context.Background(), toServer.r, fromServer.w) }()
	heard := make(chan struct{}, 100)
	client := sdk.NewClient(&sdk.Implementation{Name: "model", Version: "1"}, &sdk.ClientOptions{ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) { heard <- struct{}{} }})
	session, err := client.Connect(t.Context(), &sdk.IOTransport{Reader: fromServer.r, Writer: toServer.w}, nil)
	if err != nil {
		t.Fatal(err)
	}
	params := &sdk.CallToolParams{Name: "macros", Arguments: map[string]any{"action": "run_macro", "name": "slow", "wait": 900}}
	params.SetProgressToken("p1")
	called := make(chan error, 1)
	go func() {
		_, err := session.CallTool(t.Context(), params)
		called <- err
	}()
	for range 2 {
		select {
		case <-heard:
		case <-time.After(patience):
			t.Fatal("no progress")
		}
	}
	toServer.w.Close()
	fromServer.r.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
	<-called
	session.Close()

	// By HTTP, of a revision with sessions: serve ends while a call waits.
	m := w.connect(nil, true)
	go func() {
		m.CallTool(context.Background(), params)
		called <- nil
	}()
	var runs control.Page[control.Run]
	for began := time.Now(); len(runs.Items) < 2; {
		if m.done(&runs, "macros", map[string]any{"action": "list_runs"}); time.Since(began) > patience {
			t.Fatal("no second run")
		}
	}
	if first := runs.Items[0]; first.State != control.RunCancelled {
		t.Errorf("the run of the client that went away is %s", first.State)
	}
	over := make(chan struct{})
	go func() { w.end(); close(over) }()
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatal("serve does not end while a call waits")
	}
	<-called
}

type streams struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func pipe() streams {
	r, w := io.Pipe()
	return streams{r, w}
}
