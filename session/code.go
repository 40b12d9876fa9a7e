package session

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-proxy/holdfast/macro"
)

// maxCodeWait is how many steps away the next code may be: further, and the
// clock has jumped, or too many logins want one.
const maxCodeWait = 8

// lateCode is how short before the end of a step no code of it is drawn: it
// could arrive after the end.
const lateCode = time.Second

// codes draws one-time codes, each once. Which was drawn last is durable before
// it is sent: origins count the second one as an attack. The row's owner tells
// nothing of the secret, and its version is the step.
type codes struct {
	keeper Keeper
	mu     sync.Mutex
	last   map[string]int64 // also where there is no keeper
}

// reserve takes the first step from the wanted one on that was not used, for
// good.
func (c *codes) reserve(ctx context.Context, t *macro.TOTP, wanted int64) (step int64, err error) {
	sum := sha256.Sum256(append([]byte("totp\x00"), t.Secret...))
	key := hex.EncodeToString(sum[:16])
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last[key]
	for range maxCodeWait { // others draw codes of the same secret
		if c.keeper != nil {
			rows, err := c.keeper.Load(ctx, KeptCode, key)
			if err != nil {
				return 0, err
			}
			for _, r := range rows {
				last = max(last, int64(r.Version))
			}
		}
		if step = max(wanted, last+1); step > wanted+maxCodeWait {
			return 0, fmt.Errorf("the next code that was not used is %s away: the clock of this machine has gone back, or too many logins want one",
				(time.Duration(step-wanted) * t.Period).String())
		}
		if c.keeper == nil {
			break
		}
		err = c.keeper.Save(ctx, Row{Kind: KeptCode, Owner: key, Name: "step", Version: uint64(step), Must: true, Value: []byte{1}})
		if err == nil {
			break
		}
		if !errors.Is(err, ErrOutdated) {
			return 0, err
		}
	}
	if err != nil {
		return 0, err
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
	step, err := e.codes.reserve(ctx, t, wanted)
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
