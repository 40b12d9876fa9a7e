package proxy_test

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

func stayingCut(name string, client, origin int, keys string) cut {
	return cut{name: name, client: client, origin: origin, keys: keys, sends: stays, reads: stays, takes: stays, gives: stays}
}

// TestCutsOfHTTP2 has either end of HTTP/2 leave at each byte that makes a
// difference, by FIN and by RST, with three requests under way at once.
func TestCutsOfHTTP2(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		k := newCutting(t)
		for _, keys := range []string{"a", "b", "abc"} {
			asked, asks := script(requestsOf(0, keys), map[string]uint32{"a": 1, "b": 3, "c": 5})
			answered, answers := script(answersOf(keys), map[string]uint32{"a": 1, "b": 3, "c": 5})
			greeted := len(greeting2())
			for _, how := range []leaving{byFin, byRst} {
				c := stayingCut("client sends", 2, 2, keys)
				c.how, c.each = how, true
				for _, at := range append([]int{-greeted, -greeted + 1, -greeted + 14, -greeted + 24, -20, -9, -1}, places(asks)...) {
					c.sends = greeted + at
					k.add(c)
				}
				for _, kept := range []bool{false, true} {
					c = stayingCut("origin gives", 2, 2, keys)
					c.how, c.kept = how, kept
					for _, at := range append(places(answers), len(answered)) {
						c.gives, c.must = at, ""
						for i, s := range answersOf(keys) {
							if s.end && answers[i] <= at && how == byFin {
								c.must += s.key
							}
						}
						k.add(c)
					}
					c = stayingCut("origin takes", 2, 2, keys)
					c.how, c.kept = how, kept
					for at := 1; at < len(asked)+100; at += 3 { // the order of the proxy's first frames is not the same each time
						c.takes = at
						k.add(c)
					}
				}
				c = stayingCut("client reads", 2, 2, keys)
				c.how = how
				for at := 0; at < len(answered)+60; at += 2 { // as above
					c.reads = at
					k.add(c)
				}
			}
		}
		k.run()
	})
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

// TestResetsOfHTTP2 has either end reset one stream between any two frames: the
// others on the connection go on as if nothing had been.
func TestResetsOfHTTP2(t *testing.T) {
	k := newCutting(t)
	for _, key := range strings.Split("abc", "") {
		for _, code := range []http2.ErrCode{http2.ErrCodeInternal, http2.ErrCodeRefusedStream, http2.ErrCodeNo} {
			list := answersOf("abc")
			for at := range len(list) + 1 {
				c := stayingCut("origin resets "+key+" with "+code.String(), 2, 2, "abc")
				c.unprocessed = code == http2.ErrCodeRefusedStream
				c.answers, c.must = without(list, at, key, saysReset(key, code))
				k.add(c)
			}
		}
		for at := range len(requestsOf(0, "abc")) + 1 {
			list := requestsOf(len(k.all), "abc")
			began := false
			for _, s := range list[:at] {
				began = began || s.key == key
			}
			if !began {
				continue // RST_STREAM of an idle stream is the connection's end (RFC 9113 §5.1)
			}
			c := stayingCut("client resets "+key, 2, 2, "abc")
			c.each, c.given, c.must = true, key, strings.ReplaceAll("abc", key, "")
			c.asks, _ = without(list, at, key, saysReset(key, http2.ErrCodeCancel))
			k.add(c)
		}
	}
	k.run()
}

// without puts a frame between two of a list, behind which nothing of a key
// follows. whole are the keys that end before or are not concerned.
func without(list []said, at int, key string, more said) (out []said, whole string) {
	out = append(append(out, list[:at]...), more)
	for i, s := range list {
		if i >= at && s.key != key {
			out = append(out, s)
		}
		if s.end && (i < at || s.key != key) {
			whole += s.key
		}
	}
	return out, whole
}

// TestGoAwayBeforeACut has the origin announce its end between any two frames
// and leave later. What it will not process is sent again, elsewhere.
func TestGoAwayBeforeACut(t *testing.T) {
	k := newCutting(t)
	list := answersOf("abc")
	for at := range len(list) + 1 {
		for _, last := range []uint32{1, 1<<31 - 1} {
			for _, how := range []leaving{byFin, byRst} {
				c := stayingCut("GOAWAY", 2, 2, "abc")
				c.how, c.unprocessed = how, last == 1
				c.answers = append(append(append([]said(nil), list[:at]...), said{"", false, func(fr *http2.Framer, _ uint32) {
					fr.WriteGoAway(last, http2.ErrCodeNo, nil)
				}}), list[at:]...)
				answered, ends := script(c.answers, nil)
				for _, end := range append(ends[at:], len(answered)+1) {
					c.gives = end - 1 // within the frame, or not at all
					if end > len(answered) {
						c.gives = stays
					}
					k.add(c)
				}
			}
		}
	}
	k.run()
}

// TestCutsBetweenVersions has an end leave where one side speaks HTTP/1 and the
// other HTTP/2.
func TestCutsBetweenVersions(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		k := newCutting(t)
		for _, keys := range []string{"a", "bc", "cb", "d"} {
			text := answer1(keys[:1])
			_, asks := script(requestsOf(0, keys), map[string]uint32{"a": 1, "b": 3, "c": 5})
			for _, how := range []leaving{byFin, byRst} {
				for _, kept := range []bool{false, true} {
					c := stayingCut("origin gives", 2, 1, keys)
					c.how, c.kept = how, kept
					if len(keys) > 1 {
						c.must = keys[1:]
					}
					for at := range len(text) {
						c.gives = at
						k.add(c)
					}
				}
				c := stayingCut("client sends", 2, 1, keys)
				c.how = how
				for _, at := range places(asks) {
					c.sends = len(greeting2()) + at
					k.add(c)
				}
			}
		}
		for _, keys := range []string{"a", "b"} {
			_, answers := script(answersOf(keys), map[string]uint32{"a": 1, "b": 3, "c": 5})
			for i, how := range []leaving{byFin, byBare, byRst} {
				c := stayingCut("origin gives", 1, 2, keys)
				c.secure, c.how, c.kept = true, how, i%2 == 1
				for j, at := range places(answers) { // by TLS, so fewer: each of them is a few handshakes
					if j%3 == i {
						c.gives = at
						k.add(c)
					}
				}
				c = stayingCut("client sends", 1, 2, keys)
				c.secure, c.how = true, how
				for at := i; at < len(request1(0, keys)); at += 9 {
					c.sends = at
					k.add(c)
				}
			}
		}
		k.run()
	})
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

// TestCutsOfTLS has TLS end with and without its farewell between two frames,
// and within its records.
func TestCutsOfTLS(t *testing.T) {
	k := newCutting(t)
	answered, ends := script(answersOf("abc"), map[string]uint32{"a": 1, "b": 3, "c": 5})
	_, asks := script(requestsOf(0, "abc"), map[string]uint32{"a": 1, "b": 3, "c": 5})
	for _, how := range []leaving{byFin, byBare, byRst} {
		c := stayingCut("origin gives", 2, 2, "abc")
		c.secure, c.how = true, how
		for _, at := range append([]int{0}, ends...) {
			c.gives = min(at, len(answered)-1)
			k.add(c)
		}
		c = stayingCut("client sends", 2, 2, "abc")
		c.secure, c.how, c.each = true, how, true
		for _, at := range append([]int{0}, asks[:len(asks)-1]...) {
			c.sends = len(greeting2()) + at
			k.add(c)
		}
		if how == byFin {
			continue
		}
		c = stayingCut("a record of the origin", 2, 2, "abc")
		c.secure, c.sealed, c.how = true, true, how
		start := 0
		for i, end := range ends {
			record := 5 + end + 1 + 16 // RFC 8446 §5.2: header, payload, type, tag
			if i > 0 {
				record -= ends[i-1]
			}
			for _, at := range []int{1, 5, 6, record - 1} { // nothing of a record counts before its tag
				c.gives = start + at
				k.add(c)
			}
			start += record
		}
	}
	k.run()
}
