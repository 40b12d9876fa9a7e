package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"go.yaml.in/yaml/v4"
)

// digest names what a node says, with all that is below it, and what was read
// from the files and the environment that it names. Comments, the order in the
// file and the style of writing do not count.
func (d *decoder) digest(n *yaml.Node) string {
	h := sha256.New()
	d.sum(h, n)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// sum is digest into a hash. Aliases count as what they name; measure has seen to
// it that they do not grow.
func (d *decoder) sum(h hash.Hash, n *yaml.Node) {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode {
		fmt.Fprintf(h, "%s %d\x00%s\x00", n.ShortTag(), len(n.Value), n.Value)
		for _, brought := range d.brought[n] {
			h.Write(brought[:])
		}
		return
	}
	fmt.Fprintf(h, "%d %d\x00", n.Kind, len(n.Content))
	for _, c := range n.Content {
		d.sum(h, c)
	}
}

// digestInputs is digest of the values that a rule gives to macros.
func (d *decoder) digestInputs(all []inputDraft) string {
	h := sha256.New()
	for _, in := range all {
		fmt.Fprintf(h, "%s\x00", in.name)
		if in.value.given() {
			d.sum(h, in.value.n)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// read reads a file for a node that names it.
func (d *decoder) read(n *yaml.Node, path string) ([]byte, error) {
	if !slices.Contains(d.sources, path) {
		d.sources = append(d.sources, path)
	}
	raw, err := d.options.readFile(path)
	d.bring(n, raw)
	return raw, err
}

// bring notes what a node has brought.
func (d *decoder) bring(n *yaml.Node, what []byte) {
	if d.brought == nil {
		d.brought = make(map[*yaml.Node][][sha256.Size]byte)
	}
	d.brought[n] = append(d.brought[n], sha256.Sum256(what))
}
