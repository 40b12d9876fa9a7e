package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/h2"
)

// A leaving is how an end goes away.
type leaving int

const (
	byFin  leaving = iota // with TLS behind close_notify
	byBare                // with TLS without close_notify: what was said may not be all
	byRst
)

// A cut is one exchange, or several at once, in which somebody leaves or says
// that a stream has ended. Beyond the length of what is said nobody leaves.
type cut struct {
	name           string
	client, origin int // versions of HTTP
	secure         bool
	kept           bool   // the origin has answered before on the connection
	keys           string // what is asked for at once, a letter each: see answersOf
	sends, reads   int    // so many bytes, and the client leaves
	takes, gives   int    // so many bytes, and the origin leaves
	sealed         bool   // gives counts bytes of TLS, a record for each frame
	how            leaving
	asks, answers  []said // by HTTP/2
	each           bool   // the origin answers each request when it is whole, not all together
	must           string // these are answered whole
	given          string // the client gives this one up
	unprocessed    bool   // the origin says of some that it did not process them

	number int
	came   *cutOrigin
	got    map[string]*outcome
}

// said is one frame of a script.
type said struct {
	key   string
	end   bool // of the stream
	write func(fr *http2.Framer, id uint32)
}

func saysHead(key string, end bool, fields ...string) said {
	return said{key, end, func(fr *http2.Framer, id uint32) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end, BlockFragment: block2(fields...)})
	}}
}

func saysData(key string, end bool, text string) said {
	return said{key, end, func(fr *http2.Framer, id uint32) { fr.WriteData(id, end, []byte(text)) }}
}

func saysReset(key string, code http2.ErrCode) said {
	return said{key, true, func(fr *http2.Framer, id uint32) { fr.WriteRSTStream(id, code) }}
}

// answersOf are honest answers, interwoven: one with everything, one that is
// counted, one without a body.
func answersOf(keys string) (list []said) {
	for _, s := range []said{
		saysHead("a", false, ":status", "103", "link", "x"),
		saysHead("a", false, ":status", "200"),
		saysData("a", false, "an"),
		saysHead("b", false, ":status", "200", "content-length", "5"),
		saysHead("c", true, ":status", "204"),
		saysData("a", false, "swer"),
		saysData("b", true, "hello"),
		saysHead("a", true, "x-sum", "6"),
	} {
		if strings.Contains(keys, s.key) {
			list = append(list, s)
		}
	}
	return list
}

// requestsOf are the requests for them.
func requestsOf(number int, keys string) (list []said) {
	head := func(key, method string, end bool) said {
		return saysHead(key, end, ":method", method, ":scheme", "http", ":path", cutPath(number, key), ":authority", "x")
	}
	for _, s := range []said{
		head("a", "POST", false), saysData("a", false, "hel"), head("b", "GET", true),
		saysData("a", false, "lo"), head("c", "GET", true), head("d", "GET", true), saysHead("a", true, "x-sum", "5"),
	} {
		if strings.Contains(keys, s.key) {
			list = append(list, s)
		}
	}
	return list
}

// request1 is a request by HTTP/1.
func request1(number int, key string) string {
	if key == "a" {
		return "POST " + cutPath(number, key) + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"
	}
	return "GET " + cutPath(number, key) + " HTTP/1.1\r\nHost: x\r\n\r\n"
}

// answer1 is an honest answer by HTTP/1. That to d lasts until the connection ends.
func answer1(key string) string {
	switch key {
	case "a":
		return "HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nan\r\n4\r\nswer\r\n0\r\nx-sum: 6\r\n\r\n"
	case "b":
		return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	case "c":
		return "HTTP/1.1 204 No Content\r\n\r\n"
	case "d":
		return "HTTP/1.1 200 OK\r\n\r\nuntil"
	}
	return "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"
}

// honest is what the answer holds when it is whole.
func honest(key string) (status int, body, trailer string) {
	switch key {
	case "a":
		return 200, "answer", "6"
	case "b":
		return 200, "hello", ""
	case "c":
		return 204, "", ""
	case "d":
		return 200, "until", ""
	}
	return 200, "well", ""
}

func cutPath(number int, key string) string { return fmt.Sprintf("/%04d/%s", number, key) }

// script puts frames together. ends are where each ends.
func script(list []said, ids map[string]uint32) (raw []byte, ends []int) {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	for _, s := range list {
		s.write(fr, ids[s.key])
		ends = append(ends, b.Len())
	}
	return b.Bytes(), ends
}

// places are where to cut frames: between two, at each byte of a frame's
// header, and inside its payload at both ends. Between these it is the same: a
// frame counts when it is whole.
func places(ends []int) (list []int) {
	start := 0
	for _, end := range ends {
		for at := start; at < min(start+11, end-1); at++ {
			list = append(list, at)
		}
		list = append(list, end-1)
		start = end
	}
	return list
}

// part leaves. Unread bytes would make a reset of a farewell, so they are read.
func part(conn net.Conn, how leaving, rest io.Reader) {
	raw := conn
	if secured, ok := conn.(*tls.Conn); ok {
		raw = secured.NetConn()
		if how == byFin {
			secured.CloseWrite()
		}
	}
	if s, ok := raw.(*scissors); ok {
		raw = s.Conn
	}
	tcp := raw.(*net.TCPConn)
	if how == byRst {
		tcp.SetLinger(0)
	} else {
		tcp.CloseWrite()
		if rest != nil {
			io.Copy(io.Discard, rest)
		}
	}
	tcp.Close()
}

// scissors let so many more bytes through and end the connection then.
type scissors struct {
	net.Conn
	armed atomic.Bool
	left  int
	how   leaving
}

func (s *scissors) Write(p []byte) (int, error) {
	if !s.armed.Load() || len(p) <= s.left {
		if s.armed.Load() {
			s.left -= len(p)
		}
		return s.Conn.Write(p)
	}
	s.Conn.Write(p[:s.left])
	s.left = 0
	part(s.Conn, s.how, nil)
	return 0, errCut
}

var errCut = errors.New("cut")

// An outcome is what a client learned of one of its requests.
type outcome struct {
	status  int
	own     bool // the proxy's own answer
	body    string
	trailer string
	ended   bool   // the answer says that it is whole
	broken  string // how the client learned that it is not
}

func (o *outcome) isWhole(key string) bool {
	status, body, trailer := honest(key)
	return o.ended && !o.own && o.status == status && o.body == body && o.trailer == trailer
}

// fault is what is wrong with an outcome, whoever left.
func (o *outcome) fault(c *cut, key string) string {
	status, body, _ := honest(key)
	switch {
	case o.status == 0 && o.ended, o.ended && o.broken != "":
		return "impossible"
	case o.own && o.status < 500 && c.sends == stays: // a request that is cut is the client's fault
		return "the proxy blames the client"
	case o.own, o.status == 0, o.isWhole(key):
		return ""
	case o.status != status || !strings.HasPrefix(body, o.body):
		return "not what the origin said"
	case o.ended && !(key == "d" && c.how == byFin && c.gives < stays):
		return "taken for whole"
	}
	return ""
}

// A cutting runs cuts against one proxy.
type cutting struct {
	t       *testing.T
	w       *world
	mu      sync.Mutex
	ends    map[flow.ID]int
	retries map[string]int // by path
	all     []*cut
	origins sync.WaitGroup
	open    []net.Listener // until the end: a free port goes to the next origin, with what still comes for this one
}

func newCutting(t *testing.T) *cutting {
	k := &cutting{t: t, ends: map[flow.ID]int{}, retries: map[string]int{}}
	k.w = newWorld2(t, proxy.Config{Limits: proxy.Limits{HalfClosed: short, Linger: time.Second}},
		upstream.Config{Limits: upstream.Limits{Idle: time.Second}}, func(next flow.Handler) flow.Handler {
			return func(ctx context.Context, f *flow.Flow) error {
				id := f.ID
				f.OnEnd(func(f *flow.Flow) {
					k.mu.Lock()
					defer k.mu.Unlock()
					k.ends[id]++
					for _, e := range f.Trace.Events {
						if e.Action == flow.ActionRetry {
							k.retries[string(f.Received.Path())]++
						}
					}
				})
				return next(ctx, f)
			}
		})
	return k
}

func (k *cutting) add(c cut) {
	c.number = len(k.all)
	if c.asks == nil {
		c.asks = requestsOf(c.number, c.keys)
	}
	if c.answers == nil {
		c.answers = answersOf(c.keys)
	}
	k.all = append(k.all, &c)
}

// run plays all cuts and judges them when nothing moves any more.
func (k *cutting) run() {
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, c := range k.all {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			k.play(c)
		})
	}
	group.Wait()
	eventually(k.t, "every flow ends", func() bool { return k.w.begun.Load() == k.w.over.Load() })
	k.w.server.Close()
	k.w.pool.Close()
	for _, ln := range k.open {
		ln.Close()
	}
	k.origins.Wait()
	for id, n := range k.ends {
		if n != 1 {
			k.t.Errorf("flow %v ended %d times", id, n)
		}
	}
	for _, c := range k.all {
		k.judge(c)
	}
}

func (k *cutting) judge(c *cut) {
	came, whole, open := c.came.read(k.t)
	for _, r := range c.keys {
		key := string(r)
		path := cutPath(c.number, key)
		allowed := 1
		if key != "a" || c.unprocessed { // a POST may not come twice, whatever the trace says
			allowed += k.retries[path]
		}
		if came[path] > allowed {
			k.t.Errorf("%v: %s came %d times, %d allowed", c, path, came[path], allowed)
		}
		if key == c.given && open[path] > 0 {
			k.t.Errorf("%v: the origin was not told that %s was given up", c, path)
		}
		if whole[path] > 0 && key == "a" && c.sends < stays {
			k.t.Errorf("%v: the origin took for whole what was not", c)
		}
	}
}

func (c *cut) String() string {
	return fmt.Sprintf("%s: HTTP/%d to HTTP/%d, TLS %v, kept %v, client %d %d, origin %d %d, leaving %d",
		c.name, c.client, c.origin, c.secure, c.kept, c.sends, c.reads, c.takes, c.gives, c.how)
}

// play is one cut with an origin of its own; and a client before and behind it.
func (k *cutting) play(c *cut) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Error(err)
		return
	}
	o := &cutOrigin{k: k, c: c, takes: c.takes}
	c.came = o
	o.serve(ln)
	k.mu.Lock()
	k.open = append(k.open, ln)
	k.mu.Unlock()
	at := authorityOf(ln)
	if c.kept {
		k.visit(c, at, "before")
	}
	o.armed.Store(true)
	conn := k.dial(c, at)
	if conn == nil {
		return
	}
	defer conn.Close()
	if c.client == 1 {
		c.got = k.client1(c, conn)
	} else {
		c.got = k.client2(c, conn)
	}
	left := c.sends < stays || c.reads < stays
	for _, r := range c.keys {
		got := c.got[string(r)]
		if why := got.fault(c, string(r)); why != "" {
			k.t.Errorf("%v: %s: %s: %+v", c, string(r), why, *got)
		} else if !left && !got.ended && (got.broken == "" || got.status == 0) && string(r) != c.given {
			k.t.Errorf("%v: %s: not told: %+v", c, string(r), *got)
		} else if strings.ContainsRune(c.must, r) && !got.isWhole(string(r)) {
			k.t.Errorf("%v: %s must be whole: %+v", c, string(r), *got)
		}
	}
	k.visit(c, at, "behind")
}

// dial is a client's way to the origin.
func (k *cutting) dial(c *cut, at string) net.Conn {
	conn, err := net.Dial("tcp", k.w.addr)
	if err != nil {
		k.t.Error(err)
		return nil
	}
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "CONNECT "+at+" HTTP/1.1\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200 Connection established\r\n\r\n"))); err != nil {
		k.t.Errorf("%v: %v", c, err)
		return nil
	}
	if !c.secure {
		return conn
	}
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{[]string{"http/1.1", "h2"}[c.client-1]}})
	if err := secured.Handshake(); err != nil {
		k.t.Errorf("%v: %v", c, err)
		return nil
	}
	return secured
}

// visit is another client, who is served well.
func (k *cutting) visit(c *cut, at, when string) {
	conn := k.dial(c, at)
	if conn == nil {
		return
	}
	defer conn.Close()
	path := cutPath(c.number, when)
	var got *outcome
	if c.client == 1 {
		io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		got = observe1(conn)
	} else {
		raw, _ := script([]said{saysHead("", true, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "x")}, map[string]uint32{"": 1})
		conn.Write(append(greeting2(), raw...))
		got = observe2(conn, 1)[1]
	}
	if got == nil || !got.isWhole("") {
		k.t.Errorf("%v: the client %s it: %+v", c, when, got)
	}
}

func greeting2() []byte {
	var b bytes.Buffer
	b.WriteString(h2.Preface)
	fr := http2.NewFramer(&b, nil)
	fr.WriteSettings()
	fr.WriteSettingsAck()
	return b.Bytes()
}

func (k *cutting) client1(c *cut, conn net.Conn) map[string]*outcome {
	text := request1(c.number, c.keys)
	io.WriteString(conn, text[:min(c.sends, len(text))])
	return map[string]*outcome{c.keys: k.await(c, conn, func(r io.Reader) { c.got = map[string]*outcome{c.keys: observe1(r)} })[c.keys]}
}

func (k *cutting) client2(c *cut, conn net.Conn) map[string]*outcome {
	ids := map[string]uint32{}
	for _, s := range c.asks {
		if ids[s.key] == 0 {
			ids[s.key] = uint32(2*len(ids) + 1)
		}
	}
	raw, _ := script(c.asks, ids)
	raw = append(greeting2(), raw...)
	conn.Write(raw[:min(c.sends, len(raw))])
	return k.await(c, conn, func(r io.Reader) {
		c.got = map[string]*outcome{}
		var awaited []uint32
		for key, id := range ids {
			if key != c.given {
				awaited = append(awaited, id)
			}
		}
		list := observe2(r, awaited...)
		for key, id := range ids {
			c.got[key] = list[id]
		}
	})
}

// await has the client read as much as it is to, and leave.
func (k *cutting) await(c *cut, conn net.Conn, observe func(io.Reader)) map[string]*outcome {
	if c.sends < stays && c.how == byRst {
		part(conn, c.how, nil)
		observe(strings.NewReader(""))
	} else if c.sends < stays {
		r, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			observe(r)
			io.Copy(io.Discard, r)
		}()
		part(conn, c.how, io.TeeReader(conn, w))
		w.Close()
		<-done
	} else {
		observe(io.LimitReader(conn, int64(c.reads)))
		if c.reads < stays {
			part(conn, c.how, nil)
		}
	}
	for _, key := range strings.Split(c.keys, "") {
		if c.got[key] == nil {
			c.got[key] = &outcome{}
		}
	}
	return c.got
}

// observe1 reads one answer by HTTP/1.
func observe1(from io.Reader) *outcome {
	var o outcome
	r := wire.NewReader(from, wire.Limits{})
	var head wire.Response
	for {
		if err := r.ReadResponse(&head); err != nil {
			o.broken = err.Error()
			return &o
		}
		if head.Status() >= 200 {
			break
		}
	}
	o.status, o.own = head.Status(), head.Has("Proxy-Status")
	framing, err := wire.ResponseFraming(&head, []byte("GET"))
	if err != nil {
		o.broken = err.Error()
		return &o
	}
	if framing.Kind == wire.None {
		o.ended = true
		return &o
	}
	payload := wire.Payload(r.Body(framing))
	for err == nil {
		var piece []byte
		piece, err = payload.Next()
		o.body += string(piece)
	}
	if o.ended = err == io.EOF; !o.ended {
		o.broken = err.Error()
	} else if t := payload.Trailers(); len(t) > 0 {
		o.trailer = strings.TrimSpace(strings.TrimPrefix(string(t), "x-sum: "))
	}
	return &o
}

// observe2 reads the answers by HTTP/2 to the end of these streams.
func observe2(from io.Reader, awaited ...uint32) map[uint32]*outcome {
	all := map[uint32]*outcome{}
	fr := http2.NewFramer(io.Discard, from)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	waits := func(id uint32) bool { return all[id] == nil || !all[id].ended && all[id].broken == "" }
	for slices.ContainsFunc(awaited, waits) {
		f, err := fr.ReadFrame()
		if err != nil {
			for _, id := range awaited {
				if all[id] == nil {
					all[id] = new(outcome)
				}
			}
			for _, o := range all {
				if !o.ended && o.broken == "" {
					o.broken = err.Error()
				}
			}
			return all
		}
		id := f.Header().StreamID
		if id == 0 {
			continue
		}
		o := all[id]
		if o == nil {
			o = new(outcome)
			all[id] = o
		}
		ended := false
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			status := 0
			fmt.Sscan(f.PseudoValue("status"), &status)
			switch {
			case status == 0:
				o.trailer = f.Fields[0].Value
			case status >= 200:
				o.status = status
			}
			for _, field := range f.RegularFields() {
				o.own = o.own || field.Name == "proxy-status"
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			o.body += string(f.Data())
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			if !o.ended {
				o.broken = f.ErrCode.String()
			}
		}
		o.ended = o.ended || ended
	}
	return all
}
