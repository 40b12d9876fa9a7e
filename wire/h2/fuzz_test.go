package h2_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// scripted is a peer whose words are fixed; what it is told is counted.
type scripted struct {
	in  *bytes.Reader
	mu  sync.Mutex
	got bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *scripted) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

// watch ends the process with all stacks when an input takes too long.
func watch(t *testing.T) {
	timer := time.AfterFunc(patience, func() { panic("an input that hangs") })
	t.Cleanup(func() { timer.Stop() })
}

func seeds(f *testing.F, preface string) {
	for _, c := range append(append(append([]conform{}, frameCases...), messageCases...), hpackCases...) {
		if c.do == nil || strings.Contains(c.name, "closed") || c.section == "5.1.1" {
			continue
		}
		var b bytes.Buffer
		b.WriteString(preface)
		p := newPeer(f, nil)
		p.fr = http2.NewFramer(&b, nil)
		p.fr.AllowIllegalWrites = true
		p.fr.WriteSettings()
		c.do(p)
		f.Add(b.Bytes())
	}
}

// FuzzServer: whatever a client sends, Run ends with the input, every stream
// has ended when it does, and what a strict server hands out can be sent on.
func FuzzServer(f *testing.F) {
	seeds(f, h2.Preface)
	f.Fuzz(func(t *testing.T, data []byte) {
		watch(t)
		s := &scripted{in: bytes.NewReader(data)}
		var wg sync.WaitGroup
		c := h2.New(s, s, h2.Config{Limits: h2.Limits{Streams: 20, Message: wire.Limits{Head: 16 << 10}}, Accept: func(s *h2.Stream) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer s.Done()
				if _, _, err := h2.RequestTo1(s.Request(), s.Body() != nil); err == nil && s.Request().Has("transfer-encoding") {
					t.Error("Transfer-Encoding survived the conversion")
				}
				if b := s.Body(); b != nil {
					readAll(b)
				}
				s.WriteHead(head(":status= 200"), false)
				s.Write([]byte("x"), true)
				s.Flush()
			}()
		}})
		c.Start(false)
		err := c.Run()
		wg.Wait()
		if err == nil && s.in.Len() > 0 {
			t.Errorf("Run ended with %d bytes unread and no error", s.in.Len())
		}
		if n := c.Active(); n != 0 {
			t.Errorf("%d streams are open behind the end", n)
		}
	})
}

// FuzzClient is the same for what an origin sends.
func FuzzClient(f *testing.F) {
	seeds(f, "")
	f.Fuzz(func(t *testing.T, data []byte) {
		watch(t)
		s := &scripted{in: bytes.NewReader(data)}
		c := h2.New(s, s, h2.Config{Client: true, Limits: h2.Limits{Message: wire.Limits{Head: 16 << 10}}})
		c.Start(true)
		var wg sync.WaitGroup
		for range 3 {
			st, err := c.Open(head(":method= GET", ":scheme= https", ":path= /"), true)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer st.Done()
				for {
					r, err := st.Head()
					if err != nil {
						return
					}
					if _, _, err := h2.ResponseTo1(r, true, true); err != nil && r.Status() == 200 && len(text(&r.Head)) < 30 {
						return
					}
					if r.Status() >= 200 || r.Status() < 100 {
						break
					}
				}
				if b := st.Body(); b != nil {
					readAll(b)
				}
			})
		}
		c.Flush()
		c.Run()
		wg.Wait()
		if n := c.Active(); n != 0 {
			t.Errorf("%d streams are open behind the end", n)
		}
	})
}

// FuzzConvert: a request that is converted is one request, with as many bytes
// of body as it says.
func FuzzConvert(f *testing.F) {
	f.Add("GET", "/", "x", "a", "b", "body")
	f.Add("POST", "/\r\nX: y", "x", "content-length", "3", "abc")
	f.Add("POST", "/", "x\r\n", "transfer-encoding", "chunked", "0\r\n\r\n")
	f.Fuzz(func(t *testing.T, method, path, authority, name, value, body string) {
		r := &wire.Request{Head: *head(":method= "+method, ":scheme= http", ":path= "+path, ":authority= "+authority)}
		r.AppendField([]byte(name), []byte(value), 0)
		to, _, err := h2.RequestTo1(r, body != "")
		if err != nil {
			return
		}
		framing, err := wire.RequestFraming(to)
		if err != nil {
			return // refused one step later
		}
		raw := append([]byte(nil), to.Bytes()...)
		if body != "" {
			b := h2.BodyTo1(wire.BytesBody(wire.Framing{Kind: wire.Stream}, []byte(body)), framing)
			got, err := readAll(b)
			if err != nil {
				return
			}
			raw = append(raw, got...)
		} else if framing.Kind != wire.None && framing.Length > 0 {
			return // a strict server never hands that out
		}
		in := wire.NewReader(bytes.NewReader(raw), wire.Limits{})
		var again wire.Request
		if err := in.ReadRequest(&again); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		framing, err = wire.RequestFraming(&again)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if framing.Kind != wire.None {
			payload, err := readAll(wire.Payload(in.Body(framing)))
			if err != nil || payload != body {
				t.Fatalf("%q: the body is %q (%v), want %q", raw, payload, err, body)
			}
		}
		if err := in.ReadRequest(&again); err != io.EOF {
			t.Fatalf("%q: another request follows (%v)", raw, err)
		}
	})
}
