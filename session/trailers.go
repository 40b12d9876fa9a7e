package session

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/wire"
)

// asksTrailers reports whether a rule that was not heard yet asks about a field
// that the answer is going to have behind its body: one that its Trailer field
// names (RFC 9110 §6.6.2), or the status of a gRPC call, which always stands
// there.
func (x *exchange) asksTrailers() bool {
	resp := x.flow.Response
	announced, grpc := resp.Combined("Trailer"), isGRPC(resp)
	if len(announced) == 0 && !grpc {
		return false
	}
	names := strings.Split(string(announced), ",")
	late := func(name string) bool {
		return grpc && len(name) >= len(grpcPrefix) && strings.EqualFold(name[:len(grpcPrefix)], grpcPrefix) ||
			slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(strings.TrimSpace(n), name) })
	}
	for i, r := range x.rules {
		if r.Dead != nil && x.words[i] == unheard && r.Dead.AsksHeader(httpql.Response, late) {
			return true
		}
	}
	return false
}

// grpcPrefix begins the names of what a gRPC server says of a call's end.
const grpcPrefix = "grpc-"

func isGRPC(resp *wire.Response) bool {
	const kind = "application/grpc"
	value, _ := resp.Get("Content-Type")
	return len(value) >= len(kind) && bytes.EqualFold(value[:len(kind)], []byte(kind))
}

// trailers holds the body back for what stands behind it. That of a stream is
// only waited for until its first byte: a call that was refused has none, and the
// client of another may be waiting for it.
func (x *exchange) trailers(ctx context.Context, h *held, rec *flow.Record) (*held, error) {
	endless := neverHeld(x.flow.Response) != ""
	if h == nil {
		limit := x.engine.limits.JudgedBody
		if endless {
			limit = 1
		}
		var err error
		if h, err = x.hold(ctx, limit); err != nil {
			return nil, err
		}
	}
	switch {
	case h.complete:
		rec.Trailers, rec.TrailersPending = h.trailers(), false
	case !endless: // else what stands there stays unknown, and is no death
		x.note(x.rules[0], flow.ActionNote, "the trailers were not judged: the body did not end within %d bytes", len(h.raw))
	}
	if endless {
		return nil, nil // nothing else is judged on the beginning of a stream
	}
	return h, nil
}

// trailers are the fields behind a body that is complete, nil without any.
func (h *held) trailers() *wire.Head { return wire.Trailers(h.framing, h.raw) }
