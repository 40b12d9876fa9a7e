package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast"
)

// screen tells when a question stands on it.
type screen struct {
	mu    sync.Mutex
	text  strings.Builder
	asked chan string
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	s.text.Write(p)
	s.mu.Unlock()
	if strings.HasPrefix(string(p), "(within") {
		s.asked <- string(p)
	}
	return len(p), nil
}

func TestAskOnATerminal(t *testing.T) {
	keyboard, typed := io.Pipe()
	s := &screen{asked: make(chan string)}
	a := newAsker(keyboard, s)
	if answer, err := a.ask(t.Context(), holdfast.Question{Macro: "m", Text: "only to be seen"}); answer != "" || err != nil {
		t.Errorf("telling gave %q, %v", answer, err)
	}
	// Questions come one at a time, and each has its own answer.
	answers := make(chan string)
	for range 2 {
		go func() {
			answer, err := a.ask(context.Background(), holdfast.Question{Identity: "alice", Macro: "m", Text: "the code?", Answer: true})
			answers <- fmt.Sprint(answer, err)
		}()
	}
	for i := range 2 {
		<-s.asked
		fmt.Fprintf(typed, "code%d\n", i)
		if got, want := <-answers, fmt.Sprintf("code%d<nil>", i); got != want {
			t.Errorf("the answer is %q, want %q", got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	late := make(chan error)
	go func() {
		_, err := a.ask(ctx, holdfast.Question{Macro: "m", Text: "?", Answer: true})
		late <- err
	}()
	<-s.asked
	cancel()
	if err := <-late; !errors.Is(err, context.Canceled) {
		t.Errorf("a question that is over gave %v", err)
	}
	if !strings.Contains(s.text.String(), "holdfast: alice, macro m: the code?") {
		t.Errorf("on the screen: %q", s.text.String())
	}
	typed.Close()
	go func() {
		_, err := a.ask(context.Background(), holdfast.Question{Macro: "m", Text: "?", Answer: true})
		late <- err
	}()
	for done := false; !done; {
		select {
		case <-s.asked:
		case err := <-late:
			if done = true; !errors.Is(err, io.EOF) {
				t.Errorf("without a keyboard: %v", err)
			}
		}
	}
}
