package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/internal/leak"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/archive"
	"github.com/holdfast-proxy/holdfast/store/storetest"
	"github.com/holdfast-proxy/holdfast/wire"
	"github.com/holdfast-proxy/holdfast/wire/ws"
)

func TestMain(m *testing.M) { leak.Main(m) }

// The credentials of the test. Each stands in several places; "kept" must stay.
const (
	cookie   = "c00kie-sid-value"
	bearer   = "eyJhbGciOi.bearer-value"
	password = "correct/horse+battery"
	short    = "pw12"
	csrf     = "csrf-value-81"
	refresh  = "refresh-value-7"
	stored   = "stored-token-value"
	inURL    = "pass-in-url"
)

func gz(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.Bytes()
}

func body(raw string, kind wire.FramingKind) *store.Body {
	return &store.Body{Raw: []byte(raw), Kind: kind, Size: int64(len(raw))}
}

func exchange(t testing.TB, request, response string) *store.Exchange {
	t.Helper()
	f := &flow.Flow{Tool: "tool", Identity: "alice", Origin: flow.Origin{Host: "shop.example", Port: 443, TLS: true}, Start: time.Unix(1_800_000_000, 5)}
	var err error
	if f.Received, err = wire.ParseRequest([]byte(strings.ReplaceAll(request, "\n", "\r\n") + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	f.Request = f.Received
	if f.Response, err = wire.ParseResponse([]byte(strings.ReplaceAll(response, "\n", "\r\n") + "\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	f.End(f.Start.Add(time.Second), nil)
	return &store.Exchange{Flow: f, State: "alive"}
}

func fill(t testing.TB, s *store.Store) {
	t.Helper()
	h, err := s.StartHistory(store.HistoryOptions{Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	login := exchange(t, "POST /login?kept=query HTTP/1.1\nHost: shop.example", "HTTP/1.1 200 OK\nSet-Cookie: sid="+cookie+"; Path=/kept\nContent-Encoding: gzip")
	login.Received = body("user=kept-alice&password=correct%2Fhorse%2Bbattery&pin="+short, wire.Length)
	login.Response = body(string(gz(`{"access_token":"`+bearer+`","token_type":"kept-type","refresh_token": "`+refresh+`","x":"kept-json"}`)), wire.Length)
	// The values of other flows, where nothing names them, and across chunks.
	page := exchange(t, "GET /a/"+csrf+"/kept HTTP/1.1\nHost: shop.example\nCookie: theme=dark; sid="+cookie+"\nAuthorization: Bearer "+bearer+"\nX-CSRF-Token: "+csrf,
		"HTTP/1.1 200 OK\nX-Echo: kept "+stored+"\nTransfer-Encoding: chunked")
	page.Response = body(fmt.Sprintf("8\r\nkept %s\r\n%x\r\n%s\r\n0\r\nX-T: %s\r\n\r\n", bearer[:3], len(bearer)-3, bearer[3:], cookie), wire.Chunked)
	page.Messages = []store.Message{{Time: page.Flow.Start, Opcode: ws.OpText, Size: 5, Data: []byte("kept message " + base64.StdEncoding.EncodeToString([]byte(refresh)))}}
	page.Flow.Trace.Add(flow.Event{Actor: "rule", Action: flow.ActionInject, Detail: "kept " + password + " http://bob:" + inURL + "@kept.example/"})
	page.Flow.Earlier = []flow.Attempt{{Request: page.Flow.Received.Clone(), Body: []byte("kept " + refresh), Reason: "401"}}
	large := exchange(t, "GET /large HTTP/1.1\nHost: shop.example\nAuthorization: Basic "+base64.StdEncoding.EncodeToString([]byte("bob:"+password)), "HTTP/1.1 200 OK")
	large.Response = body(strings.Repeat("kept large ", 2000)+cookie, wire.UntilClose)
	for _, x := range []*store.Exchange{login, page, large} {
		h.Record(x, held(x, h))
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	value := fmt.Sprintf(`{"Name":"TOKEN","Value":%q}`, base64.StdEncoding.EncodeToString([]byte(stored)))
	if err := s.Save(t.Context(), store.Row{Kind: "token", Owner: "alice", Name: "1", Version: 7, Fence: 3, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
}

// held asks for room for the bodies, as who collects them does.
func held(x *store.Exchange, h *store.History) (n int64) {
	for _, b := range []*store.Body{x.Received, x.Sent, x.Response} {
		if b != nil {
			n += int64(len(b.Raw))
		}
	}
	h.Hold(n)
	return n
}

func flows(t testing.TB, s *store.Store) []*store.Stored {
	t.Helper()
	all, err := s.Flows(t.Context(), 0, 100, false)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// everything is what an archive says, and what its flows say when decoded.
func everything(t testing.TB, s *store.Store, raw []byte) string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows(t, s) {
		r := f.Record()
		plain = append(append(plain, r.ResponseBody...), r.RequestBody...)
	}
	return string(plain)
}

func TestWithoutSecrets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := storetest.File(t).Open(t, store.Options{})
		fill(t, s)
		var out bytes.Buffer
		counts, more, err := archive.Write(t.Context(), &out, s, archive.WriteOptions{})
		if err != nil || more || counts != (archive.Counts{Flows: 3}) {
			t.Fatalf("%+v %v %v", counts, more, err)
		}
		there := p.Open(t, store.Options{})
		if counts, err := archive.Read(t.Context(), &out, there, archive.ReadOptions{}); err != nil || counts.Flows != 3 {
			t.Fatalf("%+v %v", counts, err)
		}
		out.Reset()
		if _, _, err := archive.Write(t.Context(), &out, there, archive.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		text := everything(t, there, out.Bytes())
		for _, secret := range []string{cookie, bearer, password, "horse", short, csrf, refresh, stored, inURL, base64.StdEncoding.EncodeToString([]byte(refresh)),
			base64.StdEncoding.EncodeToString([]byte("bob:" + password))} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is in the archive", secret)
			}
		}
		for _, kept := range []string{"kept=query", "user=kept-alice&password=*", "kept-type", "kept-json", "/kept HTTP/1.1", "theme=****; sid=***", "Bearer ***", "kept ****",
			"kept message ***", "kept large kept", "Path=/kept", "X-Echo: kept ***", "http://bob:***********@kept.example/", "shop.example", "node-1"} {
			if !strings.Contains(text, kept) {
				t.Errorf("%s is gone", kept)
			}
		}
		found := flows(t, there)
		if len(found) != 3 || string(found[1].Record().ResponseBody) != "kept "+strings.Repeat("*", len(bearer)) || found[0].Flow.Request != found[0].Flow.Received {
			t.Errorf("the flows do not read: %q", found[1].Record().ResponseBody)
		}
		if rows, err := there.LoadAll(t.Context()); err != nil || len(rows) > 0 {
			t.Errorf("%v %v", rows, err)
		}
	})
}

func TestWithSecrets(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p storetest.Project) {
		s := p.Open(t, store.Options{})
		fill(t, s)
		recipient, err := age.NewScryptRecipient("a passphrase")
		if err != nil {
			t.Fatal(err)
		}
		recipient.SetWorkFactor(10)
		if _, _, err := archive.Write(t.Context(), io.Discard, s, archive.WriteOptions{Secrets: true}); err == nil {
			t.Error("secrets were written in the clear")
		}
		var out bytes.Buffer
		if counts, _, err := archive.Write(t.Context(), &out, s, archive.WriteOptions{Secrets: true, Recipients: []age.Recipient{recipient}}); err != nil || counts != (archive.Counts{Flows: 3, State: 1}) {
			t.Fatalf("%+v %v", counts, err)
		}
		there := storetest.File(t).Open(t, store.Options{Key: bytes.Repeat([]byte{7}, 32)})
		read := func(passphrase string) error {
			var all []age.Identity
			if passphrase != "" {
				i, err := age.NewScryptIdentity(passphrase)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, i)
			}
			_, err := archive.Read(t.Context(), bytes.NewReader(out.Bytes()), there, archive.ReadOptions{Identities: all})
			return err
		}
		if err := read(""); !errors.Is(err, archive.ErrEncrypted) {
			t.Error(err)
		}
		if err := read("another"); !errors.Is(err, archive.ErrNoKey) {
			t.Error(err)
		}
		if err := read("a passphrase"); err != nil {
			t.Fatal(err)
		}
		if err := read("a passphrase"); !errors.Is(err, store.ErrNotEmpty) {
			t.Error(err)
		}
		was, is := flows(t, s), flows(t, there)
		for i := range was {
			if !bytes.Equal(was[i].Encode(nil), is[i].Encode(nil)) {
				t.Errorf("flow %d is another", i)
			}
		}
		rows, err := there.LoadAll(t.Context())
		before, err2 := s.LoadAll(t.Context())
		if err != nil || err2 != nil || len(rows) != 1 || string(rows[0].Value) != string(before[0].Value) || rows[0].Version != 7 || rows[0].Fence != 0 {
			t.Errorf("%+v %v %v", rows, err, err2)
		}
	})
}

// tarred is an archive of these entries.
func tarred(entries ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: entries[i], Size: int64(len(entries[i+1]))})
		w.Write([]byte(entries[i+1]))
	}
	w.Close()
	return gz(b.String())
}

// TestRefused has archives that are not whole, and what is none. Nothing of them
// stays in the project.
func TestRefused(t *testing.T) {
	s := storetest.File(t).Open(t, store.Options{})
	fill(t, s)
	var out bytes.Buffer
	if _, _, err := archive.Write(t.Context(), &out, s, archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	turned := bytes.Clone(whole)
	turned[len(turned)-6] ^= 1 // of the checksum
	const begin = `{"format":"holdfast-project","version":1}`
	there := storetest.File(t).Open(t, store.Options{})
	for name, is := range map[string]struct {
		raw  []byte
		most int64
		want error
	}{
		"nothing":          {nil, 0, archive.ErrForeign},
		"text":             {[]byte("this is no archive"), 0, archive.ErrForeign},
		"gzip of text":     {gz(strings.Repeat("no tar", 1000)), 0, archive.ErrForeign},
		"another tar":      {tarred("a", "b"), 0, archive.ErrForeign},
		"newer":            {tarred("manifest.json", `{"format":"holdfast-project","version":2}`), 0, archive.ErrNewer},
		"no end":           {tarred("manifest.json", begin), 0, archive.ErrDamaged},
		"wrong end":        {tarred("manifest.json", begin, "end.json", `{"flows":1}`), 0, archive.ErrDamaged},
		"no flow":          {tarred("manifest.json", begin, "flows/1", "xyz", "end.json", `{"flows":1}`), 0, archive.ErrDamaged},
		"a stranger":       {tarred("manifest.json", begin, "../../etc/passwd", "x", "end.json", `{}`), 0, archive.ErrDamaged},
		"rows in disguise": {tarred("manifest.json", begin, "state/1", `{"kind":"token","value":"eA=="}`, "end.json", `{"state":1}`), 0, archive.ErrDamaged},
		"half":             {whole[:len(whole)/2], 0, archive.ErrDamaged},
		"all but a byte":   {whole[:len(whole)-1], 0, archive.ErrDamaged},
		"a turned bit":     {turned, 0, archive.ErrDamaged},
		"too large":        {whole, 20 << 10, archive.ErrTooLarge},
		"bomb":             {tarred("manifest.json", begin, "flows/1", strings.Repeat("\x00", 8<<20)), 1 << 20, archive.ErrTooLarge},
	} {
		if _, err := archive.Read(t.Context(), bytes.NewReader(is.raw), there, archive.ReadOptions{MaxSize: is.most}); !errors.Is(err, is.want) {
			t.Errorf("%s: %v, want %v", name, err, is.want)
		}
		if f, err := there.Figures(t.Context()); err != nil || f.Flows != 0 || f.State != 0 {
			t.Fatalf("%s: %+v %v", name, f, err)
		}
	}
	if _, err := archive.Read(t.Context(), bytes.NewReader(whole), there, archive.ReadOptions{}); err != nil {
		t.Error(err)
	}
}

// TestDelete deletes a project that nobody has open.
func TestDelete(t *testing.T) {
	p := storetest.File(t)
	s := p.Open(t, store.Options{})
	fill(t, s)
	if err := store.Delete(t.Context(), p.DSN); err == nil || !strings.Contains(err.Error(), "is in use") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("a project in use was deleted: %v", err)
	}
	if len(flows(t, s)) != 3 {
		t.Error("flows are gone")
	}
	s.Close()
	if err := store.Delete(t.Context(), p.DSN); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(p.DSN + "*"); len(left) > 0 {
		t.Error(left)
	}
}

// FuzzFlow imports what may be no flow.
func FuzzFlow(f *testing.F) {
	open := func() *store.Store {
		s, err := store.Open(f.Context(), store.Options{DSN: storetest.File(f).DSN, Key: make([]byte, 32)})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { s.Close() })
		return s
	}
	there, full := open(), open()
	fill(f, full)
	for _, stored := range flows(f, full) {
		f.Add(stored.Encode(nil))
	}
	f.Add([]byte{0})
	enough := errors.New("enough")
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := store.DecodeStored(raw)
		if err != nil {
			return
		}
		if again, err := store.DecodeStored(s.Encode(nil)); err != nil || again == nil {
			t.Errorf("a flow that was read cannot be read again: %v", err)
		}
		err = there.Import(t.Context(), func(im *store.Import) error {
			if err := im.Flow(s); err != nil {
				return err
			}
			return enough
		})
		if !errors.Is(err, enough) {
			t.Error(err)
		}
	})
}
