package flow_test

import (
	"errors"
	"io"
	"testing"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/wire"
)

// pieces is a body of given pieces, with the error that comes with each.
type pieces struct {
	list    []string
	errs    []error
	framing wire.Framing
	ready   bool
}

func (p *pieces) Next() ([]byte, error) {
	if len(p.list) == 0 {
		return nil, io.EOF
	}
	piece, err := p.list[0], p.errs[0]
	p.list, p.errs = p.list[1:], p.errs[1:]
	return []byte(piece), err
}

func (p *pieces) Framing() wire.Framing { return p.framing }
func (p *pieces) Close() error          { return nil }
func (p *pieces) Ready() bool           { return p.ready }

func TestPeek(t *testing.T) {
	broken := errors.New("the connection broke")
	length := func(n int64) wire.Framing { return wire.Framing{Kind: wire.Length, Length: n} }
	for _, c := range []struct {
		name string
		body pieces
		want string
		ok   bool
		left int // pieces that nobody has read
	}{
		{"in pieces", pieces{list: []string{"ab", "c", ""}, errs: []error{nil, nil, io.EOF}, framing: length(3)}, "abc", true, 0},
		{"a stream that says its length", pieces{list: []string{"abc"}, errs: []error{io.EOF}, framing: wire.Framing{Kind: wire.Stream, Length: 3}}, "abc", true, 0},
		{"a stream that does not", pieces{list: []string{"abc"}, errs: []error{io.EOF}, framing: wire.Framing{Kind: wire.Stream}}, "", false, 1},
		{"chunked", pieces{list: []string{"3\r\nabc\r\n0\r\n\r\n"}, errs: []error{io.EOF}, framing: wire.Framing{Kind: wire.Chunked}}, "", false, 1},
		{"too long", pieces{list: []string{"abcdefghi"}, errs: []error{io.EOF}, framing: length(9)}, "", false, 1},
		{"longer than it said", pieces{list: []string{"abc", "defghi", "jk"}, errs: []error{nil, nil, io.EOF}, framing: length(3)}, "abcdefghi", false, 1},
		{"broken off", pieces{list: []string{"ab"}, errs: []error{broken}, framing: length(3)}, "ab", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := ""
			for _, piece := range c.body.list {
				all += piece
			}
			f := &flow.Flow{RequestBody: &c.body}
			for range 2 { // the second one finds what the first one read
				body, ok := f.Peek(8)
				if string(body) != c.want || ok != c.ok {
					t.Fatalf("Peek: %q, %v; want %q, %v", body, ok, c.want, c.ok)
				}
			}
			if len(c.body.list) != c.left {
				t.Errorf("%d pieces are left, want %d", len(c.body.list), c.left)
			}
			if w, waits := f.RequestBody.(interface{ Ready() bool }); !waits || len(c.want) > 0 && !w.Ready() {
				t.Error("the body is not ready, want it to be")
			}
			got, failed := "", error(nil)
			for failed == nil {
				var piece []byte
				piece, failed = f.RequestBody.Next()
				got += string(piece)
			}
			if got != all || c.name == "broken off" != (failed == broken) {
				t.Errorf("the body is %q and %v afterwards, want %q", got, failed, all)
			}
		})
	}
	if body, ok := new(flow.Flow).Peek(8); !ok || len(body) > 0 {
		t.Errorf("without a body: %q, %v; want none, true", body, ok)
	}
}
