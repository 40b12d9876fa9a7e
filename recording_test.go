package holdfast_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast"
	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/internal/testenv"
)

// recordedWorld is a world whose clients are recorded.
func recordedWorld(t *testing.T, o testenv.Origin, r *holdfast.Recording) *world {
	t.Helper()
	origin, err := o.Start()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, origin: origin, home: t.TempDir(), more: func(c *holdfast.Config) { c.Record = r }}
	t.Cleanup(origin.Close)
	w.start("rules: []\n")
	return w
}

func TestRecording(t *testing.T) {
	for name, o := range map[string]testenv.Origin{"HTTP1": {TLS: true, Gzip: true}, "HTTP2": {TLS: true, HTTP2: true, Gzip: true}} {
		t.Run(name, func(t *testing.T) {
			r := &holdfast.Recording{}
			w := recordedWorld(t, o, r)
			if o.HTTP2 {
				w.client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
			}
			req, err := http.NewRequest("POST", w.origin.URL+"/echo?a=b", io.MultiReader(strings.NewReader("one "), strings.NewReader("two"))) // no length: chunks, or a stream
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "gzip")
			resp, err := w.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if w.get("/big?size=2000000&chunked=1"); t.Failed() {
				return
			}
			w.stop() // all have ended then
			all := r.Exchanges()
			if len(all) != 2 {
				t.Fatalf("%d exchanges", len(all))
			}
			x := all[0]
			if x.Entry != 1 || x.URL != w.origin.URL+"/echo?a=b" || string(x.RequestBody) != "one two" || x.Time.IsZero() {
				t.Errorf("%d %s %q", x.Entry, x.URL, x.RequestBody)
			}
			if x.Response.Status() != 200 || !bytes.Contains(x.ResponseBody, []byte(`"count":7`)) {
				t.Errorf("%d %q", x.Response.Status(), x.ResponseBody)
			}
			if y := all[1]; !y.BodyMissing || len(y.ResponseBody) > holdfast.MaxRecordedBody {
				t.Errorf("a body of 2 MB: %d bytes, cut %v", len(y.ResponseBody), y.BodyMissing)
			}
			var b bytes.Buffer
			if err := r.WriteHAR(&b, "test"); err != nil {
				t.Fatal(err)
			}
			if back, err := convert.Read(&b, convert.Options{}); err != nil || len(back.Exchanges) != 2 {
				t.Errorf("the HAR: %v", err)
			}
		})
	}
}

func TestRecordingOfOneToolAndIdentity(t *testing.T) {
	r := &holdfast.Recording{Tool: "browser", Identity: "alice"}
	origin, err := testenv.Origin{}.Start()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, origin: origin, home: t.TempDir(), more: func(c *holdfast.Config) { c.Record = r }}
	t.Cleanup(origin.Close)
	w.start("identities: {alice: {}, bob: {}}\nrules: []\n")
	for _, who := range []string{"alice+browser", "bob+browser", "alice+scanner", ""} {
		client := w.newClient(who)
		resp, err := client.Get(w.origin.URL + "/echo?" + strings.ReplaceAll(who, "+", "-"))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
	}
	w.stop()
	if all := r.Exchanges(); len(all) != 1 || !strings.HasSuffix(all[0].URL, "?alice-browser") {
		t.Errorf("%d exchanges", len(all))
	}
}

// What is more than a recording holds is counted.
func TestRecordingIsBounded(t *testing.T) {
	r := &holdfast.Recording{Bytes: 10_000}
	w := recordedWorld(t, testenv.Origin{}, r)
	for range 5 {
		w.get("/big?size=3000")
	}
	for range 20 {
		w.get("/status?code=200&fill=" + strings.Repeat("x", 1000))
	}
	w.stop()
	kept, cut := 0, 0
	for _, x := range r.Exchanges() {
		kept += len(x.ResponseBody) + len(x.Request.Bytes())
		if x.BodyMissing {
			cut++
		}
	}
	if kept > 10_000 || cut == 0 || r.Missed() == 0 || len(r.Exchanges())+r.Missed() != 25 {
		t.Errorf("%d bytes of %d exchanges kept, %d cut, %d missed", kept, len(r.Exchanges()), cut, r.Missed())
	}
}
