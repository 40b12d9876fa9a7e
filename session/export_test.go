package session

import (
	"context"

	"github.com/holdfast-proxy/holdfast/wire"
)

// What the tests of this package look at from inside.

// Batch is a batch whose runs are started by Spawn.
type Batch struct {
	batch
	Spawn func(func()) bool
}

// Do is batch.do.
func (b *Batch) Do(ctx context.Context, fn func() bool) (alive, asked bool) {
	return b.do(ctx, b.Spawn, fn)
}

// KeptBody is a keptBody.
type KeptBody struct{ k *keptBody }

// Keep keeps a body within limits.
func Keep(source wire.Body, l Limits) KeptBody {
	l = l.withDefaults()
	e := &Engine{limits: l, core: new(core)}
	e.memory.limit.Store(l.Memory)
	e.disk.limit.Store(l.Disk)
	return KeptBody{e.keep(source)}
}

// Reader begins at the first byte, of a body that nobody reads yet.
func (b KeptBody) Reader() wire.Body { return b.k.reader() }

// Again returns another reader, or why there can be none.
func (b KeptBody) Again() (r wire.Body, why string) { return b.k.again() }

// Release gives up what is kept.
func (b KeptBody) Release() { b.k.release() }

// Spooled reports whether there is a file.
func (b KeptBody) Spooled() bool {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	return b.k.file != nil
}
