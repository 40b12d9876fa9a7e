package flow_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
)

func TestChangesShowNoValue(t *testing.T) {
	received := request(t, "POST /a/old-secret?q=keep-secret&csrf=old-secret HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer old-secret\r\nCookie: theme=keep-secret; sid=old-secret\r\nX-Gone: gone-secret\r\nX-Two: same\r\nX-Two: other-secret\r\n\r\n")
	f := &flow.Flow{Received: received, Request: received, ShownPath: "/a/{{ID}}"}
	if got := f.Changes(); got != nil {
		t.Errorf("an untouched request has changes %q", got)
	}
	sent := f.Edit()
	for name, value := range map[string]string{"Authorization": "Bearer new-secret", "Cookie": "theme=keep-secret; sid=new-secret"} {
		if err := sent.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := sent.SetTarget([]byte("/a/new-secret?q=keep-secret&csrf=new-secret&flag")); err != nil {
		t.Fatal(err)
	}
	sent.Del("X-Gone")
	if err := sent.Add("X-Api", "new-secret"); err != nil {
		t.Fatal(err)
	}
	got := f.Changes()
	want := []string{"~ POST /a/{{ID}}?q=…&csrf=***&***", "~ Authorization: Bearer ***", "~ Cookie: theme=…; sid=***", "+ X-Api: ***", "- X-Gone: ***"}
	if !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
	if strings.Contains(strings.Join(got, "\n"), "secret") {
		t.Errorf("a value is shown in %q", got)
	}
}
