package holdfast

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/holdfast-proxy/holdfast/macro"
)

// Question is what a person is asked by a macro's prompt.
type Question = macro.Question

// askable reports macros that ask where nobody can answer. One that only tells
// something is no such: it is told by Warn.
func askable(c Config) error {
	if c.Ask != nil {
		return nil
	}
	for _, m := range c.File.Macros {
		if step, asks := m.Asks(); asks {
			return fmt.Errorf("macro %q, step %d: %w, or take the prompt out of the macro", m.Name, step, macro.ErrNobody)
		}
	}
	return nil
}

// asker is Config.Ask, or the telling of what needs no answer.
func (h *Holdfast) asker() func(context.Context, Question) (string, error) {
	if h.config.Ask != nil {
		return h.config.Ask
	}
	return func(_ context.Context, q Question) (string, error) {
		if q.Answer || h.config.Warn == nil {
			return "", macro.ErrNobody
		}
		h.config.Warn(q.Text)
		return "", nil
	}
}

// killedAfter is how long a program of a macro may hold its output open once it
// was killed.
const killedAfter = time.Second

// execute runs a program of a macro. Relative names are those of the
// configuration's directory. What the program writes to its standard error is
// dropped: it may hold secrets.
func (e *edition) execute(ctx context.Context, command []string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = filepath.Dir(e.file.Name)
	cmd.WaitDelay = killedAfter
	out := &bounded{limit: macro.MaxOutput + 1}
	cmd.Stdout = out
	err := cmd.Run()
	if out.full {
		err = nil // the one who asked says so
	}
	return string(out.kept), err
}

// bounded keeps the beginning of what is written, and ends the writer then.
type bounded struct {
	kept  []byte
	limit int
	full  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.limit-len(b.kept))
	b.kept = append(b.kept, p[:n]...)
	if n < len(p) {
		b.full = true
		return n, io.ErrShortWrite
	}
	return n, nil
}
