package session

import (
	"bytes"
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/flow"
	"github.com/holdfast-proxy/holdfast/rule"
	"github.com/holdfast-proxy/holdfast/wire"
)

// Suspicion compares an answer with what the same request (method, path and
// query) got before. It is a reason to ask, never a verdict.
const (
	maxShapes     = 4096        // requests whose last good answer is remembered
	suspicionRest = time.Second // a probe is asked on suspicion once in that time
	// A body has collapsed when one of collapsible bytes or more has shrunk to
	// an eighth.
	collapsible = 512
	collapse    = 8
)

// shape is what is remembered of an answer.
type shape struct {
	kind contentKind
	size int64 // of the body as it was sent, in bytes; -1: not known beforehand
}

type contentKind uint8

const (
	kindOther contentKind = iota
	kindJSON
	kindHTML
)

// shapes remembers the last good answers. Its zero value is empty.
type shapes struct {
	mu   sync.Mutex
	seed maphash.Seed
	of   map[uint64]shape
}

func shapeOf(f *flow.Flow) shape {
	out := shape{size: -1}
	kind, _ := f.Response.Get("Content-Type")
	kind, _, _ = bytes.Cut(bytes.ToLower(kind), []byte(";"))
	kind = bytes.TrimSpace(kind)
	switch {
	case bytes.Equal(kind, []byte("application/json")), bytes.HasSuffix(kind, []byte("+json")):
		out.kind = kindJSON
	case bytes.Equal(kind, []byte("text/html")), bytes.Equal(kind, []byte("application/xhtml+xml")):
		out.kind = kindHTML
	}
	if f.ResponseBody != nil {
		if framing := f.ResponseBody.Framing(); framing.Kind == wire.Length {
			out.size = framing.Length
		}
	}
	return out
}

// isGood reports whether an answer is whole and says that it is what was asked
// for.
func isGood(status int) bool { return status >= 200 && status < 300 && status != 206 }

func (m *shapes) key(f *flow.Flow) uint64 {
	if m.of == nil {
		m.seed, m.of = maphash.MakeSeed(), make(map[uint64]shape)
	}
	var h maphash.Hash
	h.SetSeed(m.seed)
	h.Write(f.Received.Method())
	h.WriteByte(' ')
	h.Write(f.Received.Target())
	return h.Sum64()
}

// remember keeps the shape of an answer that passes.
func (m *shapes) remember(f *flow.Flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := m.key(f)
	if !isGood(f.Response.Status()) {
		delete(m.of, key)
		return
	}
	if len(m.of) >= maxShapes {
		clear(m.of)
	}
	m.of[key] = shapeOf(f)
}

// suspect says what is odd about an answer; "" when nothing is.
func (m *shapes) suspect(f *flow.Flow) string {
	status := f.Response.Status()
	redirect := status == 301 || status == 302 || status == 303 || status == 307 || status == 308
	if !redirect && !isGood(status) {
		return ""
	}
	m.mu.Lock()
	before, known := m.of[m.key(f)]
	m.mu.Unlock()
	now := shapeOf(f)
	switch {
	case !known:
	case redirect:
		return "it is a redirect, where this request was answered before"
	case before.kind == kindJSON && now.kind == kindHTML:
		return "it is HTML, where this request got JSON before"
	case before.size >= collapsible && now.size >= 0 && now.size <= before.size/collapse:
		return "its body is much shorter than what this request got before"
	}
	return ""
}

// doubts finds a rule with a probe to which an answer is suspicious that no
// check calls dead, and asks. A verdict that is dead has the probe's word.
func (x *exchange) doubts(ctx context.Context, v verdict) (verdict, error) {
	if x.flow.Response == nil || x.flow.Upgraded != nil {
		return v, nil
	}
	for i, r := range x.rules {
		s := x.sessions[i]
		if !suspicious(r) || !s.recovers() || x.words[i] != unheard {
			continue
		}
		p := s.proberOf(r.Probe.Macro)
		why := p.shapes.suspect(x.flow)
		if why == "" || !p.maySuspect(x.engine.now()) {
			continue
		}
		x.note(r, flow.ActionNote, "the answer is suspicious: %s", why)
		alive := false
		if s.generation.Load() == x.stamps[i] {
			var err error
			q := x.engine.probeOf(r)
			alive, err = x.hear(ctx, &q, func(ctx context.Context) (alive, asked bool) {
				return p.batch.do(ctx, x.engine.spawn, func() bool { return s.askSession(&q, p) })
			})
			if err != nil {
				x.dropResponse()
				return v, err
			}
		}
		if alive {
			continue
		}
		return verdict{dead: true, index: i, held: v.held, certain: true}, nil
	}
	return v, nil
}

// maySuspect reports whether the probe may be asked on suspicion now, and
// counts that it is.
func (p *prober) maySuspect(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.suspected) < suspicionRest {
		return false
	}
	p.suspected = now
	return true
}

func suspicious(r *rule.Rule) bool { return r.Probe != nil && r.Probe.OnSuspicion }

// rememberShape keeps what a rule with a probe will compare with.
func (x *exchange) rememberShape(i int) {
	if r := x.rules[i]; suspicious(r) && x.words[i] != foreign && x.flow.Response != nil && x.flow.Upgraded == nil {
		x.sessions[i].proberOf(r.Probe.Macro).shapes.remember(x.flow)
	}
}
