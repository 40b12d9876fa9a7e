package h2_test

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// cutOff is a writer to a peer that has closed.
type cutOff struct{ err error }

func (w cutOff) Write([]byte) (int, error) { return 0, w.err }

// A peer that refuses says so and closes, often before everything is written.
// That the write fails must not hide what it said.
func TestAFailedWriteWaitsForThePeersLastWords(t *testing.T) {
	broken := errors.New("broken pipe")
	said, peer := io.Pipe()
	c := h2.New(said, cutOff{broken}, h2.Config{Client: true})
	done := make(chan error, 1)
	c.Start(true)
	s, err := c.Open(head(":method= GET", ":scheme= http", ":path= /", ":authority= a"), true)
	if err != nil {
		t.Fatal(err)
	}
	s.Flush()
	if _, open := c.Room(); open {
		t.Error("a connection that cannot be written to takes another stream")
	}
	go func() { done <- c.Run() }()
	framer := http2.NewFramer(peer, nil)
	framer.WriteSettings()
	framer.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, []byte("slower"))
	peer.Close()
	_, err = s.Head()
	var why *h2.ConnError
	if !errors.As(err, &why) || why.Reason != "slower" {
		t.Errorf("the stream ended with %v, want what the peer said", err)
	}
	s.Done()
	<-done
}

func TestAFailedWriteEndsTheConnectionWhenNothingFollows(t *testing.T) {
	broken := errors.New("broken pipe")
	said, peer := io.Pipe()
	c := h2.New(said, cutOff{broken}, h2.Config{Client: true})
	done := make(chan error, 1)
	c.Start(true)
	s, err := c.Open(head(":method= POST", ":scheme= http", ":path= /", ":authority= a"), false)
	if err != nil {
		t.Fatal(err)
	}
	s.Flush()
	go func() { done <- c.Run() }()
	sent := make(chan error, 1)
	go func() { sent <- s.Write([]byte("more"), true) }()
	for err = nil; err == nil; {
		err = c.Look()
	}
	if err != broken {
		t.Errorf("the look says %v, want %v", err, broken)
	}
	if err := <-sent; !errors.Is(err, broken) {
		t.Errorf("a sender ended with %v, want %v", err, broken)
	}
	if _, err := s.Head(); !errors.Is(err, broken) {
		t.Errorf("the stream ended with %v, want %v", err, broken)
	}
	s.Done()
	peer.Close()
	<-done
}
