package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// socketRules keep a login for the WebSocket of the origin. CHECK is replaced.
const socketRules = `
macros:
  - name: login
    steps:
      - request: "POST {{ORIGIN}}/api/login HTTP/1.1\nContent-Type: application/json\n\n{\"username\":\"bob\",\"password\":\"bobpass\"}"
        extract: [{token_name: T, source: {type: JSON, path: access_token}}]
rules:
  - name: live
    scope: {pattern: "127.0.0.1"}
    validation: {CHECK}
    reauth_macro: login
    token_updates: [{token_name: T, target: {type: RequestHeader, name: Authorization}}]
`

func socketWorld(t *testing.T, o testenv.Origin, check string) *world {
	return newWorld(t, o, strings.Replace(socketRules, "CHECK", check, 1))
}

// open does the handshake of a real client, through CONNECT for wss and by an
// absolute target for ws.
func (w *world) open(ctx context.Context, path string, mode websocket.CompressionMode) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.origin.URL, "http")+path,
		&websocket.DialOptions{HTTPClient: w.client, CompressionMode: mode})
	return conn, err
}

// say sends a text and wants it back.
func say(ctx context.Context, conn *websocket.Conn, text string) error {
	if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return err
	}
	kind, got, err := conn.Read(ctx)
	if err != nil {
		return err
	}
	if kind != websocket.MessageText || string(got) != text {
		return fmt.Errorf("%d bytes came back as %v %.40q", len(text), kind, got)
	}
	return nil
}

func socketContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestAHandshakeIsKeptLoggedIn(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, dead := range []string{"401", "403", "302"} {
			t.Run(fmt.Sprintf("TLS %v, dead is %s", secure, dead), func(t *testing.T) {
				w := socketWorld(t, testenv.Origin{TLS: secure}, "check_type: {type: StatusCode, value: ["+dead+"]}")
				ctx := socketContext(t)
				const opens = 5
				for i := range opens {
					conn, err := w.open(ctx, "/ws?dead="+dead, websocket.CompressionDisabled)
					if err != nil {
						t.Fatalf("handshake %d: %v", i, err)
					}
					defer conn.CloseNow()
					if err := say(ctx, conn, "hello"); err != nil {
						t.Errorf("handshake %d: %v", i, err)
					}
					if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
						t.Errorf("closing: %v", err)
					}
					w.origin.KillAll() // behind the back: the next handshake is refused
				}
				if s := w.origin.Stats(); s.Logins != opens || s.DeadAnswers != opens-1 {
					t.Errorf("%d logins, %d dead answers; want %d and %d", s.Logins, s.DeadAnswers, opens, opens-1)
				}
				w.traced(dead + ": the answer is a dead session's")
			})
		}
	}
}

func TestCompressionAndLargeMessagesPassIntact(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover, websocket.CompressionNoContextTakeover} {
			w := socketWorld(t, testenv.Origin{TLS: secure}, "check_type: {type: StatusCode, value: [401]}")
			ctx := socketContext(t)
			conn, err := w.open(ctx, "/ws", mode)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetReadLimit(1 << 20)
			for _, text := range []string{"", "a", strings.Repeat("compress me ", 1000), strings.Repeat("Grüße ", 50_000)} {
				if err := say(ctx, conn, text); err != nil {
					t.Errorf("TLS %v, compression %v, %d bytes: %v", secure, mode, len(text), err)
				}
			}
			conn.CloseNow()
		}
	}
}

// The origin closes with 4401; nothing else says that the session has died.
func TestACloseCodeEndsTheSession(t *testing.T) {
	w := socketWorld(t, testenv.Origin{TLS: true}, "close_codes: [4401]")
	ctx := socketContext(t)
	const lives = 4
	for i := range lives {
		conn, err := w.open(ctx, "/ws?dead=open", websocket.CompressionDisabled)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		if err := say(ctx, conn, "hello"); err != nil {
			t.Fatalf("life %d: %v", i, err)
		}
		w.origin.KillAll()
		_, _, err = conn.Read(ctx)
		if websocket.CloseStatus(err) != testenv.CloseDead {
			t.Fatalf("life %d ended with %v; want the origin's own close", i, err)
		}
	}
	// The client has seen the close, so the session is known to be dead: the
	// next request has a new one before it is sent.
	if code, body := w.get("/api/items"); code != 200 || !strings.Contains(body, "bob") {
		t.Errorf("after the close: %d %s", code, body)
	}
	if s := w.origin.Stats(); s.Logins != lives+1 || s.DeadAnswers != 0 {
		t.Errorf("%d logins, %d dead answers; want %d and none", s.Logins, s.DeadAnswers, lives+1)
	}
	w.traced(fmt.Sprintf("close code 4401: the session is dead (generation %d)", lives))
}

// Every handshake succeeds, and every new session is closed at once: the login
// does not log in, and the lockout ends the attempts.
func TestSessionsThatAreClosedAtOnceEndInTheLockout(t *testing.T) {
	rules := strings.NewReplacer("CHECK", "close_codes: 4401", "/api/login", "/echo", "path: access_token", "path: method").Replace(socketRules)
	w := newWorld(t, testenv.Origin{}, rules) // the token is the word POST
	ctx := socketContext(t)
	opened, refused := 0, 0
	for range 6 {
		conn, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.origin.URL, "http")+"/ws?dead=open", &websocket.DialOptions{HTTPClient: w.client})
		if err != nil {
			if resp == nil || resp.StatusCode != http.StatusBadGateway {
				t.Fatalf("refused with %v, %v", resp, err)
			}
			refused++
			continue
		}
		opened++
		if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != testenv.CloseDead {
			t.Fatal(err)
		}
		conn.CloseNow()
	}
	if opened == 0 || opened > 3 || refused < 3 {
		t.Errorf("%d handshakes, %d refused; want no more than three logins that bring nothing", opened, refused)
	}
}

// Either end may close first, and the other side's last words still arrive.
func TestAClientThatGoesAwayLeavesNothingBehind(t *testing.T) {
	w := socketWorld(t, testenv.Origin{TLS: true}, "check_type: {type: StatusCode, value: [401]}")
	ctx := socketContext(t)
	var conns []*websocket.Conn
	for i := range 8 {
		conn, err := w.open(ctx, "/ws", websocket.CompressionDisabled)
		if err != nil {
			t.Fatal(err)
		}
		if err := say(ctx, conn, fmt.Sprint("socket ", i)); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns[:4] {
		conn.CloseNow()
	}
	if err := w.origin.Refuse(true); err != nil { // cuts the others off
		t.Fatal(err)
	}
	for _, conn := range conns[4:] {
		if _, _, err := conn.Read(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reading from an origin that is gone: %v", err)
		}
	}
}

// The trace says that something was said, and never what.
func TestTracedMessagesSayNothing(t *testing.T) {
	origin, err := testenv.Origin{TLS: true, HTTP2: true}.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	said := make(chan string, 16)
	w := &world{t: t, origin: origin, home: t.TempDir(), more: func(c *holdfast.Config) {
		c.TraceMessages = true
		c.Message = func(_ *flow.Flow, m *flow.Message) { said <- fmt.Sprintf("%s %s %s", m.From, m.Opcode, m.Data) }
	}}
	w.start(strings.Replace(socketRules, "CHECK", "check_type: {type: StatusCode, value: [401]}", 1))
	ctx := socketContext(t)
	conn, err := w.open(ctx, "/ws", websocket.CompressionContextTakeover)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	secret := "my secret is " + strings.Repeat("swordfish ", 100)
	if err := say(ctx, conn, secret); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(3001, "swordfish"); err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{"client text " + secret: true, "origin text " + secret: true}
	for len(missing) > 0 { // the two directions are heard in any order
		select {
		case got := <-said:
			delete(missing, got)
		case <-ctx.Done():
			t.Fatalf("%d messages were not heard", len(missing))
		}
	}
	for _, from := range []string{"client", "origin"} {
		w.traced(fmt.Sprintf(`"message":{"from":"%s","opcode":"text","size":%d,`, from, len(secret)))
		w.traced(fmt.Sprintf(`"message":{"from":"%s","opcode":"close",`, from))
	}
	w.traced(`"compressed":true`)
	w.traced(`"code":3001`)
	if strings.Contains(w.trace.String(), "swordfish") {
		t.Errorf("the trace repeats what was said:\n%s", w.trace.String())
	}
}

// Every WebSocket of a session is closed when it dies, and every client comes
// back at once: one login for all of them.
func TestWebSocketsThatDieTogetherCauseOneLogin(t *testing.T) {
	w := socketWorld(t, testenv.Origin{TLS: true}, "check_type: {type: StatusCode, value: [401]}, close_codes: [4401]")
	ctx := socketContext(t)
	const clients, lives = 24, 3
	var wg sync.WaitGroup
	round := make(chan struct{}, clients) // one for each client that is open
	var goOn [lives]chan struct{}
	for i := range goOn {
		goOn[i] = make(chan struct{})
	}
	for n := range clients {
		wg.Go(func() {
			for life := range lives {
				conn, err := w.open(ctx, "/ws", websocket.CompressionDisabled)
				if err == nil {
					err = say(ctx, conn, fmt.Sprintf("client %d, life %d", n, life))
				}
				round <- struct{}{}
				if err != nil {
					t.Errorf("client %d, life %d: %v", n, life, err)
					<-goOn[life] // the others wait for it
					continue
				}
				if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != testenv.CloseDead {
					t.Errorf("client %d, life %d ended with %v", n, life, err)
				}
				conn.CloseNow()
				<-goOn[life]
			}
		})
	}
	for life := range lives {
		for range clients {
			<-round
		}
		w.origin.KillAll()
		close(goOn[life])
	}
	wg.Wait()
	if s := w.origin.Stats(); s.Logins != lives || s.DeadAnswers != 0 {
		t.Errorf("%d logins and %d dead answers for %d clients with %d lives", s.Logins, s.DeadAnswers, clients, lives)
	}
}
