package holdfast

import (
	"testing"

	"github.com/holdfast-proxy/holdfast/wire"
)

// ending is a body whose io.EOF nobody has asked for yet.
type ending struct {
	wire.Body
	framing wire.Framing
	last    bool
}

func (e *ending) Next() ([]byte, error) { return []byte("piece"), nil }
func (e *ending) Framing() wire.Framing { return e.framing }
func (e *ending) Last() bool            { return e.last }

// A body whose last piece has passed is not broken, even where the flow ended
// before anybody asked for what follows it.
func TestABodyIsCompleteWithItsLastPiece(t *testing.T) {
	for _, c := range []struct {
		body   ending
		broken bool
	}{
		{ending{framing: wire.Framing{Kind: wire.Chunked}, last: true}, false},
		{ending{framing: wire.Framing{Kind: wire.Chunked}}, true},
		{ending{framing: wire.Framing{Kind: wire.Length, Length: 5}}, false},
		{ending{framing: wire.Framing{Kind: wire.Length, Length: 6}}, true},
		{ending{framing: wire.Framing{Kind: wire.Stream, Length: 5}}, false},
		{ending{framing: wire.Framing{Kind: wire.Stream}}, true},
	} {
		body := wire.Body(&c.body)
		heard := listenTo(&body, 100, func(int64) bool { return true })
		if _, err := body.Next(); err != nil {
			t.Fatal(err)
		}
		if got := heard.take(); got.Broken != c.broken || string(got.Raw) != "piece" {
			t.Errorf("%+v: broken %v, %q", c.body, got.Broken, got.Raw)
		}
	}
}
