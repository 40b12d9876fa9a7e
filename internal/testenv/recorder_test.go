package testenv_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

func record(t *testing.T, r testenv.Recorder) *testenv.Recording {
	t.Helper()
	rec, err := r.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Close)
	return rec
}

func dial(t *testing.T, rec *testenv.Recording) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	if pool := rec.Pool(); pool != nil {
		conn, err = tls.Dial("tcp", rec.Addr, &tls.Config{RootCAs: pool})
	} else {
		conn, err = net.Dial("tcp", rec.Addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// read takes as many bytes as the wanted text has, and compares.
func read(t *testing.T, from io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func TestRecorderKeepsTheBytes(t *testing.T) {
	requests := []string{
		"GET /a?b=%zz HTTP/1.1\r\nhOST:  x \r\nX: 1\r\nx:2\r\n\r\n",
		"POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello",
		"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\nab",
		"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5;ext=\"a\"\r\nhello\r\n1\nx\n000\r\nTrailer: t\r\n\r\n",
		"\r\n",
		"anything\r\n\r\n",
	}
	for _, secure := range []bool{false, true} {
		rec := record(t, testenv.Recorder{TLS: secure})
		conn := dial(t, rec)
		// All at once: each must end where the next begins.
		if _, err := io.WriteString(conn, strings.Join(requests, "")); err != nil {
			t.Fatal(err)
		}
		for range requests {
			read(t, conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		var got []string
		for _, one := range rec.Requests() {
			got = append(got, string(one))
		}
		if diff := cmp.Diff(requests, got); diff != "" {
			t.Errorf("TLS %v: requests (-sent +recorded):\n%s", secure, diff)
		}
		if raw := string(rec.Raw(0)); raw != strings.Join(requests, "") {
			t.Errorf("TLS %v: raw bytes %q", secure, raw)
		}
		if n := rec.Connections(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	}
}

func TestRecorderKeepsWhatIsNoRequest(t *testing.T) {
	rec := record(t, testenv.Recorder{})
	conn := dial(t, rec)
	const text = "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhel"
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
		t.Errorf("answered %q, %v", rest, err)
	}
	if len(rec.Requests()) != 0 || string(rec.Raw(0)) != text {
		t.Errorf("recorded %q and %q", rec.Requests(), rec.Raw(0))
	}
}

func TestRecorderRepliesAsTold(t *testing.T) {
	rec := record(t, testenv.Recorder{
		Interim: func(n int, head []byte) []byte {
			if strings.Contains(string(head), "100-continue") {
				return []byte("HTTP/1.1 100 Continue\r\n\r\n")
			}
			return nil
		},
		Answer: func(n int, request []byte) testenv.Reply {
			switch n {
			case 0:
				return testenv.Reply{Raw: []byte("odd answer 0\n")}
			case 1:
				return testenv.Reply{Raw: []byte("last"), Close: true}
			}
			return testenv.Reply{Raw: []byte("HTTP/1.1 101 x\r\n\r\n"), Then: func(rw io.ReadWriter) {
				line, _ := bufio.NewReader(rw).ReadString('\n')
				io.WriteString(rw, "echo "+line)
			}}
		},
	})
	first := dial(t, rec)
	io.WriteString(first, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
	read(t, first, "HTTP/1.1 100 Continue\r\n\r\n")
	io.WriteString(first, "x")
	read(t, first, "odd answer 0\n")
	io.WriteString(first, "GET / HTTP/1.1\r\n\r\n")
	if rest, err := io.ReadAll(first); err != nil || string(rest) != "last" {
		t.Errorf("read %q, %v", rest, err)
	}
	second := dial(t, rec)
	io.WriteString(second, "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\nhello\n")
	if rest, err := io.ReadAll(second); err != nil || string(rest) != "HTTP/1.1 101 x\r\n\r\necho hello\n" {
		t.Errorf("read %q, %v", rest, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := rec.Wait(ctx, 3); err != nil {
		t.Error(err)
	}
	cancel()
	if err := rec.Wait(ctx, 4); err == nil || !strings.Contains(err.Error(), "3 are there") {
		t.Errorf("waiting for too many: %v", err)
	}
}

func TestRecorderFramesAsTold(t *testing.T) {
	rec := record(t, testenv.Recorder{Frame: func(in *bufio.Reader) ([]byte, error) { return in.ReadBytes(';') }})
	conn := dial(t, rec)
	io.WriteString(conn, "one;two;")
	read(t, conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n")
	if got := rec.Requests(); len(got) != 2 || string(got[1]) != "two;" {
		t.Errorf("recorded %q", got)
	}
}
