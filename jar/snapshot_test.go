package jar_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-proxy/holdfast/jar"
)

func restored(t testing.TB, from *jar.Jar) *jar.Jar {
	t.Helper()
	data, _, err := from.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	to := jar.New(jar.Options{})
	refused, err := to.Restore(data)
	if err != nil || len(refused) > 0 {
		t.Fatal(err, refused)
	}
	return to
}

func TestSnapshotIsTheIdentity(t *testing.T) {
	from := filled(t)
	to := restored(t, from)
	if diff := cmp.Diff(from.All(), to.All()); diff != "" {
		t.Error(diff)
	}
	a, version, _ := from.Snapshot()
	b, again, _ := to.Snapshot()
	if !bytes.Equal(a, b) || version != again || version != from.Version() || to.LastOrder() != from.LastOrder() {
		t.Errorf("got %s\nwant %s", b, a)
	}
}

// What must not be lost in a restart, in terms of what it does.
func TestRestoredJarBehaves(t *testing.T) {
	from := filled(t)
	version := from.Version()
	to := restored(t, from)
	for _, c := range []struct {
		name  string
		order uint64
		line  string
		want  jar.Kind
	}{
		{"order of a cookie", 2, "plain=late; Path=/app", jar.Stale},
		{"order of a removed cookie", 4, "gone=late", jar.Stale},
		{"requests shut out", 1, "other=1", jar.Stale},
		{"a later answer", 7, "plain=new; Path=/app", jar.Updated},
	} {
		if got := set(t, to, "https://www.shop.example/", c.order, c.line)[0]; got.Kind != c.want {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
	if to.Version() <= version {
		t.Errorf("version: got %d, want more than %d", to.Version(), version)
	}
	// Host-only stays host-only.
	if got := sent(t, to, "https://sub.www.shop.example/app/"); got != "wide=2" {
		t.Errorf("below a host-only domain: got %q, want %q", got, "wide=2")
	}
	last := from.All()[from.Len()-1].ID
	if got := set(t, to, "https://www.shop.example/", 8, "fresh=1")[0].Cookie.ID; got <= last {
		t.Errorf("ID: got %d, want more than %d", got, last)
	}
}

func TestRestoreRefuses(t *testing.T) {
	const head = `{"format":"holdfast-jar","version":1,"jar_version":9,"last_id":5,"last_order":9,"cookies":[`
	cookie := func(id, domain, name string) string {
		return `{"id":` + id + `,"name":"` + name + `","value":"1","domain":"` + domain + `","host_only":false,"path":"/","secure":false,"http_only":false,` +
			`"updated":"2026-05-04T12:00:00Z","last_access":"2026-05-04T12:00:00Z","order":1,"version":1}`
	}
	j := jar.New(jar.Options{})
	set(t, j, "https://shop.example/", 1, "before=1")
	for _, src := range []string{"", "{}", "[]", strings.Replace(head, `"version":1`, `"version":2`, 1) + "]}", head + "]} x"} {
		if _, err := j.Restore([]byte(src)); err == nil {
			t.Errorf("%q: got no error", src)
		}
		wantSent(t, j, "https://shop.example/", "before=1")
	}
	refused, err := j.Restore([]byte(head + strings.Join([]string{
		cookie("1", "shop.example", "a"), cookie("2", "co.uk", "suffix"), cookie("1", "shop.example", "id"),
		cookie("3", "shop.example", "a"), cookie("6", "shop.example", "beyond"),
	}, ",") + "]}"))
	if err != nil || len(refused) != 4 {
		t.Errorf("got %v %v, want four refused", refused, err)
	}
	wantSent(t, j, "https://shop.example/", "a=1")
}
