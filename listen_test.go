package holdfast_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/config"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/proxy"
)

func TestParseListen(t *testing.T) {
	tests := map[string]struct {
		kind proxy.Kind
		text string
		want holdfast.Listen
	}{
		"an address":       {proxy.Forward, "127.0.0.1:8080", holdfast.Listen{Address: "127.0.0.1:8080"}},
		"with a tool":      {proxy.Forward, "scanner=[::1]:8080", holdfast.Listen{Tool: "scanner", Address: "[::1]:8080"}},
		"TLS":              {proxy.Forward, "scanner=tls::8443", holdfast.Listen{Tool: "scanner", TLS: true, Address: ":8443"}},
		"invisible":        {proxy.Invisible, ":443", holdfast.Listen{Kind: proxy.Invisible, Address: ":443"}},
		"reverse":          {proxy.Reverse, "127.0.0.1:9000=https://Shop.example", holdfast.Listen{Kind: proxy.Reverse, Address: "127.0.0.1:9000", Origin: flow.Origin{TLS: true, Host: "shop.example", Port: 443}}},
		"reverse, labeled": {proxy.Reverse, "a=tls:[::1]:0=http://[::1]:81/", holdfast.Listen{Kind: proxy.Reverse, Tool: "a", TLS: true, Address: "[::1]:0", Origin: flow.Origin{Host: "::1", Port: 81}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := holdfast.ParseListen(tt.kind, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, bad := range []string{"", "8080", "scanner=", "::1:8080"} {
		if l, err := holdfast.ParseListen(proxy.Forward, bad); err == nil {
			t.Errorf("%q: %+v", bad, l)
		}
	}
	for _, bad := range []string{"127.0.0.1:1", "127.0.0.1:1=ftp://a", "127.0.0.1:1=https://a/b", "127.0.0.1:1=https://", "127.0.0.1:1=https://u@a", "1=https://a"} {
		if l, err := holdfast.ParseListen(proxy.Reverse, bad); err == nil {
			t.Errorf("%q: %+v", bad, l)
		}
	}
}

// Whoever opens a listener to others is told what that means.
func TestOpenListenersAreWarnedAbout(t *testing.T) {
	const file = `
listen:
  - {address: "127.0.0.1:0"}
  - {address: "0.0.0.0:0"}
  - {address: "0.0.0.0:0", kind: reverse, origin: "https://shop.example"}
`
	for password, want := range map[string]int{"": 2, "proxy_password: secret\n": 1} {
		f, _, err := config.Parse("file", []byte(file+password), config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var warnings []string
		h, err := holdfast.New(holdfast.Config{File: f, Home: t.TempDir(), Warn: func(text string) {
			mu.Lock()
			defer mu.Unlock()
			warnings = append(warnings, text)
		}})
		if err != nil {
			t.Fatal(err)
		}
		if places := h.Places(); len(places) != 3 || !strings.HasPrefix(places[2], "reverse  http://") || !strings.HasSuffix(places[2], " is https://shop.example") {
			t.Errorf("%q", places)
		}
		h.Close()
		mu.Lock()
		if len(warnings) != want || !strings.Contains(warnings[0], "everybody who can reach") {
			t.Errorf("with %q: %q", password, warnings)
		}
		mu.Unlock()
	}
	if _, err := net.ResolveTCPAddr("tcp", holdfast.DefaultListen); err != nil || !strings.HasPrefix(holdfast.DefaultListen, "127.") {
		t.Error("the default is not on loopback")
	}
}
