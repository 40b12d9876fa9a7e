package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/httpql"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// verdict is what the rules say about an answer.
type verdict struct {
	dead  bool
	index int   // of the first rule that says so
	held  *held // the body, as far as it was held back; nil when it was not
	// certain says that a probe was asked about this answer already.
	certain bool
}

// judge asks the rules that were not heard yet whether the answer is a dead
// session's: on its head, and only where that does not decide it on the body
// too, which may have been held already.
func (x *exchange) judge(ctx context.Context, h *held) (verdict, error) {
	f := x.flow
	if f.Response == nil || f.Upgraded != nil {
		return verdict{}, nil
	}
	rec := &x.record
	*rec = flow.Record{Flow: f, ResponsePresence: httpql.Pending}
	if f.ResponseBody == nil {
		rec.ResponsePresence = httpql.Known
	}
	rec.TrailersPending = f.ResponseBody != nil && x.asksTrailers()
	i, open := x.ask(rec)
	if i < 0 && open && rec.TrailersPending {
		var err error
		if h, err = x.trailers(ctx, h, rec); err != nil {
			return verdict{}, err
		}
		i, open = x.ask(rec)
		rec.Trailers = nil // which the body holds
	}
	if i >= 0 {
		return verdict{dead: true, index: i, held: h}, nil
	}
	if !open {
		return verdict{held: h}, nil
	}
	if why := neverHeld(f.Response); why != "" {
		x.note(x.rules[0], flow.ActionNote, "the body was not judged: %s", why)
		return verdict{}, nil
	}
	if h == nil {
		var err error
		if h, err = x.hold(ctx, x.engine.limits.JudgedBody); err != nil {
			return verdict{}, err
		}
		if !h.complete {
			x.note(x.rules[0], flow.ActionNote, "the body was judged on its first %d bytes", len(h.raw))
		}
	}
	rec.ResponseBody = h.decoded(f.Response, x.engine.limits.JudgedBody)
	if h.complete { // else what is missing may still come
		rec.ResponsePresence = httpql.Known
	}
	i, _ = x.ask(rec)
	rec.ResponseBody = nil // it may be large, and x lasts longer
	return verdict{dead: i >= 0, index: max(i, 0), held: h}, nil
}

// ask returns the first rule whose condition is true, or -1 and whether one
// of them cannot tell yet.
func (x *exchange) ask(rec *flow.Record) (index int, open bool) {
	for i, r := range x.rules {
		if r.Dead == nil || x.words[i] != unheard {
			continue
		}
		switch r.Dead.Match(rec) {
		case httpql.True:
			return i, false
		case httpql.Unknown:
			open = true
		}
	}
	return -1, open
}

// neverHeld says why a body must not be held back although a rule asks about
// it: streams whose end nobody knows.
func neverHeld(resp *wire.Response) string {
	kind, _ := resp.Get("Content-Type")
	for _, stream := range [...]string{"text/event-stream", "application/grpc", "multipart/x-mixed-replace"} {
		if len(kind) >= len(stream) && bytes.EqualFold(kind[:len(stream)], []byte(stream)) {
			return "it is a stream (" + stream + ")"
		}
	}
	return ""
}

// held is a body that was held back, as raw bytes, for a verdict.
type held struct {
	raw      []byte
	complete bool
	framing  wire.Framing
}

// hold takes the body from the flow until it ends or a limit is reached, limit
// bytes or Limits.Hold, and
// puts one in its place that begins with the same bytes. The reading goes on
// in a goroutine of its own, since an origin that says nothing for a while
// must not hold back what it said before.
func (x *exchange) hold(ctx context.Context, limit int64) (*held, error) {
	f, l := x.flow, x.engine.limits
	b := &heldBody{source: f.ResponseBody, framing: f.ResponseBody.Framing(), done: make(chan struct{}),
		share: share{of: &x.engine.memory, free: freeBytes}}
	f.OnEnd(b.forget)
	f.ResponseBody = b
	if !x.engine.spawn(func() { b.fill(limit) }) {
		close(b.done)
		return nil, closing()
	}
	late := time.NewTimer(l.Hold)
	defer late.Stop()
	select {
	case <-b.done:
	case <-late.C:
	case <-ctx.Done():
		x.dropResponse()
		return nil, ctx.Err()
	}
	return b.stop(), nil
}

// decoded is the text of what was held: without chunks and content coding.
// Where the coding is broken or cut, what stands on the wire is judged.
func (h *held) decoded(resp *wire.Response, limit int64) []byte {
	return wire.Text(&resp.Head, h.framing.Kind, h.raw, int(limit))
}

// heldBody gives what was held and then the rest.
type heldBody struct {
	source  wire.Body
	framing wire.Framing
	done    chan struct{} // closed when fill has returned

	mu      sync.Mutex
	raw     []byte
	share   share // of the engine's memory, for raw
	stopped bool  // nobody wants more to be held
	end     error // of the source

	given int // bytes of raw that Next has returned
}

// fill reads until the body ends, the limit is reached, or stop was called.
func (b *heldBody) fill(limit int64) {
	defer close(b.done)
	for {
		piece, err := b.source.Next()
		b.mu.Lock()
		b.hold(piece, limit)
		b.end = err // what came is passed on and then breaks off where it broke off
		enough := b.stopped || err != nil || int64(len(b.raw)) >= limit || !b.share.covers(int64(len(b.raw)))
		b.mu.Unlock()
		if enough {
			return
		}
	}
}

// hold keeps a piece. Room is doubled, and no more than the limit asks for: by
// smaller steps a body of the limit would leave four times its size behind. mu is
// held.
func (b *heldBody) hold(piece []byte, limit int64) {
	if need := len(b.raw) + len(piece); need > cap(b.raw) {
		room := int(min(2*int64(cap(b.raw)), limit+int64(len(piece))))
		b.raw = append(make([]byte, 0, max(need, room)), b.raw...)
	}
	b.raw = append(b.raw, piece...)
}

// forget is called when the flow has ended.
func (b *heldBody) forget(*flow.Flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.share.end()
}

// stop ends the holding and returns what there is.
func (b *heldBody) stop() *held {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	return &held{raw: b.raw, complete: b.end == io.EOF, framing: b.framing}
}

func (b *heldBody) Framing() wire.Framing { return b.framing }

// Next gives what was held, then what fill was still waiting for when the
// holding ended, then the rest.
func (b *heldBody) Next() ([]byte, error) {
	b.mu.Lock()
	if b.given == len(b.raw) {
		b.mu.Unlock()
		<-b.done
		b.mu.Lock()
	}
	piece, end := b.raw[b.given:], b.end
	b.given = len(b.raw)
	b.mu.Unlock()
	if len(piece) > 0 || end != nil {
		return piece, end
	}
	return b.source.Next()
}

// Ready reports whether Next returns without waiting for the origin.
func (b *heldBody) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.given < len(b.raw) || b.end != nil {
		return true
	}
	select {
	case <-b.done:
		return ready(b.source)
	default:
		return false
	}
}

// ready reports whether a body's Next returns without waiting. Bodies that
// cannot wait do not say.
func ready(b wire.Body) bool {
	w, waits := b.(interface{ Ready() bool })
	return !waits || w.Ready()
}

// Interrupt has a Next that waits return with an error.
func (b *heldBody) Interrupt() {
	if w, ok := b.source.(interface{ Interrupt() }); ok {
		w.Interrupt()
	}
}

// Close gives up the rest. If fill waits for the origin, that is ended first.
func (b *heldBody) Close() error {
	select {
	case <-b.done:
	default:
		b.Interrupt()
		<-b.done
	}
	return b.source.Close()
}

// revive deals with a dead answer: it returns true when the request is to be
// sent again, false when the answer passes as it is.
func (x *exchange) revive(ctx context.Context, v verdict) (again bool, err error) {
	e, f := x.engine, x.flow
	r, s, generation := x.rules[v.index], x.sessions[v.index], x.stamps[v.index]
	if !slices.Contains(x.words, contradicted) && !slices.Contains(x.words, helpless) {
		e.counts.dead.Add(1) // an answer counts once
	}
	x.note(r, flow.ActionDead, "%d: the answer is a dead session's (generation %d)", f.Response.Status(), generation)

	if !s.recovers() {
		x.words[v.index] = helpless
		return false, nil
	}
	if x.isCurrent(r, s, generation) {
		alive, err := false, error(nil)
		if !v.certain {
			alive, err = x.probe(ctx, r, s)
		}
		switch {
		case err != nil:
			return false, err
		case !x.isCurrent(r, s, generation): // recovered while the probe was under way
		case alive:
			x.note(r, flow.ActionAlive, "macro %s says that the session is alive: the answer is about the resource", r.Confirm)
			e.counts.contradicted.Add(1)
			x.settle(s, contradicted)
			return false, nil
		default:
			if again, err, done := x.renewFor(ctx, r, s, generation); done {
				return again, err
			}
		}
	}
	if x.resends >= maxResends {
		return x.fail(r, &flow.Error{Reason: flow.ReasonStillDead,
			Detail: fmt.Sprintf("the request was sent %d times, and met a dead session each time", maxResends+1),
			Next:   "see whether the origin's sessions live long enough for this many requests at once"})
	}
	if !r.Resend.Allows(x.method()) {
		return x.passDead(r, "resend: "+string(r.Resend))
	}
	if ok, why := x.rewind(); !ok {
		return x.passDead(r, why)
	}
	if s.generation.Load() == generation {
		x.changed++
	}
	x.resend(r)
	return true, nil
}

// isCurrent reports whether the present request carries what a request of now
// would carry.
func (x *exchange) isCurrent(r *rule.Rule, s *session, generation uint64) bool {
	if s.generation.Load() != generation {
		return false
	}
	if x.changed >= maxChanged || !x.identity.changedSince(targeted(r), x.flow.Stamp.Sequence) {
		return true
	}
	return false
}

// probe asks the rule's confirm macro, where it has one. Nobody recovers a
// session for a client that has left meanwhile.
func (x *exchange) probe(ctx context.Context, r *rule.Rule, s *session) (alive bool, err error) {
	if r.Confirm == "" {
		return false, nil
	}
	alive, asked := s.confirm(ctx, r.Confirm)
	if asked {
		return alive, nil
	}
	x.dropResponse()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return false, closing()
}

// renewFor recovers the session for a request whose answer was dead. done
// means that the answer's fate is decided here.
func (x *exchange) renewFor(ctx context.Context, r *rule.Rule, s *session, generation uint64) (again bool, err error, done bool) {
	e, path := x.engine, x.path()
	answer := path + " " + strconv.Itoa(x.flow.Response.Status()) // a 403 says nothing about a later 401
	recoveries, proven, distrusted := s.patience()
	barren := x.fresh == s && x.freshGeneration == generation && !s.isAlive(generation)
	if barren { // the session that this request waited for, and it brought nothing
		if failed := s.noteBarren(generation); failed != nil || x.barren && !proven {
			again, err = x.stillDead(r, failed)
			return again, err, true
		}
		x.barren = true
	}
	if x.firstDead == 0 {
		x.firstDead = generation + 1
	}
	// Its like was answered alive by this very session, or by one that was made
	// since this request met a dead one: logins do change the answer.
	proof := s.proofs.since(x.flow, generation)
	changes := proof || s.proofs.since(x.flow, x.firstDead)
	switch {
	case distrusted && !proof:
		again, err = x.passDead(r, "new sessions do not change answers like this")
		return again, err, true
	case !proof && s.isAlive(generation) && s.isUnhelped(answer, e.now()):
		again, err = x.passDead(r, "a new session did not change this path's answer a moment ago")
		return again, err, true
	case x.own >= recoveries && !changes: // else maxResends ends it
		s.setUnhelped(answer, e.now())
		e.warn("rule %q: %d logins did not change the answer to %s; if it is not about the session, give the rule a confirm macro", r.Name, x.own, path)
		again, err = x.passDead(r, "new sessions do not change the answer")
		return again, err, true
	}
	resend := x.canResend(r)
	if !resend && s.blame(path) && s.isAlive(generation) {
		s.setUnhelped(answer, e.now())
		again, err = x.passDead(r, "the new session that was made for this path did not change its answer")
		return again, err, true
	}
	s.noteDead(generation)
	x.flow.Recovered = true
	x.note(r, flow.ActionWait, "for a new session")
	if !resend {
		// The answer cannot be had again, so it need not wait either; the
		// next request finds the session recovered.
		e.spawn(func() { s.renew(e.ctx, generation) })
		return false, nil, false
	}
	failed := x.renew(ctx, r, s, generation)
	if failed == nil {
		return false, nil, false
	}
	again, err = x.fail(r, failed)
	return again, err, true
}

// stillDead ends a request whose answer is dead with a session made for it.
func (x *exchange) stillDead(r *rule.Rule, failed *flow.Error) (again bool, err error) {
	if failed == nil {
		failed = &flow.Error{Reason: flow.ReasonStillDead,
			Detail: "the macros ran, yet the answer with the new session is judged dead again",
			Next:   "see whether the login really logs in (give it an expect), or whether this answer is about the session at all (give the rule a confirm macro)"}
	}
	return x.fail(r, failed)
}

// fail closes: the client gets the reason instead of an answer without a
// session, unless the rule says otherwise.
func (x *exchange) fail(r *rule.Rule, failed *flow.Error) (again bool, err error) {
	if r.OnFailure == rule.FailPass {
		return x.passDead(r, failed.Detail)
	}
	x.note(r, flow.ActionRefuse, "%s", failed.Detail)
	x.dropResponse()
	return false, failed
}

func (x *exchange) canResend(r *rule.Rule) bool {
	if !r.Resend.Allows(x.method()) {
		return false
	}
	ok, _ := x.rewind()
	return ok
}

// rewind readies the request's body for being sent again, before a long wait,
// in which the sending that is over could use it up.
func (x *exchange) rewind() (ok bool, why string) {
	if x.kept != nil && x.rewound == nil {
		x.rewound, why = x.kept.again()
	}
	return x.kept == nil || x.rewound != nil, why
}

// maxDrain is how much of a dead answer is read to keep its connection, in
// bytes; beyond it the connection is given up.
const maxDrain = 256 << 10

// resend puts the dead answer aside and the request back to its start.
func (x *exchange) resend(r *rule.Rule) {
	f := x.flow
	attempt := flow.Attempt{Request: f.Request, Response: f.Response, Stamp: f.Stamp, Reason: "rule " + r.Name + ": dead"}
	if f.ResponseBody != nil {
		attempt.Body = x.drainEarlier()
	}
	f.Earlier = append(f.Earlier, attempt)
	// The attempt keeps what was sent. Tokens go into what the client wrote,
	// where the places that the first sending filled are still to be found.
	f.Request = x.start.Clone()
	f.Response, f.ResponseBody = nil, nil
	if x.kept != nil {
		f.RequestBody, x.rewound = x.rewound, nil
	}
	x.resends++
	x.engine.counts.resends.Add(1)
	x.note(r, flow.ActionResend, "sent again, time %d", x.resends)
}

// drainEarlier reads the answer's body, and returns as much of it as may be kept
// for the flow's record until the flow has ended: what is more than freeBytes
// counts in Limits.Memory, for all attempts of the request together.
func (x *exchange) drainEarlier() []byte {
	f := x.flow
	raw := drain(f.ResponseBody, x.engine.limits.Hold)
	if x.earlier == nil {
		kept := &share{of: &x.engine.memory, free: freeBytes}
		x.earlier = kept
		f.OnEnd(func(*flow.Flow) { kept.end() })
	}
	if all := x.earlierSize + int64(len(raw)); x.earlier.covers(all) {
		x.earlierSize = all
		return raw
	}
	x.note(x.rules[0], flow.ActionNote, "the body of the answer before is not kept: all bodies together are larger than limits.memory")
	return nil
}

// drain reads a body up to maxDrain and for no longer than wait, so that its
// connection can serve the next request, and closes it.
func drain(b wire.Body, wait time.Duration) (raw []byte) {
	defer b.Close()
	if i, ok := b.(interface{ Interrupt() }); ok {
		defer time.AfterFunc(wait, i.Interrupt).Stop()
	}
	for len(raw) < maxDrain {
		piece, err := b.Next()
		raw = append(raw, piece...)
		if err != nil {
			break
		}
	}
	return raw
}

func (x *exchange) dropResponse() {
	if b := x.flow.ResponseBody; b != nil {
		b.Close()
	}
	x.flow.Response, x.flow.ResponseBody = nil, nil
}

// passDead lets a dead answer through to the client, which is counted: the
// verdict of a run is about these.
func (x *exchange) passDead(r *rule.Rule, why string) (again bool, err error) {
	x.engine.counts.passed.Add(1)
	x.flow.PassedDead = true
	x.note(r, flow.ActionNote, "the dead answer was passed on: %s", why)
	return false, nil
}
