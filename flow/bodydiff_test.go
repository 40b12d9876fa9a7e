package flow_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
)

// edited is a flow whose body was edited; the line about it is returned.
func editedBody(t testing.TB, kind, was, is string) string {
	t.Helper()
	received := request(t, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: "+kind+"\r\n\r\n")
	f := &flow.Flow{Received: received, Request: received}
	f.Edit()
	f.EditedBody([]byte(was), []byte(is))
	lines := f.Changes()
	if len(lines) != 1 {
		t.Fatalf("changes %q", lines)
	}
	return lines[0]
}

func TestChangesOfABodyShowNoValue(t *testing.T) {
	const form, json, xml = "application/x-www-form-urlencoded", "application/json; charset=utf-8", "application/soap+xml"
	part := func(name, value string) string {
		return "--B\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ name, kind, was, is, want string }{
		{"a form", form, "user=secret&csrf=secret-old&pass=secret", "user=secret&csrf=secret-new&pass=secret", "user=…&csrf=***&pass=…"},
		{"a field that was added", form, "user=secret", "user=secret&csrf=secret-new", "user=…&csrf=***"},
		{"two edits far apart", form, "a=secret&f=" + long + "&g=1&h=" + long + "&b=secret", "a=secret1&f=" + long + "&g=1&h=" + long + "&b=secret2", "a=***&f= [...] &b=***"},
		{"a value without a name", form, "c2VjcmV0=&a=secret", "c2VjcmV0=&a=secret1", "…&a=***"},
		{"JSON that says it is a form", form, `{"pass":"secret=x","csrf":"secret="}`, `{"pass":"secret=y","csrf":"secret="}`, "***"},
		{"JSON", json, `{"user": "secret", "n": 12345, "deep": [{"csrf": "secret-old"}, null]}`, `{"user": "secret", "n": 12345, "deep": [{"csrf": "secret-new"}, null]}`,
			`{"user":"…","n":…,"deep":[{"csrf":"***"},…]}`},
		{"JSON with escapes", json, `{"a":"secret\"secret","b":1}`, `{"a":"secret\"secret","b":"secret"}`, `{"a":"…","b":"***"}`},
		{"a form that says it is JSON", json, "user=secret&csrf=secret1", "user=secret&csrf=secret2", "***"},
		{"XML", xml, `<?xml version="1.0"?><e a="secret"><pass>secret</pass><csrf id='secret'>secret-old</csrf></e>`, `<?xml version="1.0"?><e a="secret"><pass>secret</pass><csrf id='secret'>secret-new</csrf></e>`,
			`<?xml version="…"><e a="…"><pass>…</pass><csrf id='…'>***</csrf></e>`},
		{"XML over lines", xml, "<e\n a=\"secret\"\n/><t>secret1</t>", "<e\n a=\"secret\"\n/><t>secret2</t>", `<e a="…"><t>***</t>`},
		{"XML that is none", xml, "<a/b=\"secret\"><t>secret1</t>", "<a/b=\"secret\"><t>secret2</t>", `…<t>***</t>`},
		{"CDATA", xml, "<t><![CDATA[secret<b>1]]></t>", "<t><![CDATA[secret<b>2]]></t>", `<t>***</t>`},
		{"multipart", "multipart/form-data; boundary=B", part("user", "secret") + part("csrf", "secret-old") + "--B--\r\n", part("user", "secret") + part("csrf", "secret-new") + "--B--\r\n",
			"user=…; csrf=***"},
		{"what nobody knows", "text/plain", "token: secret-old!", "token: secret-newer!", "bytes 14 to 18 are ***"},
		{"what is gone", "text/plain", "token: secret!", "token: !", "6 bytes are gone at byte 7"},
		{"behind what is read", json, `{"a":"` + strings.Repeat("x", 20000) + `","csrf":"secret1"}`, `{"a":"` + strings.Repeat("x", 20000) + `","csrf":"secret2"}`,
			"bytes 20022 to 20022 are ***"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := fmt.Sprintf("~ body (%d bytes, now %d): %s", len(c.was), len(c.is), c.want)
			got := editedBody(t, c.kind, c.was, c.is)
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if strings.Contains(got, "secret") || strings.Contains(got, "c2Vj") {
				t.Errorf("a value is shown: %s", got)
			}
		})
	}
}

func TestChangesOfABodyAreBounded(t *testing.T) {
	var was, is strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&was, `,{"name%d":"old"}`, i)
		fmt.Fprintf(&is, `,{"name%d":"new"}`, i)
	}
	if got := editedBody(t, "application/json", was.String(), is.String()); len(got) > 600 {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

// No body makes it fail, whatever the body is said to be.
func FuzzChangesOfABody(f *testing.F) {
	f.Add(uint8(0), "a=", "&b=1")
	f.Add(uint8(1), `{"a":"`, `","b":[1,2`)
	f.Add(uint8(2), `<a b="`, `"><c>d</c`)
	f.Add(uint8(3), "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n", "\r\n--B--")
	f.Fuzz(func(t *testing.T, kind uint8, before, after string) {
		kinds := []string{"application/x-www-form-urlencoded", "application/json", "text/xml", "multipart/form-data; boundary=B", "text/plain"}
		editedBody(t, kinds[int(kind)%len(kinds)], before+"old"+after, before+"newer"+after)
	})
}

func BenchmarkChangesOfABody(b *testing.B) {
	for _, size := range []int{1, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			received := request(b, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n")
			f := &flow.Flow{Received: received, Request: received}
			f.Edit()
			filler := strings.Repeat("x", size)
			f.EditedBody([]byte("user=ann&csrf=old&text="+filler), []byte("user=ann&csrf=newer&text="+filler))
			b.ReportAllocs()
			for b.Loop() {
				f.Changes()
			}
		})
	}
}
