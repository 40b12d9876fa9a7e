package control

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/convert"
	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/store"
	"github.com/holdfast-proxy/holdfast/wire"
)

// The bounds of flows that something is made of.
const (
	MaxFlows      = 2000      // that are looked at
	maxFlowBodies = 128 << 20 // bytes of their bodies
)

// Recorded is flows of the history as what learns of recordings wants them.
type Recorded struct {
	Exchanges []convert.Exchange // in the order of time; Entry counts them from 1
	IDs       []int64            // of the exchanges, in the same order
	Lost      []string           // what could not be carried over, and why; no values
}

// RecordedFlows reads flows by their ids.
func RecordedFlows(ctx context.Context, s *store.Store, ids []int64) (*Recorded, error) {
	if len(ids) > MaxFlows {
		return nil, tooMany()
	}
	r := &recordedFlows{}
	for _, id := range ids {
		stored, err := s.Flow(ctx, id)
		if err != nil {
			err = unreadable(ctx, err)
			if known, ok := err.(*flow.Error); ok && known.Reason == ReasonNotFound {
				return nil, notFound(fmt.Sprintf("The history has no flow %d.", id), known.Next)
			}
			return nil, err
		}
		if err := r.add(stored); err != nil {
			return nil, err
		}
	}
	return r.done()
}

// FoundFlows reads the flows of clients that a condition in HTTPQL is true of.
func FoundFlows(ctx context.Context, s *store.Store, query string) (*Recorded, error) {
	q, err := ParseQuery(query)
	if err != nil {
		return nil, err
	}
	r := &recordedFlows{}
	for o := (store.Search{Query: q, OldestFirst: true}); ; {
		found, err := s.Search(ctx, o)
		if err != nil {
			return nil, unreadable(ctx, err)
		}
		for _, stored := range found.Flows {
			if stored.Flow.Tool == flow.ToolMacro {
				continue // Holdfast's own: they show what is known already
			}
			if err := r.add(stored); err != nil {
				return nil, err
			}
		}
		if o.After = found.Next; found.Next == 0 {
			return r.done()
		}
	}
}

func tooMany() error {
	return &flow.Error{Status: 422, Reason: ReasonParameter, Detail: fmt.Sprintf("These are more than %d flows, or than %d MiB of bodies.", MaxFlows, maxFlowBodies>>20),
		Next: "Name fewer, or narrow the query down by host, time or tool."}
}

type recordedFlows struct {
	all  []recordedFlow
	lost []string
	size int
}

type recordedFlow struct {
	x  convert.Exchange
	id int64
}

func (r *recordedFlows) lose(id int64, why string) {
	r.lost = append(r.lost, fmt.Sprintf("flow %d: %s", id, why))
}

func (r *recordedFlows) add(stored *store.Stored) error {
	if len(r.all)+len(r.lost) >= MaxFlows {
		return tooMany()
	}
	f := stored.Flow
	switch {
	case f.Received == nil:
		r.lose(stored.ID, "its request cannot be read")
		return nil
	case string(f.Received.Method()) == "CONNECT":
		r.lose(stored.ID, "it is a tunnel")
		return nil
	}
	request := asWritten(f.Received)
	var response *wire.Response
	var answer []byte
	if f.Refused != nil {
		r.lose(stored.ID, "Holdfast answered it itself; it counts as one without an answer")
	} else if response = f.Response; response != nil {
		answer, _ = stored.Record().Bytes(httpql.RespBody)
	}
	x, err := convert.Of(strings.TrimSuffix(f.Origin.URL(nil), "/"), request, stored.Received.Payload(), response, nil)
	if err != nil {
		r.lose(stored.ID, "no file could hold its request")
		return nil
	}
	x.ResponseBody = answer
	x.Time = f.Start
	x.BodyMissing = stored.Response != nil && (stored.Response.Cut || stored.Response.Broken)
	if stored.Received != nil && stored.Received.Cut {
		r.lose(stored.ID, "the history does not have all of its request's body")
	}
	r.all = append(r.all, recordedFlow{x, stored.ID})
	if r.size += len(x.RequestBody) + len(x.ResponseBody); r.size > maxFlowBodies {
		return tooMany()
	}
	return nil
}

// asWritten is a request as its client wrote it, without what was for the proxy
// alone.
func asWritten(received *wire.Request) *wire.Request {
	request := received.Clone()
	for i := request.NumFields() - 1; i >= 0; i-- {
		name, _ := request.Field(i)
		lower := bytes.ToLower(name)
		if bytes.HasPrefix(lower, []byte("proxy-")) || bytes.HasPrefix(lower, []byte("holdfast-")) {
			request.DelField(i)
		}
	}
	return request
}

func (r *recordedFlows) done() (*Recorded, error) {
	slices.SortStableFunc(r.all, func(a, b recordedFlow) int { return cmp.Or(a.x.Time.Compare(b.x.Time), cmp.Compare(a.id, b.id)) })
	out := &Recorded{Lost: r.lost}
	for i, one := range r.all {
		one.x.Entry = i + 1
		out.Exchanges, out.IDs = append(out.Exchanges, one.x), append(out.IDs, one.id)
	}
	if len(out.Exchanges) == 0 {
		return nil, notFound("There are no such flows.", "List flows to see which there are.")
	}
	return out, nil
}
