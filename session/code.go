package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/macro"
)

// CodeStore keeps which time step's one-time code was used last, by a key that
// tells nothing of the secret. A call of Save returns only when it is durable:
// a code must not be sent again after a crash, since origins count that as an
// attack.
type CodeStore interface {
	Load(key string) (step int64, err error) // 0: none
	Save(key string, step int64) error
}

// maxCodeWait is how many steps away the next code may be: further, and the
// clock has jumped, or too many logins want one.
const maxCodeWait = 8

// lateCode is how short before the end of a step no code of it is drawn: it
// could arrive after the end.
const lateCode = time.Second

// codes draws one-time codes, each once.
type codes struct {
	store CodeStore
	mu    sync.Mutex
	last  map[string]int64 // also where there is no store
}

// reserve takes the first step from the wanted one on that was not used, for
// good.
func (c *codes) reserve(t *macro.TOTP, wanted int64) (step int64, err error) {
	sum := sha256.Sum256(append([]byte("totp\x00"), t.Secret...))
	key := hex.EncodeToString(sum[:16])
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last[key]
	if c.store != nil {
		kept, err := c.store.Load(key)
		if err != nil {
			return 0, err
		}
		last = max(last, kept)
	}
	if step = max(wanted, last+1); step > wanted+maxCodeWait {
		return 0, fmt.Errorf("the next code that was not used is %s away: the clock of this machine has gone back, or too many logins want one",
			(time.Duration(step-wanted) * t.Period).String())
	}
	if c.store != nil {
		if err := c.store.Save(key, step); err != nil {
			return 0, err
		}
	}
	if c.last == nil {
		c.last = make(map[string]int64)
	}
	c.last[key] = step
	return step, nil
}

// code is the identity's next one-time code: of the present time step by the
// origin's clock, or, where that was used, of the next one, once it has begun.
func (s *session) code(ctx context.Context, ahead *time.Duration) (string, error) {
	e, n := s.engine, s.identity
	if ahead != nil {
		n.ahead.Store(int64(*ahead))
	}
	now := func() time.Time { return e.now().Add(time.Duration(n.ahead.Load())) }
	t := n.totp
	at := now()
	wanted := t.Step(at.Add(min(lateCode, t.Period/2)))
	step, err := e.codes.reserve(t, wanted)
	if err != nil {
		return "", err
	}
	for {
		wait := t.Begin(step).Sub(now())
		if wait <= 0 {
			return t.Code(step), nil
		}
		if err := e.pause(ctx, wait); err != nil {
			return "", err
		}
	}
}

// pause waits by the clock of the configuration.
func (e *Engine) pause(ctx context.Context, d time.Duration) error {
	if e.config.Wait != nil {
		return e.config.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask asks a person, and lets those who wait know that it is a person whom they
// wait for.
func (s *session) ask(ctx context.Context, q macro.Question) (string, error) {
	s.asking.Add(1)
	defer s.asking.Add(-1)
	return s.engine.config.Ask(ctx, q)
}

// slack is what the macros of the recovery may wait besides the time that
// requests take.
func (s *session) slack() (d time.Duration) {
	for _, m := range s.recovery {
		d += m.Patience(s.identity.totp)
	}
	return d
}
