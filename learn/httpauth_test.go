package learn_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
	"github.com/holdfast-proxy/holdfast/learn"
)

// HTTP authentication has no session: what is learnt are the credentials.
func TestHTTPAuthentication(t *testing.T) {
	const alice = "Basic YWxpY2U6YWxpY2VwYXNz" // alice:alicepass
	origin, err := testenv.Recorder{TLS: true, Answer: func(_ int, request []byte) testenv.Reply {
		if strings.Contains(string(request), "Authorization: "+alice+"\r\n") || strings.Contains(string(request), `Digest username="alice"`) {
			return testenv.Reply{Raw: []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello alice")}
		}
		return testenv.Reply{Raw: []byte("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"shop\"\r\nContent-Length: 0\r\n\r\n")}
	}}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	block, _ := pem.Decode(origin.CAPEM())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, roots: []*x509.Certificate{root}}
	recording := new(holdfast.Recording)
	client, _, stop := s.behind(holdfast.Config{Record: recording})
	send(t, client, "GET", origin.URL+"/manager", "")
	send(t, client, "GET", origin.URL+"/manager", "", "Authorization", alice)
	stop()

	result := s.learn(recording.Exchanges(), learn.Options{})
	var text strings.Builder
	result.Report.Write(&text)
	if !result.Report.Held || strings.Contains(text.String()+string(result.Config), "alicepass") {
		t.Errorf("%s\n%s", text.String(), result.Config)
	}
	golden(t, "basic.yaml", strings.ReplaceAll(string(result.Config), strings.TrimPrefix(origin.URL, "https://"), "shop.example"))
	client, _, stop = s.behind(holdfast.Config{File: load(t, result)})
	defer stop()
	if got := send(t, client, "GET", origin.URL+"/manager", ""); !strings.Contains(got, "hello alice") {
		t.Error(got)
	}

	// Of Digest a recording has everything but the password.
	digest := new(holdfast.Recording)
	client, _, stopDigest := s.behind(holdfast.Config{Record: digest})
	send(t, client, "GET", origin.URL+"/manager", "", "Authorization", `Digest username="alice", realm="shop", nonce="n", uri="/manager", response="0"`)
	stopDigest()
	_, err = learn.Run(context.Background(), digest.Exchanges(), learn.Options{Proxy: holdfast.Config{Home: t.TempDir(), Roots: s.roots}})
	if !errors.Is(err, learn.ErrLogin) || !strings.Contains(err.Error(), "--password") {
		t.Errorf("%v", err)
	}
}
