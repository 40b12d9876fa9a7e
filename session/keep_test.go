package session_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-proxy/holdfast/session"
	"github.com/holdfast-proxy/holdfast/wire"
)

func TestAKeptBodyIsReadTwice(t *testing.T) {
	text := strings.Repeat("0123456789", 30)
	for name, limits := range map[string]session.Limits{
		"in memory": {}, "in memory, then a file": {MemoryBody: 25}, "in a file": {MemoryBody: 1},
	} {
		source := newStream()
		for i := 0; i < len(text); i += 10 {
			source.push(text[i : i+10])
		}
		source.end(io.EOF)
		k := session.Keep(source, limits)
		r := k.Reader()
		for range 3 {
			if got, err := readAll(r); string(got) != text || err != nil {
				t.Errorf("%s: read %d bytes, %v", name, len(got), err)
			}
			var why string
			if r, why = k.Again(); r == nil {
				t.Fatalf("%s: not again: %s", name, why)
			}
		}
		if k.Spooled() != (limits.MemoryBody > 0) {
			t.Errorf("%s: spooled %v", name, k.Spooled())
		}
		k.Release()
		if _, err := readAll(r); err == nil || err == io.EOF {
			t.Errorf("%s: read after the release: %v", name, err)
		}
	}
}

func TestABodyOfAKnownLengthIsKeptInOnePiece(t *testing.T) {
	raw := []byte("all of it")
	k := session.Keep(wire.BytesBody(wire.Framing{Kind: wire.Length, Length: int64(len(raw))}, raw), session.Limits{})
	defer k.Release()
	r := k.Reader()
	if f := r.Framing(); f.Kind != wire.Length || f.Length != int64(len(raw)) {
		t.Errorf("framing %+v", f)
	}
	if got, err := readAll(r); string(got) != "all of it" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	k = session.Keep(wire.BytesBody(wire.Framing{Kind: wire.Length, Length: 100}, nil), session.Limits{ResendBody: 99})
	if r, why := k.Again(); r != nil || !strings.Contains(why, "limits.resend_body") {
		t.Errorf("a body that says it is too long: %v, %q", r, why)
	}
}

func TestABodyThatBreaksOffIsNotSentAgain(t *testing.T) {
	source := newStream("half")
	source.end(errScript)
	k := session.Keep(source, session.Limits{})
	defer k.Release()
	if got, err := readAll(k.Reader()); string(got) != "half" || !errors.Is(err, errScript) {
		t.Errorf("%q, %v", got, err)
	}
	if r, why := k.Again(); r != nil || !strings.Contains(why, "broke off") {
		t.Errorf("again: %v, %q", r, why)
	}
}

// A slow client: each reader waits for what is not there yet, and can be given
// up while it waits.
func TestReadersOfASlowClient(t *testing.T) {
	source := newStream("one ")
	k := session.Keep(source, session.Limits{})
	defer k.Release()
	type got struct {
		raw []byte
		err error
	}
	read := func(r wire.Body) chan got {
		c := make(chan got, 1)
		go func() { raw, err := readAll(r); c <- got{raw, err} }()
		return c
	}
	given := k.Reader()
	stays, _ := k.Again()
	first, second := read(given), read(stays)
	given.Close()
	if g := <-first; g.err == nil {
		t.Errorf("a reader that was closed while it waited got %q", g.raw)
	}
	source.push("two ")
	source.push("three")
	source.end(io.EOF)
	if g := <-second; string(g.raw) != "one two three" || g.err != nil {
		t.Errorf("the other reader got %q, %v", g.raw, g.err)
	}
	if w, _ := k.Again(); !w.(interface{ Ready() bool }).Ready() {
		t.Error("a body that is kept whole is not ready")
	}
}

// The first sending may still be copying when the second one begins. Beyond
// the limit a piece exists once, and it belongs to the newest sending.
func TestBeyondTheLimitTheNewestReaderGetsEverything(t *testing.T) {
	source := newStream("0123456789")
	k := session.Keep(source, session.Limits{ResendBody: 15})
	defer k.Release()
	old := k.Reader()
	if piece, err := old.Next(); string(piece) != "0123456789" || err != nil {
		t.Fatal(string(piece), err)
	}
	late, why := k.Again()
	if late == nil {
		t.Fatal(why)
	}
	for _, p := range []string{"abcdefghij", "ABCDEFGHIJ"} {
		source.push(p)
	}
	source.end(io.EOF)
	if piece, err := old.Next(); len(piece) > 0 || err == nil || err == io.EOF {
		t.Errorf("the reader of the sending before got %q, %v; want an error", piece, err)
	}
	if got, err := readAll(late); string(got) != "0123456789abcdefghijABCDEFGHIJ" || err != nil {
		t.Errorf("the newest reader got %q, %v", got, err)
	}
	if r, why := k.Again(); r != nil || !strings.Contains(why, "limits.resend_body") {
		t.Errorf("again: %v, %q", r, why)
	}
}

// Readers at random places, given up at random times: whoever says that it has
// read to the end has read exactly what the client sent.
func TestRandomReadersReadWhatWasSent(t *testing.T) {
	for seed := range uint64(150) {
		random := rand.New(rand.NewPCG(seed, 1))
		var whole bytes.Buffer
		source := newStream()
		limits := session.Limits{MemoryBody: 1 + random.Int64N(64), ResendBody: 64 + random.Int64N(256)}
		k := session.Keep(source, limits)
		pieces := make([]string, random.IntN(30))
		for i := range pieces {
			pieces[i] = strings.Repeat(string(rune('a'+i%26)), 1+random.IntN(20))
			whole.WriteString(pieces[i])
		}
		var group sync.WaitGroup
		group.Go(func() {
			for _, p := range pieces {
				source.push(p)
			}
			source.end(io.EOF)
		})
		var readers []*randomReader
		for r := k.Reader(); r != nil; {
			one := &randomReader{Body: r, closeAt: random.IntN(40)}
			readers = append(readers, one)
			group.Go(one.run)
			for range random.IntN(4) {
				runtime.Gosched()
			}
			if len(readers) == 3 {
				break
			}
			r, _ = k.Again()
		}
		group.Wait()
		for i, r := range readers {
			newest := i == len(readers)-1 && !r.closed
			if (r.err == io.EOF || newest) && !bytes.Equal(r.got, whole.Bytes()) {
				t.Errorf("seed %d: reader %d of %d ended with %v after %d bytes of %d", seed, i, len(readers), r.err, len(r.got), whole.Len())
			}
		}
		k.Release()
	}
}

// randomReader gives up after some pieces.
type randomReader struct {
	wire.Body
	closeAt int
	closed  bool
	got     []byte
	err     error
}

func (r *randomReader) run() {
	for n := 0; r.err == nil; n++ {
		if n == r.closeAt {
			r.closed = true
			r.Close()
		}
		var piece []byte
		piece, r.err = r.Next()
		r.got = append(r.got, piece...)
	}
}
