package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-proxy/holdfast/control"
)

// A terminal of 80 columns has a flow in one line, with what happened to it and
// its path rather than its origin; a file has all of it.
func TestFlowsFitIntoATerminal(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	short := control.Flow{ID: 4711, Time: at, Tool: "proxy", Identity: "alice", Status: 200, Length: 58, Method: "GET", URL: "http://127.0.0.1:18777/items/4", Flags: []string{"resent", "recovered", "rules"}}
	long := control.Flow{ID: 4712, Time: at, Tool: "ffuf", Status: 404, Method: "POST", URL: "https://shop.example/" + strings.Repeat("é/", 200)}
	for width, want := range map[int]string{
		80: "    ID TIME     TOOL    IDENTITY  ST METHOD URL\n" +
			"  4711 03:04:05 proxy   alice   200 GET    …/items/4  resent,recovered\n" +
			"  4712 03:04:05 ffuf    -       404 POST   …/" + strings.Repeat("é/", 17) + "…\n",
		120: "      ID  TIME            TOOL     IDENTITY  ST    LENGTH  METHOD  URL\n" +
			"    4711  01-02 03:04:05  proxy    alice    200        58  GET     http://127.0.0.1:18777/items/4  resent,recovered\n" +
			"    4712  01-02 03:04:05  ffuf     -        404         0  POST    https://shop.example/" + strings.Repeat("é/", 15) + "é…\n",
		0: "      ID  TIME            TOOL     IDENTITY  ST    LENGTH  METHOD  URL\n" +
			"    4711  01-02 03:04:05  proxy    alice    200        58  GET     http://127.0.0.1:18777/items/4  resent,recovered\n" +
			"    4712  01-02 03:04:05  ffuf     -        404         0  POST    " + long.URL + "\n",
	} {
		var out bytes.Buffer
		p := &flowPrinter{out: &out, width: width}
		for _, f := range []*control.Flow{&short, &long} {
			if err := p.print(f); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != want {
			t.Errorf("%d columns:\n%s\nwant\n%s", width, &out, want)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
				t.Errorf("%d columns have a line of %d: %s", width, n, line)
			}
		}
	}
}
