package store_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/store/storetest"
	"github.com/holdfast-proxy/holdfast/wire"
)

// site makes flows as a shop with an API has them: a few hosts, some hundred
// paths, heads and bodies of one to two kilobytes, tokens that are never the
// same.
type site struct {
	gen
	n int
}

const prose = `the session order account customer address shipping payment product category review price stock available between
 after before delivery returned refund expected window document function return value string number object array index
 market winter summer garden kitchen outdoor camera battery charger cable screen display memory storage network adapter
 quality warranty support contact service question answer today tomorrow yesterday morning evening minute second hour
 password username email register account profile settings language country currency newsletter subscribe checkout basket
 wishlist compare search results filter sort page next previous first last total discount voucher gift card invoice`

func (s *site) words(n int) string {
	all := strings.Fields(prose)
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(all[s.IntN(len(all))])
	}
	return b.String()
}

func (s *site) token(n int) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, n)
	for i := range b {
		b[i] = digits[s.IntN(len(digits))]
	}
	return string(b)
}

func (s *site) json(items int) string {
	var b strings.Builder
	b.WriteString(`{"total":`)
	fmt.Fprint(&b, s.IntN(5000), `,"items":[`)
	for i := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"name":"%s","price":%d.%02d,"stock":%d,"sku":"%s","updated":"2026-%02d-%02dT%02d:%02d:00Z"}`,
			s.IntN(100000), s.words(3), s.IntN(900), s.IntN(100), s.IntN(500), s.gen.hex(8), 1+s.IntN(12), 1+s.IntN(28), s.IntN(24), s.IntN(60))
	}
	b.WriteString(`]}`)
	return b.String()
}

func (g gen) hex(n int) string { return fmt.Sprintf("%0*x", n, g.Uint64()>>(64-4*n)) }

// next is the next flow. Every 100,000th has a rare text in its request.
func (s *site) next(t testing.TB) *store.Exchange {
	s.n++
	host := fmt.Sprintf("%s%d.shop.example", pick(s.gen, "www", "api", "static", "img"), s.IntN(10))
	path := fmt.Sprintf("/%s/%s/%d", pick(s.gen, "api/v1", "api/v2", "shop", "account"), pick(s.gen, "products", "orders", "customers", "cart", "reviews", "search"), s.IntN(20000))
	method := pick(s.gen, "GET", "GET", "GET", "GET", "POST", "PUT", "OPTIONS", "DELETE")
	status := pick(s.gen, "200 OK", "200 OK", "200 OK", "200 OK", "200 OK", "304 Not Modified", "302 Found", "404 Not Found", "401 Unauthorized")
	if s.n%5000 == 0 {
		status = "503 Service Unavailable"
	}
	f := &flow.Flow{Tool: pick(s.gen, "proxy", "proxy", "scanner", "fuzz"), Identity: pick(s.gen, "alice", "bob"),
		Origin: flow.Origin{TLS: true, Host: host, Port: 443}, Start: time.Unix(1_800_000_000, 0).Add(time.Duration(s.n) * 37 * time.Millisecond)}
	binary.BigEndian.PutUint64(f.ID[:], uint64(s.n))
	x := &store.Exchange{Flow: f, State: "alive"}
	head := method + " " + path + "?q=" + strings.ReplaceAll(s.words(2), " ", "+") + " HTTP/1.1\r\nHost: " + host +
		"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: https://" + host + "/" +
		"\r\nCookie: sid=" + s.token(32) + "; lang=en\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9." + s.token(160) + "\r\n"
	if s.n%100_000 == 77_777 {
		head += "X-Debug: quartz-" + s.gen.hex(6) + "\r\n"
	}
	if method == "POST" || method == "PUT" {
		text := s.json(2)
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(text))
		x.Received = body(text, wire.Length)
	}
	f.Received = parsed(t, wire.ParseRequest, head+"\r\n")
	f.Request = f.Received
	text := s.json(4 + s.IntN(8))
	kind := "application/json"
	if s.one(3) {
		kind = "text/html; charset=utf-8"
		text = "<!doctype html><html><head><title>" + s.words(4) + "</title><link rel=\"stylesheet\" href=\"/static/app.css\"></head><body><h1>" + s.words(5) + "</h1><p>" +
			s.words(60+s.IntN(150)) + "</p><form action=\"/cart\" method=\"post\"><input type=\"hidden\" name=\"csrf\" value=\"" + s.token(43) + "\"></form></body></html>"
	}
	if strings.HasPrefix(status, "401") {
		text = `{"error":"token expired","request":"` + s.gen.hex(16) + `"}`
	}
	f.Response = parsed(t, wire.ParseResponse, "HTTP/1.1 "+status+"\r\nDate: "+f.Start.UTC().Format(time.RFC1123)+"\r\nServer: nginx\r\nContent-Type: "+kind+
		fmt.Sprintf("\r\nContent-Length: %d\r\nX-Request-Id: %s\r\nCache-Control: no-store\r\nStrict-Transport-Security: max-age=31536000\r\nETag: \"%s\"\r\n\r\n", len(text), s.gen.hex(16), s.gen.hex(8)))
	x.Response = body(text, wire.Length)
	f.Sent = f.Start.Add(200 * time.Microsecond)
	f.Answered = f.Sent.Add(time.Duration(s.IntN(300)) * time.Millisecond)
	f.End(f.Answered.Add(time.Millisecond), nil)
	return x
}

// BenchmarkFlows writes many flows into a file and asks ten questions about
// them. HOLDFAST_FLOWS is how many, HOLDFAST_PROJECT a file that is kept, and
// not written again.
func BenchmarkFlows(b *testing.B) {
	flows := number(b, "HOLDFAST_FLOWS", 20_000)
	path := os.Getenv("HOLDFAST_PROJECT")
	p := storetest.File(b)
	if path != "" {
		p.DSN = path
	}
	_, err := os.Stat(p.DSN)
	s := p.Open(b, store.Options{})
	if err != nil {
		fmt.Println(fill(b, s, flows))
	}
	size := int64(0)
	for _, end := range []string{"", "-wal"} {
		if info, err := os.Stat(filepath.Clean(p.DSN + end)); err == nil {
			size += info.Size()
		}
	}
	b.ReportMetric(float64(size)/float64(flows), "B/flow")
	fmt.Printf("%d MB, %.0f bytes for a flow\n", size>>20, float64(size)/float64(flows))
	for _, q := range []struct{ name, query string }{
		{"host", `req.host.eq:"api3.shop.example"`},
		{"host that is not there", `req.host.eq:"admin.shop.example"`},
		{"status", `resp.code.gte:500`},
		{"status that is not there", `resp.code.eq:418`},
		{"time", `req.created_at.gt:"2027-01-15T08:10:00Z" AND req.created_at.lt:"2027-01-15T08:10:10Z"`},
		{"method and path", `req.method.eq:"DELETE" AND req.path.like:"%/orders/77"`},
		{"rare request text", `req.raw.cont:"x-debug: quartz"`},
		{"common response text", `resp.raw.cont:"token expired"`},
		{"absent text, common trigrams", `resp.raw.cont:"total shipping total shipping total shipping"`},
		{"absent request text", `req.raw.cont:"no such text anywhere"`},
		{"regex", `req.raw.regex:/(?i)x-debug: quartz-[0-9a-f]{6}/`},
		{"header", `req.header["X-Debug"].cont:"quartz"`},
		{"several", `req.host.cont:"api" AND resp.code.eq:200 AND req.raw.cont:"quartz-"`},
		{"everything", ``},
	} {
		query, err := httpql.Parse(q.query)
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		page, err := s.Search(b.Context(), store.Search{Query: query, Within: limit})
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(begun)
		fmt.Printf("%-30s %8.1f ms  %4d found, %6d blocks, %7d flows judged, %6d by their bodies\n", q.name, float64(took.Microseconds())/1000, len(page.Flows), page.Blocks, page.Rows, page.Bodies)
	}
	for b.Loop() { // the time of the first question, once more
		if _, err := s.Search(b.Context(), store.Search{}); err != nil {
			b.Fatal(err)
		}
	}
}

func fill(b *testing.B, s *store.Store, flows int) string {
	h := history(b, s, store.HistoryOptions{})
	from := &site{gen: gen{rand.New(rand.NewPCG(1, 1))}}
	begun := time.Now()
	for range flows {
		x := from.next(b)
		for h.Stats().Waiting > store.DefaultQueueFlows/2 {
			runtime.Gosched()
		}
		h.Record(x, 0)
	}
	flush(b, h)
	took := time.Since(begun)
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(flows)/took.Seconds(), "written/s")
	return fmt.Sprintf("%d flows written in %v: %.0f a second, making them included", flows, took.Round(time.Millisecond), float64(flows)/took.Seconds())
}
