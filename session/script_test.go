package session_test

import (
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/script"
)

func program(t *testing.T, text string) *script.Program {
	t.Helper()
	p, err := script.Compile(script.Source{Name: "sign.js", Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func scripted(t *testing.T, text string) rule.Action {
	return rule.Action{RunScript: &rule.RunScript{Script: program(t, text)}}
}

func TestActionRunScript(t *testing.T) {
	o := newOrigin()
	h := o.listen("/x")
	s := newSetup(t, o, acts(scripted(t, `
		if (request.query === "fail") throw new Error("no key");
		request.headers.add("X-Signed-By", "sign");
		variables.set("SEEN", request.path);`)))
	p := s.start(t, o)
	r := p.get("/x")
	p.want(r, 200)
	if got := h.last(); got != "GET /x HTTP/1.1\nHost: o\nX-Signed-By: sign\n\n" || !r.traced("inject run_script: sign.js changed header x-signed-by, variable SEEN") {
		t.Errorf("the origin got %q; trace %+v", got, r.flow.Trace.Events)
	}
	r = p.get("/x?fail")
	if r.failed == nil || r.failed.Reason != flow.ReasonScript || len(h.sent) != 1 || !r.traced("refuse sign.js:2: Error: no key") {
		t.Errorf("%d were sent; trace %+v", len(h.sent), r.flow.Trace.Events)
	}
}

// With on_failure: pass the request goes on as it was before the script.
func TestActionRunScriptPasses(t *testing.T) {
	o := newOrigin()
	h := o.listen("/x")
	a := acts(scripted(t, `request.headers.set("A", "1"); variables.set("V", "1"); request.path = "/y"; nothing()`))
	a.OnFailure = rule.FailPass
	p := newSetup(t, o, a).start(t, o)
	r := p.get("/x")
	p.want(r, 200)
	if got := h.last(); got != "GET /x HTTP/1.1\nHost: o\n\n" || !r.traced("note the request goes on without what the action would bring (on_failure: pass): sign.js:1: ReferenceError: nothing is not defined") {
		t.Errorf("the origin got %q; trace %+v", got, r.flow.Trace.Events)
	}
}

// What a script logs holds no variable, no token and no cookie, however it is
// written.
func TestScriptLogIsRedacted(t *testing.T) {
	o := newOrigin()
	o.listen("/x")
	s := newSetup(t, o, acts(scripted(t, `
		let v = variables.get("PASS");
		log("plain", v, "url", encodeURIComponent(v), "b64", btoa(v), "hex", crypto.hex.encode(v), {v});
		console.log(request.headers.get("authorization"));
		variables.set("NEW", "new-secret"); log("new-secret");
		throw new Error("with " + v)`)))
	s.Variables = map[string]string{"PASS": "p@ss \"word"}
	p := s.start(t, o)
	r := p.get("/x")
	if r.failed == nil || r.failed.Reason != flow.ReasonScript || strings.Contains(r.failed.Error(), "p@ss") {
		t.Error(r.failed)
	}
	said := 0
	for _, e := range r.flow.Trace.Events {
		if strings.Contains(e.Detail, "script sign.js: ") {
			said++
		}
		for _, secret := range []string{"p@ss", "p%40ss", "cEBzcyAi", "7040737320", "new-secret"} {
			if strings.Contains(e.Detail, secret) {
				t.Errorf("%s is in the trace: %s", secret, e.Detail)
			}
		}
	}
	if said != 3 || !r.traced("refuse sign.js:6: Error: with ***") || !r.traced("log script sign.js: plain *** url *** b64 *** hex *** {\"v\":\"***\"}") {
		t.Errorf("%d lines; trace %+v", said, r.flow.Trace.Events)
	}
}
