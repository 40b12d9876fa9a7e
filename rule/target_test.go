package rule_test

import (
	"bytes"
	"errors"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// target reads the first line of a case.
func target(t *testing.T, line string) (target *rule.Target, value string) {
	t.Helper()
	target = new(rule.Target)
	for word := range strings.FieldsSeq(line) {
		key, text, _ := strings.Cut(word, "=")
		text, err := url.PathUnescape(text)
		if err != nil {
			t.Fatalf("%s: %v", word, err)
		}
		switch key {
		case "type":
			target.Type = text
		case "name":
			target.Name = text
		case "pointer":
			target.Pointer = text
		case "xpath":
			target.XPath = text
		case "text":
			target.Text = text
		case "regex":
			target.Regex = text
		case "segment":
			if target.Segment, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		case "value":
			value = text
		case "if_absent":
			target.IfAbsent = text
		case "template":
			if target.Template, err = rule.ParseTemplate(text); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("what is %s?", word)
		}
	}
	if err := target.Compile("T"); err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return target, value
}

func TestInject(t *testing.T) {
	files, _ := filepath.Glob("testdata/inject/*.txtar")
	vars := lookup(map[string]string{"ID": "42"})
	cases := 0
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(a.Files); i += 2 {
			cases++
			in, out := a.Files[i], a.Files[i+1]
			t.Run(filepath.Base(file)+"/"+in.Name, func(t *testing.T) {
				line, rest, _ := strings.Cut(string(in.Data), "\n")
				tg, value := target(t, line)
				m := message(t, rest)
				before := bytesOf(m)
				held := tg.Holds(m, value, vars)
				changed, err := tg.Inject(m, value, vars)
				want := before
				if len(out.Data) > 0 {
					want = bytesOf(message(t, string(out.Data)))
				}
				if what, wanted := strings.CutPrefix(out.Name, "error: "); wanted {
					want = before
					if err == nil || !strings.Contains(err.Error(), what) {
						t.Errorf("Inject gave %v, want an error with %q", err, what)
					}
				} else if err != nil {
					t.Errorf("Inject: %v", err)
				}
				if out.Name == "unchanged" {
					want = before
				}
				if diff := cmp.Diff(string(want), string(bytesOf(m))); diff != "" {
					t.Errorf("the request afterwards (-want +got):\n%s", diff)
				}
				if changed != !bytes.Equal(want, before) {
					t.Errorf("changed is %t, want %t", changed, !changed)
				}
				if held && changed {
					t.Error("Holds before a change, want not")
				}
				copied := message(t, rest)
				received := copied.Request
				copied.Editor = editor{received}
				if other, err2 := tg.Inject(copied, value, vars); other != changed || (err2 == nil) != (err == nil) {
					t.Errorf("with an editor %t, %v; without %t, %v", other, err2, changed, err)
				}
				if !bytes.Equal(received.Bytes(), message(t, rest).Request.Bytes()) {
					t.Errorf("what was received is now %q", received.Bytes())
				}
				if diff := cmp.Diff(string(bytesOf(m)), string(bytesOf(copied))); diff != "" {
					t.Errorf("with an editor the request is another (-without +with):\n%s", diff)
				}
				if held && copied.Request != received {
					t.Error("the request was copied for no change")
				}
				if err != nil || out.Name == "unchanged" {
					return
				}
				switch {
				case tg.Type == rule.TargetPlaceholder, tg.Type == rule.TargetBody, strings.HasSuffix(tg.Pointer, "/-"):
					return // the place is gone
				}
				if !tg.Holds(m, value, vars) {
					t.Error("does not hold what was injected, want it to")
				}
				if again, err := tg.Inject(m, value, vars); again || err != nil {
					t.Errorf("a second Inject gave %t, %v; want no change", again, err)
				}
			})
		}
	}
	if cases < 80 {
		t.Fatalf("%d cases in testdata/inject, want them all", cases)
	}
}

// editor copies a request for whoever wants to change it.
type editor struct{ of *wire.Request }

func (e editor) Edit() *wire.Request { return e.of.Clone() }

// message reads a head and a body; the head's line ends become CRLF, and those
// of a multipart body too.
func message(t *testing.T, text string) *rule.Message {
	t.Helper()
	head, body, whole := strings.Cut(text, "\n\n")
	if whole {
		head += "\n"
	}
	m := &rule.Message{Request: request(t, head+"\n")}
	if body = strings.TrimRight(body, "\n"); body != "" {
		m.Body = []byte(body)
		if strings.Contains(head, "multipart/") {
			m.Body = bytes.ReplaceAll(m.Body, []byte("\n"), []byte("\r\n"))
		}
	}
	return m
}

func bytesOf(m *rule.Message) []byte {
	return append(bytes.Clone(m.Request.Bytes()), m.Body...)
}

func TestInjectHTTP2(t *testing.T) {
	req := new(wire.Request)
	req.Reset(wire.HTTP2)
	for _, f := range [][2]string{{":method", "GET"}, {":path", "/a?t=old"}, {":authority", "shop.example"}, {"cookie", "a=1"}, {"cookie", "sid=old"}} {
		if err := req.AppendField([]byte(f[0]), []byte(f[1]), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{"type=Cookie name=sid value=new", "type=QueryParam name=t value=new", "type=RequestHeader name=Authorization value=new"} {
		tg, value := target(t, line)
		if changed, err := tg.Inject(&rule.Message{Request: req}, value, nil); !changed || err != nil {
			t.Errorf("%s: %t, %v", line, changed, err)
		}
	}
	var got []string
	for i := range req.NumFields() {
		n, v := req.Field(i)
		got = append(got, string(n)+"="+string(v))
	}
	want := []string{":method=GET", ":path=/a?t=new", ":authority=shop.example", "cookie=a=1", "cookie=sid=new", "authorization=Bearer new"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestCurrent(t *testing.T) {
	head := "GET /?t=a%2Fb+c HTTP/1.1\nAuthorization: Bearer  abc\nX-T: v1.YQ==.z\nCookie: sid=\"q\"\n\n"
	for _, c := range []struct {
		line, want string
		absent     bool
	}{
		{line: "type=RequestHeader name=Authorization", want: "abc"},
		{line: "type=RequestHeader name=Authorization template=Bearer%20{{T}}", want: " abc"},
		{line: "type=RequestHeader name=Authorization template=JWT%20{{T}}", want: "Bearer  abc"},
		{line: "type=RequestHeader name=X-T", want: "v1.YQ==.z"},
		{line: "type=RequestHeader name=X-T template=v1.{{base64:T}}.z", want: "a"},
		{line: "type=RequestHeader name=X-T template={{T}}.{{ID}}", want: "v1.YQ==.z"},
		{line: "type=RequestHeader name=X-None", absent: true},
		{line: "type=Cookie name=sid", want: `"q"`},
		{line: "type=Cookie name=none", absent: true},
		{line: "type=QueryParam name=t", want: "a/b c"},
		{line: "type=QueryParam name=t template=a/{{T}}", want: "b c"},
		{line: "type=QueryParam name=none", absent: true},
	} {
		tg, _ := target(t, c.line)
		got, ok := tg.Current(message(t, head))
		if got != c.want || ok == c.absent {
			t.Errorf("%s: %q, %t; want %q, %t", c.line, got, ok, c.want, !c.absent)
		}
	}
}

func TestPlace(t *testing.T) {
	for line, want := range map[string]string{
		"type=RequestHeader name=X-CSRF-Token": "header:x-csrf-token",
		"type=Cookie name=SID":                 "cookie:SID",
		"type=QueryParam name=T":               "query:T",
	} {
		tg, _ := target(t, line)
		if got := tg.Place(); got != want {
			t.Errorf("%s: place %s, want %s", line, got, want)
		}
	}
	if got := (&rule.Target{Type: "Cookie", Name: "a"}).Place(); got != "" {
		t.Errorf("before Compile the place is %q, want none", got)
	}
}

func TestTargetMistakes(t *testing.T) {
	two, _ := rule.ParseTemplate("{{A}}{{B}}")
	for _, c := range []struct {
		name      string
		target    rule.Target
		token     string
		key, says string
	}{
		{"no type", rule.Target{Name: "x"}, "T", "type", "no type"},
		{"an unknown type", rule.Target{Type: "Nowhere", Name: "x"}, "T", "type", "no target type Nowhere"},
		{"no name", rule.Target{Type: "QueryParam"}, "T", "name", "needs a name"},
		{"no name of a header", rule.Target{Type: "RequestHeader", Name: "X:"}, "T", "name", "no name"},
		{"a header that frames", rule.Target{Type: "RequestHeader", Name: "content-length"}, "T", "name", "where the body ends"},
		{"an unknown if_absent", rule.Target{Type: "Cookie", Name: "x", IfAbsent: "maybe"}, "T", "if_absent", "no if_absent"},
		{"a template of others", rule.Target{Type: "Cookie", Name: "x", Template: two}, "T", "template", "its own token"},
		{"a template of two for nobody", rule.Target{Type: "Cookie", Name: "x", Template: two}, "", "template", "or several"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.target.Compile(c.token)
			var e *rule.Error
			if !errors.As(err, &e) || e.Key != c.key || !strings.Contains(e.Problem, c.says) || e.Next == "" {
				t.Errorf("got %v, want key %q, %q and a next step", err, c.key, c.says)
			}
		})
	}
}

// An injection changes only its span: what stood before and after it stands
// there still, no line is made but the one that is added, and Current gives
// back what was put in.
func FuzzInject(f *testing.F) {
	f.Add(uint8(0), "/a?t=b&c", "Basic old", "a=1; t=2", "new")
	f.Add(uint8(1), "/", "", "t=\"x\";", "a b")
	f.Add(uint8(2), "http://h/?t&t=%", "x", "", "é&=+%20")
	f.Fuzz(func(t *testing.T, kind uint8, path, header, cookie, value string) {
		types := rule.TargetTypes()[:3]
		tg := &rule.Target{Type: types[int(kind)%len(types)], Name: "t"}
		if err := tg.Compile("T"); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(path+header+cookie, "\r\n\x00") || strings.ContainsAny(path, " \t") || path == "" {
			return
		}
		req, err := wire.ParseRequest([]byte("GET " + path + " HTTP/1.1\r\nT: " + header + "\r\nCookie: " + cookie + "\r\nX: y\r\n\r\n"))
		if err != nil || req.NumFields() != 3 {
			return
		}
		before := bytes.Clone(req.Bytes())
		now, present := rule.Span(tg, &rule.Message{Request: req})
		now = bytes.Clone(now)
		changed, err := tg.Inject(&rule.Message{Request: req}, value, nil)
		after := req.Bytes()
		if err != nil || !changed {
			if !bytes.Equal(before, after) {
				t.Fatalf("unchanged (%v), yet %q became %q", err, before, after)
			}
			return
		}
		same := commonEnds(before, after)
		if want := len(before) - len(now); same < want {
			t.Errorf("%q became %q: %d bytes outside the place changed", before, after, want-same)
		}
		if bytes.Count(after, []byte("\n")) != bytes.Count(before, []byte("\n")) {
			t.Errorf("%q became %q: another number of lines", before, after)
		}
		want := value
		if tg.Type != rule.TargetQueryParam {
			want = strings.Trim(value, " \t")
		}
		if got, ok := tg.Current(&rule.Message{Request: req}); !ok || got != want {
			t.Errorf("after %q (present %t) the place holds %q, %t", want, present, got, ok)
		}
	})
}

// commonEnds is how many bytes two texts share at their ends.
func commonEnds(a, b []byte) int {
	n := min(len(a), len(b))
	front := 0
	for front < n && a[front] == b[front] {
		front++
	}
	back := 0
	for back < n-front && a[len(a)-1-back] == b[len(b)-1-back] {
		back++
	}
	return front + back
}

func BenchmarkInject(b *testing.B) {
	head := "GET /a/b?token=old&x=y HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nCookie: a=1; sid=old; b=2\r\n\r\n"
	for _, tg := range []*rule.Target{
		{Type: rule.TargetRequestHeader, Name: "Authorization"}, {Type: rule.TargetCookie, Name: "sid"}, {Type: rule.TargetQueryParam, Name: "token"},
	} {
		if err := tg.Compile("T"); err != nil {
			b.Fatal(err)
		}
		req, err := wire.ParseRequest([]byte(head))
		if err != nil {
			b.Fatal(err)
		}
		m := &rule.Message{Request: req}
		values := [2]string{"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.one", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.two"}
		b.Run(tg.Type, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if changed, err := tg.Inject(m, values[i&1], nil); err != nil || !changed {
					b.Fatal(changed, err)
				}
			}
		})
	}
}
