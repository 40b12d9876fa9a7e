package main

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// TestFollowSeesAllWriters has two write into one project by turns: what is
// written later has not always the higher ID.
func TestFollowSeesAllWriters(t *testing.T) {
	dir := t.TempDir()
	dsn := filepath.Join(dir, "project.db")
	key, err := store.Key(dir)
	if err != nil {
		t.Fatal(err)
	}
	writer := func() func(path string) {
		s, err := store.Open(t.Context(), store.Options{DSN: dsn, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		h, err := s.StartHistory(store.HistoryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return func(path string) {
			t.Helper()
			request, err := wire.ParseRequest([]byte("GET " + path + " HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			f := &flow.Flow{Tool: "proxy", Origin: flow.Origin{Host: "shop.example", Port: 80}, Start: time.Now(), Received: request, Request: request}
			f.End(f.Start, nil)
			h.Record(&store.Exchange{Flow: f}, 0)
			if err := h.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	one, other := writer(), writer()
	one("/1")
	other("/2")
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	out, in := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		code := execute(ctx, []string{"flow", "list", "--follow", "--json", "--home", dir, "--store", dsn, "--query", `req.path.ne:"/hidden"`}, terminal{strings.NewReader(""), in, io.Discard})
		in.Close()
		ended <- code
	}()
	defer out.Close()
	lines := bufio.NewScanner(out)
	next := func(path string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), `"url":"http://shop.example`+path+`"`) {
			t.Fatalf("the next line is %q; want %s (%v)", lines.Text(), path, lines.Err())
		}
	}
	next("/1")
	next("/2")
	for _, path := range []string{"/3", "/4", "/5"} {
		one("/hidden")
		one(path) // below what the other has written
		next(path)
		other(path + "/other")
		next(path + "/other")
	}
	stop()
	if lines.Scan() {
		t.Errorf("there is one more: %s", lines.Text())
	}
	if code := <-ended; code != 0 {
		t.Errorf("it ended with %d", code)
	}
}
