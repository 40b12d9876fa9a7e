package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast-proxy/holdfast/wire"
)

// A vector is a message and what the policies make of it; see
// testdata/vectors/README.md.
type vector struct {
	name, method string
	response     bool
	raw          []byte
	verdicts     []verdict
}

type verdict struct {
	policy wire.Policy
	text   string
}

func loadVectors(tb testing.TB) []vector {
	tb.Helper()
	files, err := filepath.Glob("testdata/vectors/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no vectors: %v", err)
	}
	var all []vector
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		base := filepath.Base(file)
		for i, line := range strings.Split(string(text), "\n") {
			where := fmt.Sprintf("%s:%d", base, i+1)
			switch {
			case strings.HasPrefix(line, "== "):
				name, method, _ := strings.Cut(line[3:], " | ")
				if method == "" {
					method = "GET"
				}
				all = append(all, vector{name: base + "/" + name, method: method, response: strings.HasPrefix(base, "response")})
			case line == "" || len(all) == 0 || strings.HasPrefix(line, "#") && len(all[len(all)-1].verdicts) > 0:
			case strings.HasPrefix(line, "-> "):
				all[len(all)-1].verdicts = append(all[len(all)-1].verdicts, parseVerdict(line[3:]))
			case len(all[len(all)-1].verdicts) > 0:
				tb.Fatalf("%s: bytes after a verdict", where)
			default:
				v := &all[len(all)-1]
				v.raw = append(v.raw, unescape(tb, where, line)...)
			}
		}
	}
	for _, v := range all {
		if len(v.raw) == 0 || len(v.verdicts) == 0 {
			tb.Fatalf("%s: no bytes or no verdict", v.name)
		}
	}
	return all
}

func parseVerdict(s string) verdict {
	if rest, ok := strings.CutPrefix(s, "lenient: "); ok {
		return verdict{wire.Lenient, rest}
	}
	if rest, ok := strings.CutPrefix(s, "raw: "); ok {
		return verdict{wire.Raw, rest}
	}
	return verdict{wire.Strict, s}
}

func unescape(tb testing.TB, where, line string) []byte {
	tb.Helper()
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(line, `"`, `\"`) + `"`)
	if err != nil {
		tb.Fatalf("%s: %v", where, err)
	}
	return []byte(s)
}

// result is what reading one message gave.
type result struct {
	head, body, rest []byte
	framing          wire.Framing
	headErr, bodyErr error
}

func readOne(src io.Reader, response bool, method string, p wire.Policy) (res result) {
	r := wire.NewReader(src, wire.Limits{})
	defer r.Release()
	var req wire.Request
	var resp wire.Response
	if response {
		if res.headErr = r.ReadResponse(&resp); res.headErr == nil {
			res.head = resp.Bytes()
			res.framing, res.headErr = p.Response(&resp, []byte(method))
		}
	} else if res.headErr = r.ReadRequest(&req); res.headErr == nil {
		res.head = req.Bytes()
		res.framing, res.headErr = p.Request(&req)
	}
	if res.headErr != nil {
		return res
	}
	b := r.Body(res.framing)
	for res.bodyErr == nil {
		var piece []byte
		piece, res.bodyErr = b.Next()
		res.body = append(res.body, piece...)
	}
	res.framing = b.Framing()
	if res.bodyErr == io.EOF {
		res.bodyErr = nil
		res.rest, _ = io.ReadAll(r)
	}
	return res
}

// verdictOf words a result as the vectors do, without the notes.
func verdictOf(res result) string {
	var perr *wire.ParseError
	switch {
	case res.headErr == io.ErrUnexpectedEOF || res.bodyErr == io.ErrUnexpectedEOF:
		return "cut"
	case errors.As(res.headErr, &perr):
		return fmt.Sprintf("refuse %d %s", perr.Status, perr.Reason)
	case errors.As(res.bodyErr, &perr):
		return "broken " + perr.Reason
	case res.headErr != nil || res.bodyErr != nil:
		return fmt.Sprint("unexpected error ", res.headErr, res.bodyErr)
	}
	s := res.framing.Kind.String()
	if res.framing.Kind == wire.Length {
		s += fmt.Sprint(" ", res.framing.Length)
	}
	if res.framing.Ambiguous {
		s += ", ambiguous"
	}
	return s
}

func TestVectors(t *testing.T) {
	all := loadVectors(t)
	if len(all) < 60 {
		t.Fatalf("only %d vectors", len(all))
	}
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			for _, want := range v.verdicts {
				whole := readOne(bytes.NewReader(v.raw), v.response, v.method, want.policy)
				checkVerdict(t, v, want, whole)
				bytewise := readOne(iotest.OneByteReader(bytes.NewReader(v.raw)), v.response, v.method, want.policy)
				sameResult(t, whole, bytewise)
			}
		})
	}
}

func checkVerdict(t *testing.T, v vector, want verdict, got result) {
	t.Helper()
	text, note, _ := strings.Cut(want.text, ", notes ")
	text, rest, _ := strings.Cut(text, ", rest ")
	verdict := verdictOf(got)
	if strings.HasPrefix(text, "refuse ") || strings.HasPrefix(text, "broken ") {
		kind, words, _ := strings.Cut(text, " ")
		if kind == "refuse" {
			var status string
			status, words, _ = strings.Cut(words, " ")
			kind += " " + status
		}
		if !strings.HasPrefix(verdict, kind) || !strings.Contains(verdict, words) {
			t.Errorf("policy %d: %q, want %q", want.policy, verdict, text)
		}
		return
	}
	if verdict != text {
		t.Errorf("policy %d: %q (%v), want %q", want.policy, verdict, got.framing.Notes, text)
	}
	if note != "" && !strings.Contains(got.framing.Notes.String(), note) {
		t.Errorf("policy %d: notes %q, want %q among them", want.policy, got.framing.Notes, note)
	}
	if text == "cut" {
		return
	}
	if want := unescape(t, v.name, rest); !bytes.Equal(got.rest, want) {
		t.Errorf("rest %q, want %q", got.rest, want)
	}
	raw := v.raw
	if !v.response {
		raw = bytes.TrimLeft(raw, "\r\n")
	}
	if joined := bytes.Join([][]byte{got.head, got.body, got.rest}, nil); !bytes.Equal(joined, raw) {
		t.Errorf("bytes changed:\n got %q\nwant %q", joined, raw)
	}
}

func sameResult(t testing.TB, a, b result) {
	t.Helper()
	if verdictOf(a) != verdictOf(b) || a.framing != b.framing {
		t.Fatalf("%q %v at once, %q %v byte by byte", verdictOf(a), a.framing, verdictOf(b), b.framing)
	}
	if !bytes.Equal(a.head, b.head) || !bytes.Equal(a.body, b.body) || !bytes.Equal(a.rest, b.rest) {
		t.Fatalf("at once %q %q %q\nbyte by byte %q %q %q", a.head, a.body, a.rest, b.head, b.body, b.rest)
	}
}
