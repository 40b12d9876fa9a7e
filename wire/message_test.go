package wire_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/wire"
)

func mustRequest(t *testing.T, raw string) *wire.Request {
	t.Helper()
	r, err := wire.ParseRequest([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const odd = "GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nX-Long: one\r\n two\nCookie:a=1\r\nCookie: b=2\r\nEmpty:\r\n\r\n"

func TestEditsChangeTheirSpanOnly(t *testing.T) {
	tests := []struct {
		name, raw string
		edit      func(r *wire.Request) error
		want      string
	}{
		{"set the first field of a name", odd, func(r *wire.Request) error { return r.Set("COOKIE", "c=3") },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nX-Long: one\r\n two\nCookie:c=3\r\nCookie: b=2\r\nEmpty:\r\n\r\n"},
		{"set a value between odd spaces", odd, func(r *wire.Request) error { return r.Set("host", "b.test") },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\tb.test \r\nX-Long: one\r\n two\nCookie:a=1\r\nCookie: b=2\r\nEmpty:\r\n\r\n"},
		{"set a folded value", odd, func(r *wire.Request) error { return r.Set("x-long", "three") },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nX-Long: three\nCookie:a=1\r\nCookie: b=2\r\nEmpty:\r\n\r\n"},
		{"set an empty value", odd, func(r *wire.Request) error { return r.Set("empty", "x") },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nX-Long: one\r\n two\nCookie:a=1\r\nCookie: b=2\r\nEmpty:x\r\n\r\n"},
		{"set what is not there", odd, func(r *wire.Request) error { return r.Set("New", "x") },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nX-Long: one\r\n two\nCookie:a=1\r\nCookie: b=2\r\nEmpty:\r\nNew: x\r\n\r\n"},
		{"add bytes", odd, func(r *wire.Request) error { return r.AddBytes("New", []byte("x")) },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nX-Long: one\r\n two\nCookie:a=1\r\nCookie: b=2\r\nEmpty:\r\nNew: x\r\n\r\n"},
		{"delete every field of a name", odd, func(r *wire.Request) error { r.Del("cookie"); return nil },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nX-Long: one\r\n two\nEmpty:\r\n\r\n"},
		{"delete a folded field", odd, func(r *wire.Request) error { r.Del("X-Long"); return nil },
			"GET  /a?b=%zz HTTP/1.1\r\nhOST:\ta \r\nCookie:a=1\r\nCookie: b=2\r\nEmpty:\r\n\r\n"},
		{"target, method and a field", odd, func(r *wire.Request) error {
			if err := r.SetTarget([]byte("/longer/than/before")); err != nil {
				return err
			}
			if err := r.SetMethod([]byte("POST")); err != nil {
				return err
			}
			return r.SetFieldValue(3, []byte(""))
		}, "POST  /longer/than/before HTTP/1.1\r\nhOST:\ta \r\nX-Long: one\r\n two\nCookie:a=1\r\nCookie: \r\nEmpty:\r\n\r\n"},
		{"an empty target", "GET  HTTP/1.1\r\n\r\n", func(r *wire.Request) error { return r.SetTarget([]byte("/x")) }, "GET /x HTTP/1.1\r\n\r\n"},
		{"add to a head of bare LF", "GET / HTTP/1.1\n\n", func(r *wire.Request) error { return r.Add("A", "b") }, "GET / HTTP/1.1\nA: b\n\n"},
		{"a value taken from the head itself", odd, func(r *wire.Request) error {
			_, v := r.Field(3)
			return r.SetFieldValue(0, v)
		}, "GET  /a?b=%zz HTTP/1.1\r\nhOST:\tb=2 \r\nX-Long: one\r\n two\nCookie:a=1\r\nCookie: b=2\r\nEmpty:\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustRequest(t, tt.raw)
			edited := r.Clone()
			if err := tt.edit(edited); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(edited.Bytes())); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if string(r.Bytes()) != tt.raw {
				t.Errorf("the edit of a clone changed the original: %q", r.Bytes())
			}
			again := mustRequest(t, string(edited.Bytes()))
			sameFields(t, &edited.Head, &again.Head)
		})
	}
}

func TestEditsRefuseToMakeLines(t *testing.T) {
	r := mustRequest(t, "GET / HTTP/1.1\r\nA: b\r\ngarbage\r\n\r\n")
	edits := map[string]error{
		"LF in a value":             r.Set("A", "x\ny"),
		"CR in a value":             r.Set("A", "x\ry"),
		"NUL in a value":            r.Add("B", "x\x00"),
		"LF in bytes":               r.AddBytes("B", []byte("x\ny")),
		"LF in a name":              r.Add("B\n", "x"),
		"a colon in a name":         r.Add("B:C", "x"),
		"an empty name":             r.Add("", "x"),
		"a name after a space":      r.Add(" B", "x"),
		"LF in the target":          r.SetTarget([]byte("/\nHost: b")),
		"CR in the method":          r.SetMethod([]byte("G\r")),
		"an empty line that is one": r.SetFieldValue(1, nil),
	}
	for name, err := range edits {
		if err != wire.ErrUnsafe {
			t.Errorf("%s: %v, want ErrUnsafe", name, err)
		}
	}
	if got := string(r.Bytes()); got != "GET / HTTP/1.1\r\nA: b\r\ngarbage\r\n\r\n" {
		t.Errorf("a refused edit changed the head: %q", got)
	}
}

func TestTargetForms(t *testing.T) {
	tests := []struct{ line, host, path, query string }{
		{"GET /a/b?c=d?e HTTP/1.1", "field.test", "/a/b", "c=d?e"},
		{"GET http://a.test:81/x?y HTTP/1.1", "a.test:81", "/x", "y"},
		{"GET HTTP://a.test HTTP/1.1", "a.test", "", ""},
		{"GET http://me:pass@a.test?q HTTP/1.1", "a.test", "", "q"},
		{"GET /go?to=http://b.test/ HTTP/1.1", "field.test", "/go", "to=http://b.test/"},
		{"GET ://x HTTP/1.1", "field.test", "://x", ""},
		{"GET x:y HTTP/1.1", "field.test", "x:y", ""},
		{"OPTIONS * HTTP/1.1", "field.test", "*", ""},
		{"CONNECT a.test:443 HTTP/1.1", "a.test:443", "", ""},
		{"GET /a b HTTP/1.1", "field.test", "/a b", ""},
		{"GET  HTTP/1.1", "field.test", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			r := mustRequest(t, tt.line+"\r\nHost: field.test\r\n\r\n")
			got := []string{string(r.Host()), string(r.Path()), string(r.Query())}
			if diff := cmp.Diff([]string{tt.host, tt.path, tt.query}, got); diff != "" {
				t.Errorf("host, path, query (-want +got)\n%s", diff)
			}
		})
	}
}

func TestLookups(t *testing.T) {
	r := mustRequest(t, "GET / HTTP/1.1\r\nConnection: Keep-Alive, x\r\nA: 1\r\nconnection:\tclose ,y\r\na: 2\r\n\r\n")
	if got := string(r.Combined("CONNECTION")); got != "Keep-Alive, x, close ,y" {
		t.Errorf("combined %q", got)
	}
	for _, token := range []string{"keep-alive", "X", "close", "y"} {
		if !r.HasToken("Connection", token) {
			t.Errorf("token %q not found", token)
		}
	}
	if r.HasToken("Connection", "keep") || r.HasToken("B", "x") || r.Has("B") || r.Combined("B") != nil {
		t.Error("found what is not there")
	}
	if v, ok := r.Get("a"); !ok || string(v) != "1" {
		t.Errorf("first value %q, %v", v, ok)
	}
	if r.Has("\u212aey") {
		t.Error("names compare in ASCII only")
	}
}

func TestKeepAlive(t *testing.T) {
	tests := []struct {
		version, field string
		want           bool
	}{
		{"HTTP/1.1", "A: b", true},
		{"HTTP/1.1", "Connection: close", false},
		{"HTTP/1.0", "A: b", false},
		{"HTTP/1.0", "Connection: keep-alive", true},
		{"HTTP/1.0", "Connection: keep-alive, close", false},
		{"HTTP/0.9", "A: b", false},
	}
	for _, tt := range tests {
		if got := mustRequest(t, "GET / "+tt.version+"\r\n"+tt.field+"\r\n\r\n").KeepAlive(); got != tt.want {
			t.Errorf("request %s %s: %v", tt.version, tt.field, got)
		}
		resp, err := wire.ParseResponse([]byte(tt.version + " 200 OK\r\n" + tt.field + "\r\n\r\n"))
		if err != nil || resp.KeepAlive() != tt.want {
			t.Errorf("response %s %s: %v %v", tt.version, tt.field, !tt.want, err)
		}
	}
}

func TestResponseWords(t *testing.T) {
	resp, err := wire.ParseResponse([]byte("HTTP/1.0 404 Not  Here \r\nA: b\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status() != 404 || string(resp.Reason()) != "Not  Here " || string(resp.Version()) != "HTTP/1.0" {
		t.Errorf("%d %q %q", resp.Status(), resp.Reason(), resp.Version())
	}
	if c := resp.Clone(); string(c.Bytes()) != string(resp.Bytes()) {
		t.Errorf("clone %q", c.Bytes())
	}
}

func TestParseRefusesWhatIsNotOneHead(t *testing.T) {
	for _, raw := range []string{"", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n\r\nbody", "\r\nGET / HTTP/1.1\r\n\r\n"} {
		if _, err := wire.ParseRequest([]byte(raw)); err == nil {
			t.Errorf("%q was taken", raw)
		}
	}
}

// h2Request is a field section as a codec decodes it, in an odd order.
func h2Request() *wire.Request {
	var r wire.Request
	r.Reset(wire.HTTP2)
	for _, f := range []struct {
		name, value string
		flags       wire.FieldFlags
	}{
		{":path", "/a?b", 0},
		{":method", "GET", 0},
		{"cookie", "a=1", wire.NeverIndex},
		{":authority", "a.test", 0},
		{":scheme", "https", 0},
		{"X-Upper", "line\r\nbreak", 0},
		{"cookie", "b=2", 0},
		{"empty", "", 0},
	} {
		r.AppendField([]byte(f.name), []byte(f.value), f.flags)
	}
	return &r
}

func list(h *wire.Head) (fields []string) {
	for i := range h.NumFields() {
		name, value := h.Field(i)
		mark := ""
		if h.Flags(i)&wire.NeverIndex != 0 {
			mark = "!"
		}
		fields = append(fields, string(name)+"="+string(value)+mark)
	}
	return fields
}

func TestHTTP2FieldsAreTheTruth(t *testing.T) {
	r := h2Request()
	want := []string{":path=/a?b", ":method=GET", "cookie=a=1!", ":authority=a.test", ":scheme=https", "X-Upper=line\r\nbreak", "cookie=b=2", "empty="}
	if diff := cmp.Diff(want, list(&r.Head)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	words := []string{string(r.Method()), string(r.Target()), string(r.Version()), string(r.Host()), string(r.Path()), string(r.Query())}
	if diff := cmp.Diff([]string{"GET", "/a?b", "HTTP/2", "a.test", "/a", "b"}, words); diff != "" {
		t.Errorf("words (-want +got)\n%s", diff)
	}
	if f, err := wire.RequestFraming(r); err != nil || f.Kind != wire.Stream {
		t.Errorf("framing %v %v", f, err)
	}
	rendered := "GET /a?b HTTP/2\r\ncookie: a=1\r\nHost: a.test\r\nX-Upper: line\r\nbreak\r\ncookie: b=2\r\nempty: \r\n\r\n"
	if diff := cmp.Diff(rendered, string(r.Bytes())); diff != "" {
		t.Errorf("rendering (-want +got)\n%s", diff)
	}
}

func TestHTTP2Edits(t *testing.T) {
	r := h2Request().Clone()
	for _, err := range []error{
		r.Set("Cookie", "c=3"), r.Set("Empty", "full"), r.Set("New-Field", "x"),
		r.SetTarget([]byte("/longer")), r.SetMethod([]byte("POST")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.Del(":scheme")
	want := []string{":path=/longer", ":method=POST", "cookie=c=3!", ":authority=a.test", "X-Upper=line\r\nbreak", "cookie=b=2", "empty=full", "new-field=x"}
	if diff := cmp.Diff(want, list(&r.Head)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r.Del(":path")
	if err := r.SetTarget([]byte("/back")); err != nil || list(&r.Head)[0] != ":path=/back" || string(r.Method()) != "POST" {
		t.Errorf("%v: %q", err, list(&r.Head))
	}
}

func TestHTTP2Response(t *testing.T) {
	var r wire.Response
	r.Reset(wire.HTTP2)
	r.AppendField([]byte(":status"), []byte("204"), 0)
	r.AppendField([]byte("content-length"), []byte("7"), 0)
	if r.Status() != 204 || !r.KeepAlive() || r.Reason() != nil {
		t.Errorf("%d %v %q", r.Status(), r.KeepAlive(), r.Reason())
	}
	if f, err := wire.ResponseFraming(&r, nil); err != nil || f.Kind != wire.Stream || f.Length != 7 {
		t.Errorf("framing %v %v", f, err)
	}
	if got := string(r.Bytes()); got != "HTTP/2 204\r\ncontent-length: 7\r\n\r\n" {
		t.Errorf("rendering %q", got)
	}
}
