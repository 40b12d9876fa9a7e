package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
	"github.com/holdfast-proxy/holdfast/upstream"
)

// The piece that a request's body ends with is known as such: the origin may
// answer when it has that, before anybody asks for io.EOF.
func TestTheLastPieceOfARequestIsKnown(t *testing.T) {
	heard := make(chan error, 1)
	w := newWorld(t, proxy.Config{}, upstream.Config{}, func(flow.Handler) flow.Handler {
		return func(_ context.Context, f *flow.Flow) error {
			heard <- readToLast(f)
			return &flow.Error{Status: 502, Reason: flow.ReasonTimeout, Detail: "it is not sent"}
		}
	})
	for _, body := range []string{"Content-Length: 7\r\n\r\none two", "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\nX-T: 1\r\n\r\n"} {
		conn := w.dial()
		fmt.Fprintf(conn, "POST http://shop.example/ HTTP/1.1\r\nHost: shop.example\r\n%s", body)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if err := <-heard; err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func readToLast(f *flow.Flow) error {
	ends, ok := f.RequestBody.(interface{ Last() bool })
	if !ok {
		return errors.New("the body does not tell")
	}
	for {
		piece, err := f.RequestBody.Next()
		switch {
		case err != nil:
			return fmt.Errorf("%w came before the last piece was known", err)
		case ends.Last():
			if _, err = f.RequestBody.Next(); err != io.EOF {
				return fmt.Errorf("%v after the last piece %q", err, piece)
			}
			return nil
		}
	}
}
