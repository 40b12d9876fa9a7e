package holdfast_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// A cutter is an origin whose session can be ended, and which leaves within
// the first live answer after that.
type cutter struct {
	ln     net.Listener
	wg     sync.WaitGroup
	mu     sync.Mutex
	valid  string // the token
	gives  int    // bytes of the next live answer
	rst    bool   // how it leaves
	logins int
	asked  []string // statuses of what was answered by now, "cut" for the one it left in
}

const cutAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

func startCutter(t *testing.T) *cutter {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{ln: ln, gives: len(cutAnswer)}
	c.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(conn.(*net.TCPConn)) })
		}
	})
	return c
}

func (c *cutter) serve(conn *net.TCPConn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		text, last, rst := c.answer(req)
		if last && rst {
			conn.SetLinger(0)
		}
		io.WriteString(conn, text)
		if last {
			return
		}
	}
}

func (c *cutter) answer(req *http.Request) (text string, last, rst bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if req.URL.Path == "/api/login" {
		c.logins++
		c.valid = fmt.Sprintf("token%d", c.logins)
		body := `{"access_token":"` + c.valid + `"}`
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body), false, false
	}
	if c.valid == "" || !strings.HasSuffix(req.Header.Get("Authorization"), c.valid) {
		c.asked = append(c.asked, "401")
		return "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", false, false
	}
	text = cutAnswer[:c.gives]
	last, rst = c.gives < len(cutAnswer), c.rst
	c.gives = len(cutAnswer)
	if last {
		c.asked = append(c.asked, "cut")
	} else {
		c.asked = append(c.asked, "200")
	}
	return text, last, rst
}

// next ends the session, and says where the origin is to leave.
func (c *cutter) next(gives int, rst bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.valid, c.gives, c.rst, c.asked = "", gives, rst, nil
}

func (c *cutter) seen() (logins int, asked string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logins, strings.Join(c.asked, " ")
}

// TestAResendIsCutAnywhere: a dead answer costs one login, and when the origin
// leaves within the answer to the request that is then sent again, the client
// learns of that and nobody logs in once more. What the origin had kept open
// and closed before a byte came is sent again where that is harmless.
func TestAResendIsCutAnywhere(t *testing.T) {
	origin := startCutter(t)
	t.Cleanup(func() {
		origin.ln.Close()
		origin.wg.Wait()
	})
	w := &world{t: t, origin: &testenv.Server{URL: "http://" + origin.ln.Addr().String()}, home: t.TempDir()}
	w.start(seedRules)
	exchangeOnce(t, w.h.Addr(), "GET", w.origin.URL) // the first login
	for _, method := range []string{"GET", "POST"} {
		for _, rst := range []bool{false, true} {
			for gives := range len(cutAnswer) {
				where := fmt.Sprintf("%s, cut at %d, RST %v: ", method, gives, rst)
				before, _ := origin.seen()
				origin.next(gives, rst)
				got := exchangeOnce(t, w.h.Addr(), method, w.origin.URL)
				logins, asked := origin.seen()
				if logins != before+1 {
					t.Errorf("%s%d logins", where, logins-before)
				}
				again := gives == 0 && method == "GET"
				if asked != "401 cut" && !(again && asked == "401 cut 200") {
					t.Errorf("%sthe origin answered %s", where, asked)
				}
				own := strings.HasPrefix(got, "HTTP/1.1 502") && strings.Contains(got, "origin_broke_off")
				if !own && !(gives > 0 && got != "" && strings.HasPrefix(cutAnswer[:gives], got)) && !(again && got == cutAnswer) {
					t.Errorf("%sthe client was told %q", where, got)
				}
				if got := exchangeOnce(t, w.h.Addr(), "GET", w.origin.URL); got != cutAnswer {
					t.Errorf("%sthe next one was told %q", where, got)
				}
				if after, _ := origin.seen(); after != logins {
					t.Errorf("%sthe next one logged in", where)
				}
			}
		}
	}
}

// exchangeOnce is one request on a connection of its own, and all that comes.
func exchangeOnce(t *testing.T, proxy, method, url string) string {
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	length := ""
	if method == "POST" {
		length = "Content-Length: 4\r\n"
	}
	fmt.Fprintf(conn, "%s %s/api/items HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n%s", method, url, length, map[string]string{"POST": "body"}[method])
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the end of the answer %q: %v", raw, err)
	}
	return string(raw)
}
