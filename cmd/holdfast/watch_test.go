package main

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
)

// onWrite is a writer that does something with the first thing that is said.
type onWrite struct {
	once sync.Once
	do   func()
}

func (w *onWrite) Write(p []byte) (int, error) {
	w.once.Do(w.do)
	return len(p), nil
}

// A file that changes while its last change is taken is read once more.
func TestWatchMissesNoChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	write("variables: {SAYS: one}\n")
	first, _, err := config.Load(file, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := holdfast.New(holdfast.Config{File: first, Home: t.TempDir(), Listen: []holdfast.Listen{{Address: "127.0.0.1:0"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	cmd := &cobra.Command{}
	cmd.SetErr(&onWrite{do: func() { write("variables: {SAYS: three, MORE: x}\n") }}) // told between reading it and having it hold
	o := &options{file: file, watch: true}
	done := o.onHangup(t.Context(), cmd, h)
	defer done()
	write("variables: {SAYS: two, ODD: \"{{A}}\"}\n") // of which something is told
	for late := time.Now().Add(time.Minute); h.File().Variables["SAYS"] != "three"; {
		if time.Now().After(late) {
			t.Fatalf("%q holds", h.File().Variables["SAYS"])
		}
		<-time.After(10 * time.Millisecond)
	}
}
