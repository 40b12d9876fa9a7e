package convert_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

func entry(request, response string) string {
	return `{"startedDateTime":"2026-01-02T03:04:05.006Z","request":` + request + `,"response":` + response + `}`
}

func har(entries ...string) string {
	return `{"log":{"version":"1.2","pages":[{"id":"x"}],"creator":{"name":"T","version":"1"},"entries":[` + strings.Join(entries, ",") + `]}}`
}

const (
	get      = `{"method":"GET","url":"https://shop.example/a?b=c#d","headers":[]}`
	answered = `{"status":200,"statusText":"OK","headers":[],"content":{"size":0}}`
)

// One row for each way in which some program writes HAR in its own way.
func TestHARDialects(t *testing.T) {
	for name, c := range map[string]struct{ text, request, body, answer, content, lost string }{
		"pseudo-header fields, names in lower case": {
			har(entry(`{"method":"GET","url":"https://shop.example/a b","httpVersion":"h2","headers":[{"name":":authority","value":"shop.example"},{"name":":path","value":"/a"},{"name":"accept","value":"*/*"}]}`, answered)),
			"GET /a%20b HTTP/1.1\r\nHost: shop.example\r\naccept: */*\r\n\r\n", "", "HTTP/1.1 200 OK\r\n\r\n", "", ""},
		"several cookies in one value": {
			har(entry(get, `{"status":302,"headers":[{"name":"Set-Cookie","value":"a=1; Path=/\nb=2"},{"name":"Location","value":"/x"}],"content":{"text":"","size":0}}`)),
			"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", "", "HTTP/1.1 302 \r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nLocation: /x\r\n\r\n", "", ""},
		"cookies without their fields": {
			har(entry(`{"method":"GET","url":"http://x/","headers":[],"cookies":[{"name":"a","value":"1"},{"name":"b","value":"2"}]}`, `{"status":200,"headers":[],"cookies":[{"name":"c","value":"3"}],"content":{}}`)),
			"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1; b=2\r\n\r\n", "", "HTTP/1.1 200 \r\nSet-Cookie: c=3; Path=/\r\n\r\n", "", "entry 1: the attributes of the cookies that the answer sets"},
		"a body in base64": {
			har(entry(get, `{"status":200,"headers":[],"content":{"size":3,"encoding":"base64","text":"AP8B"}}`)),
			"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", "", "HTTP/1.1 200 \r\n\r\n", "\x00\xff\x01", ""},
		"a body that is missing": {
			har(entry(get, `{"status":200,"headers":[],"content":{"size":9}}`)),
			"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", "", "HTTP/1.1 200 \r\n\r\n", "", "entry 1: the body of the answer was not recorded"},
		"no answer": {
			har(entry(get, `{"status":0,"headers":[],"content":{},"_error":"net::ERR_BLOCKED_BY_CLIENT"}`)),
			"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", "", "", "", "entry 1: no answer was recorded: net::ERR_BLOCKED_BY_CLIENT"},
		"a form as parameters": {
			har(entry(`{"method":"POST","url":"http://x/","headers":[],"postData":{"mimeType":"application/x-www-form-urlencoded","params":[{"name":"a","value":"1 2"},{"name":"b","value":"3%204"}]}}`, answered)),
			"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "a=1+2&b=3%25204", "HTTP/1.1 200 OK\r\n\r\n", "", ""},
		"a form with parts as parameters": {
			har(entry(`{"method":"POST","url":"http://x/","headers":[{"name":"Content-Type","value":"multipart/form-data; boundary=B"}],"postData":{"mimeType":"multipart/form-data; boundary=B","params":[{"name":"a","value":"1"},{"name":"f","fileName":"x.txt","contentType":"text/plain"}]}}`, answered)),
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n\r\n",
			"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\n\r\n--B--\r\n",
			"HTTP/1.1 200 OK\r\n\r\n", "", "entry 1: the content of an uploaded file"},
		"messages on a WebSocket": {
			har(`{"_resourceType":"websocket","_webSocketMessages":[{"type":"send","data":"x"}],"request":{"method":"GET","url":"wss://x/ws","headers":[]},"response":{"status":101,"headers":[],"content":{}}}`),
			"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 101 \r\n\r\n", "", "entry 1: 1 messages on a WebSocket"},
		"a value of another kind": {
			har(entry(get, `{"status":"200","statusText":7,"headers":[],"content":{}}`)),
			"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n", "", "", "", "entry 1: a value is not of the kind that HAR has there, and was left out; entry 1: no answer was recorded"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := convert.Read(strings.NewReader(c.text), convert.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Exchanges) != 1 {
				t.Fatalf("%d exchanges, lost %v", len(r.Exchanges), r.Lost)
			}
			x := r.Exchanges[0]
			answer := ""
			if x.Response != nil {
				answer = string(x.Response.Bytes())
			}
			for _, p := range [][3]string{{"request", c.request, string(x.Request.Bytes())}, {"body", c.body, string(x.RequestBody)}, {"answer", c.answer, answer},
				{"content", c.content, string(x.ResponseBody)}, {"lost", c.lost, lost(r)}} {
				if p[1] != p[2] {
					t.Errorf("%s\n got %q\nwant %q", p[0], p[2], p[1])
				}
			}
		})
	}
}

func lost(r *convert.Recording) string {
	var all []string
	for _, l := range r.Lost {
		all = append(all, l.String())
	}
	return strings.Join(all, "; ")
}

func TestHAREntriesThatMakeNoSenseAreNamed(t *testing.T) {
	text := "\xef\xbb\xbf" + har(entry(`{"method":"GET","url":"data:text/plain,x","headers":[]}`, answered), entry(get, answered))
	r, err := convert.Read(strings.NewReader(text), convert.Options{})
	if err != nil || len(r.Exchanges) != 1 || r.Exchanges[0].Entry != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if want := "entry 1: left out: the URL is none of http or https; write it as https://host/path"; lost(r) != want {
		t.Errorf("lost %q", lost(r))
	}
	if got := r.Exchanges[0].URL; got != "https://shop.example/a?b=c" {
		t.Errorf("URL %s", got)
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC); !r.Exchanges[0].Time.Equal(want) {
		t.Errorf("time %s", r.Exchanges[0].Time)
	}
}

func TestAHARWithoutItsCookiesIsToldOf(t *testing.T) {
	text := strings.Replace(har(entry(get, answered), entry(get, answered)), `"name":"T"`, `"name":"WebInspector"`, 1)
	r, err := convert.Read(strings.NewReader(text), convert.Options{})
	if err != nil || !strings.Contains(lost(r), "export the HAR with sensitive data") {
		t.Errorf("%v, %v", lost(r), err)
	}
}

// A file larger than what is kept is read to its end, a bit at a time.
func TestHARLimits(t *testing.T) {
	big := `{"status":200,"headers":[],"content":{"text":"` + strings.Repeat("x", convert.MaxBody+1) + `"}}`
	r, err := convert.Read(strings.NewReader(har(entry(get, big), entry(get, answered))), convert.Options{})
	if err != nil || len(r.Exchanges) != 2 {
		t.Fatal(err)
	}
	if x := r.Exchanges[0]; len(x.ResponseBody) != convert.MaxBody || !x.BodyMissing || len(r.Lost) != 1 {
		t.Errorf("%d bytes, missing %v, lost %v", len(x.ResponseBody), x.BodyMissing, r.Lost)
	}
	many := make([]string, convert.MaxExchanges+1)
	for i := range many {
		many[i] = entry(get, answered)
	}
	if r, err = convert.Read(strings.NewReader(har(many...)), convert.Options{}); err != nil || len(r.Exchanges) != convert.MaxExchanges || len(r.Lost) != 1 {
		t.Errorf("%d exchanges, lost %v, %v", len(r.Exchanges), r.Lost, err)
	}
}

func TestNotARecording(t *testing.T) {
	for text, want := range map[string]string{
		"":               "it is empty",
		"{}":             "the JSON has no log",
		`{"log":[]}`:     "there is no { where HAR has one",
		`{"log":{"entr`:  "ends in the middle",
		"<items>":        "unexpected EOF",
		"<?xml?><x></x>": "the XML has no items",
		"hello":          "line 1 is no request line",
		"GET / HTTP/1.1": "it names no host",
		"curl 'x":        "a single quote is not closed",
		"curl -H":        "the option -H has no value",
		"curl -s":        "it names no URL",
		"curl x | sh":    "a pipe or a redirection",
		"curl x; ls":     "a command that is not curl",
	} {
		_, err := convert.Read(strings.NewReader(text), convert.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := convert.Read(strings.NewReader(""), convert.Options{}); !errors.Is(err, convert.ErrFormat) {
		t.Errorf("%v is no ErrFormat", err)
	}
}

// What was written as HAR is read as it was.
func TestWriteHAR(t *testing.T) {
	in, err := convert.Read(strings.NewReader(har(
		entry(`{"method":"POST","url":"https://x/","headers":[{"name":"A","value":"b"}],"postData":{"mimeType":"a/b","encoding":"base64","text":"/wA="}}`,
			`{"status":302,"statusText":"Found","headers":[{"name":"Location","value":"/y"},{"name":"Set-Cookie","value":"a=1"},{"name":"Set-Cookie","value":"b=2"}],"content":{"size":2,"encoding":"base64","text":"/wA="}}`),
		entry(get, `{"status":200,"headers":[],"content":{"size":3,"text":"héj"}}`),
		entry(get, `{"status":0,"headers":[],"content":{}}`))), convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := convert.WriteHAR(&b, "1", in.Exchanges); err != nil {
		t.Fatal(err)
	}
	out, err := convert.Read(&b, convert.Options{})
	if err != nil || out.Creator != "Holdfast 1" || len(out.Exchanges) != 3 {
		t.Fatalf("%v, %+v", err, out)
	}
	for i := range in.Exchanges {
		if got, want := show(&out.Exchanges[i]), show(&in.Exchanges[i]); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// What was written as curl and raw is read as it was, and curl sends it.
func TestWriteCurlAndRaw(t *testing.T) {
	origin, err := testenv.Recorder{Answer: func(int, []byte) testenv.Reply {
		return testenv.Reply{Raw: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}
	}}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	host := "Host: " + origin.Addr
	for _, c := range []struct{ line, fields, body string }{
		{"GET /a/../b?c=[1]{2}'$x", host + "|User-Agent: a 'b' $(c)|Accept: */*|X-Empty:", ""},
		{"HEAD /", host, ""},
		{"POST /", host + "|Content-Length: 0", ""},
		{"DELETE /x", "Host: other.example|Accept: a", ""},
		{"PUT /", host + "|Content-Type: text/plain|X-Odd: é\\'", "@a'b\n$c\\ \xff\x01"},
		{"POST /form", host + "|Accept: x|User-Agent: y|Transfer-Encoding: chunked", "a=b&c=%20"},
		{"GET /", host + "|Accept-Encoding: identity", "a body"},
	} {
		text := c.line + " HTTP/1.1\r\n" + strings.ReplaceAll(c.fields, "|", "\r\n") + "\r\n\r\n" + c.body
		in, err := convert.ParseRaw([]byte(text), false)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(c.line, "..") {
			in.Exchanges[0].URL = "http://" + origin.Addr + "/a/../b?c=[1]{2}'$x"
		}
		if strings.Contains(c.fields, "other.example") {
			in.Exchanges[0].URL = "http://" + origin.Addr + "/x"
		}
		var line, raw bytes.Buffer
		if err := errors.Join(convert.WriteCurl(&line, in.Exchanges), convert.WriteRaw(&raw, &in.Exchanges[0])); err != nil {
			t.Fatal(err)
		}
		again, err := convert.Read(&line, convert.Options{})
		if err != nil || len(again.Lost) > 0 {
			t.Fatalf("%s: %v, %v", line.String(), err, again)
		}
		command := strings.TrimSpace(string(curlOf(t, in.Exchanges)))
		before := len(origin.Requests())
		if out, err := exec.Command("bash", "-c", command+" -s --noproxy '*' --max-time 60").CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		x := &again.Exchanges[0]
		if string(x.Request.Method())+" "+string(x.Request.Target()) != c.line || string(x.RequestBody) != c.body {
			t.Errorf("%s is read as %s", command, show(x))
		}
		sent := sorted(string(origin.Requests()[before]))
		if want := sorted(strings.Replace(text, "Transfer-Encoding: chunked", fmt.Sprintf("Content-Length: %d", len(c.body)), 1)); sent != want {
			t.Errorf("%s\nsends %q\nwant  %q", command, sent, want)
		}
		back, err := convert.ParseRaw(raw.Bytes(), false)
		if err != nil || string(back.Exchanges[0].RequestBody) != c.body || back.Exchanges[0].Request.Has("Transfer-Encoding") {
			t.Errorf("raw: %v, %q", err, raw.String())
		}
	}
	nul, err := convert.ParseRaw([]byte("POST / HTTP/1.1\r\nHost: x\r\n\r\na\x00b"), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := convert.WriteCurl(io.Discard, nul.Exchanges); !errors.Is(err, convert.ErrNoArgument) {
		t.Errorf("a NUL: %v", err)
	}
}

func curlOf(t *testing.T, all []convert.Exchange) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := convert.WriteCurl(&b, all); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sorted is a message with its fields in the order of their names, without the
// lengths that curl adds.
func sorted(message string) string {
	head, body, _ := strings.Cut(message, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "Content-Length:") })
	return strings.Join(append(lines, "", body), "\n")
}

func show(x *convert.Exchange) string {
	s := fmt.Sprintf("%s %s %q %q", x.Time, x.URL, x.Request.Bytes(), x.RequestBody)
	if x.Response != nil {
		s += fmt.Sprintf(" %q %q", x.Response.Bytes(), x.ResponseBody)
	}
	return s
}

func TestBurpItems(t *testing.T) {
	request := "POST /login HTTP/2\r\nHost: shop.example\r\nContent-Length: 3\r\n\r\na=b"
	response := "HTTP/2 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
	item := func(attr, req, resp string) string {
		return `<item><time>Fri Jan 02 03:04:05 UTC 2026</time><url><![CDATA[https://10.0.0.1:8443/login]]></url><host ip="1.2.3.4">x</host>
<request ` + attr + `><![CDATA[` + req + `]]></request><response ` + attr + `><![CDATA[` + resp + `]]></response></item>`
	}
	b64 := base64.StdEncoding.EncodeToString
	for name, text := range map[string]string{
		"base64": `<?xml version="1.0"?><!DOCTYPE items [ <!ELEMENT items (item*)> ]><items burpVersion="2026.1">` + item(`base64="true"`, b64([]byte(request)), b64([]byte(response))) + `</items>`,
		"text":   `<?xml version="1.1"?><items>` + item(`base64="false"`, strings.ReplaceAll(request, "\r\n", "\n"), strings.ReplaceAll(response, "\r\n\r\n2\r\nok\r\n0\r\n\r\n", "\n\nok")) + `</items>`,
	} {
		t.Run(name, func(t *testing.T) {
			r, err := convert.Read(strings.NewReader(text), convert.Options{})
			if err != nil || len(r.Exchanges) != 1 {
				t.Fatal(err, r)
			}
			x := r.Exchanges[0]
			if x.URL != "https://10.0.0.1:8443/login" || string(x.Request.Method()) != "POST" || string(x.RequestBody) != "a=b" || string(x.ResponseBody) != "ok" ||
				x.Response.Status() != 200 || !x.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
				t.Errorf("%s", show(&x))
			}
		})
	}
	r, err := convert.Read(strings.NewReader(`<items>`+item(`base64="true"`, "%", "")+item(`base64="true"`, b64([]byte(request)), "")+`</items>`), convert.Options{})
	if err != nil || lost(r) != "entry 1: left out: it is no base64; entry 2: no answer was recorded" {
		t.Errorf("%v, %v", lost(r), err)
	}
}

func TestRaw(t *testing.T) {
	for text, want := range map[string]string{
		"GET https://x/a HTTP/1.1\n\n":     "https://x/a GET /a HTTP/1.1\r\nHost: x\r\n\r\n|",
		"POST /a HTTP/2\nhost: x\n\na=b\n": "https://x/a POST /a HTTP/1.1\r\nhost: x\r\n\r\n|a=b",
		"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n": "https://x/a POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n|a",
	} {
		r, err := convert.Read(strings.NewReader(text), convert.Options{})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		x := r.Exchanges[0]
		if got := x.URL + " " + string(x.Request.Bytes()) + "|" + string(x.RequestBody); got != want {
			t.Errorf("%q is %q", text, got)
		}
	}
	if r, err := convert.Read(strings.NewReader("GET / HTTP/1.1\nHost: x\n"), convert.Options{Plain: true}); err != nil || r.Exchanges[0].URL != "http://x/" {
		t.Error(err)
	}
}

// TestCurlSendsTheSame has curl send what the command line says, and compares.
func TestCurlSendsTheSame(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("this test needs curl")
	}
	origin, err := testenv.Recorder{Answer: func(int, []byte) testenv.Reply {
		return testenv.Reply{Raw: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}
	}}.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	for _, line := range []string{
		`curl -s 'http://ORIGIN/a?b=c' -H 'X-A: 1' -H "X-B: \"2\" \$x"`,
		`curl -s http://ORIGIN/ -d a=b -d 'c=d e' --data-raw '@x'`,
		`curl -s http://ORIGIN/ --data-urlencode 'a=b c&d' --data-urlencode '=é' --data-urlencode 'x y'`,
		`curl -sG http://ORIGIN/x?y=z -d a=b --data-urlencode 'q=1 2'`,
		`curl -s http://ORIGIN/ --json '{"a":1}' --json '{}'`,
		`curl -s -XPUT -u 'alice:pa:ss' -A agent -e http://ref/ -b 'a=1; b=2' http://ORIGIN/`,
		`curl -s http://ORIGIN/ -H 'X-Empty;' -H 'Accept:' --oauth2-bearer t`,
		"curl -s http://ORIGIN/ \\\n  --data-binary $'a\\nb\\x41\\u00e9'",
		`curl -sI http://ORIGIN/head`,
	} {
		t.Run(line, func(t *testing.T) {
			line = strings.ReplaceAll(line, "ORIGIN", origin.Addr)
			before := len(origin.Requests())
			if out, err := exec.Command("bash", "-c", line+" --noproxy '*' --max-time 60").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			// Which of the two curl writes for a space depends on its version.
			sent := strings.ReplaceAll(string(origin.Requests()[before]), "%20", "+")
			r, err := convert.ParseCurl(line)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Lost) > 0 {
				t.Errorf("lost %v", r.Lost)
			}
			head, body, _ := strings.Cut(sent, "\r\n\r\n")
			x := r.Exchanges[0]
			if string(x.RequestBody) != body {
				t.Errorf("body %q\ncurl %q", x.RequestBody, body)
			}
			var want []string
			for field := range strings.SplitSeq(head, "\r\n") {
				if !strings.HasPrefix(field, "Content-Length:") && (!strings.HasPrefix(field, "User-Agent: curl/")) {
					want = append(want, field)
				}
			}
			if got := strings.TrimSuffix(string(x.Request.Bytes()), "\r\n\r\n"); got != strings.Join(want, "\r\n") {
				t.Errorf("head %q\ncurl %q", got, strings.Join(want, "\r\n"))
			}
		})
	}
}

func TestCurlOfCmd(t *testing.T) {
	for _, line := range []string{
		"curl ^\"https://x/a?b=c^&d=^%^41^\" ^\r\n  -H ^\"X-A: a^\\^\"b^\" ^\r\n  --data-raw ^\"^{^\\^\"a^\\^\":1^\n\n^}^\"",
	} {
		r, err := convert.Read(strings.NewReader(line), convert.Options{})
		if err != nil {
			t.Fatal(err)
		}
		x := r.Exchanges[0]
		if want := "POST /a?b=c&d=%41 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nContent-Type: application/x-www-form-urlencoded\r\nX-A: a\"b\r\n\r\n"; string(x.Request.Bytes()) != want {
			t.Errorf("%q", x.Request.Bytes())
		}
		if want := "{\"a\":1\n}"; string(x.RequestBody) != want {
			t.Errorf("%q", x.RequestBody)
		}
	}
}

func TestCurlSaysWhatItLoses(t *testing.T) {
	r, err := convert.ParseCurl(`curl -L -k -x http://p --cert c -d @f -F 'a=@b;type=x/y' -b jar.txt --frobnicate -u me "x/{a,b}"`)
	if err != nil {
		t.Fatal(err)
	}
	want := "entry 1: option --location: redirects are followed by steps of their own; entry 1: option --proxy: see upstream in the configuration; " +
		"entry 1: option --cert: see origins and resolve in the configuration; entry 1: the content of a file (--data @…); entry 1: the content of a file (--form a=@…); " +
		"entry 1: the cookies of a file (--cookie); entry 1: option --frobnicate; entry 1: the password that curl would ask for (--user); " +
		"entry 1: the pattern in the URL: it is taken as it stands"
	if lost(r) != want {
		t.Errorf("got  %s\nwant %s", lost(r), want)
	}
	if !r.Insecure {
		t.Error("-k is lost")
	}
	if r, err = convert.ParseCurl("curl a -d b --next c\ncurl d"); err != nil || len(r.Exchanges) != 3 || string(r.Exchanges[1].Request.Method()) != "GET" {
		t.Errorf("%v, %+v", err, r)
	}
}

// Whatever it is given, Read ends, and what it returns can be written and read.
func FuzzRead(f *testing.F) {
	for _, text := range []string{har(entry(get, answered)), "curl -d a=b $'x\\u0041' \\\n \"y\"", "curl ^\"https://x^\" ^\r\n -H ^\"a: b^\"",
		"<items><item><url>http://x/</url><request base64=\"true\">R0VUIC8gSFRUUC8xLjENCkhvc3Q6IHgNCg0K</request></item></items>", "POST http://x/ HTTP/1.1\n\na"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := convert.Read(bytes.NewReader(text), convert.Options{})
		if err != nil {
			return
		}
		for i := range r.Exchanges {
			if x := &r.Exchanges[i]; x.Request == nil || !strings.HasPrefix(x.URL, "http") || x.Request.Host() == nil {
				t.Fatalf("an exchange without a request: %+v", x)
			}
		}
		var b bytes.Buffer
		if err := convert.WriteHAR(&b, "1", r.Exchanges); err != nil {
			t.Fatal(err)
		}
		again, err := convert.Read(&b, convert.Options{})
		if err != nil || len(again.Exchanges) != len(r.Exchanges) {
			t.Fatalf("%v: %d exchanges, want %d; lost %v", err, len(again.Exchanges), len(r.Exchanges), again.Lost)
		}
	})
}
