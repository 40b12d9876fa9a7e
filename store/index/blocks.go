package index

import (
	"slices"

	"github.com/holdfast-proxy/holdfast/httpql"
)

// maxGrams bounds the trigrams of one text that are looked at: more of them
// exclude nothing that these do not.
const maxGrams = 128

// Blocks is a condition on the signatures of a block. The zero value lets every
// block through.
type Blocks struct {
	kind  blocksKind
	side  httpql.Side
	grams []uint16 // of blocksHas, all of them
	of    []Blocks
}

type blocksKind uint8

const (
	blocksAll blocksKind = iota
	blocksNone
	blocksHas
	blocksAnd
	blocksOr
)

// All reports whether the condition lets every block through.
func (b Blocks) All() bool { return b.kind == blocksAll }

// Reads says whose signatures the condition looks at.
func (b Blocks) Reads() (requests, responses bool) {
	if b.kind == blocksHas {
		return b.side == httpql.Request, b.side == httpql.Response
	}
	for _, m := range b.of {
		req, resp := m.Reads()
		requests, responses = requests || req, responses || resp
	}
	return requests, responses
}

// May reports whether the query can be true of a flow of a block with these
// signatures, as they are stored. One that [Blocks.Reads] does not ask for may
// be nil.
func (b Blocks) May(requests, responses []byte) bool {
	switch b.kind {
	case blocksNone:
		return false
	case blocksHas:
		if b.side == httpql.Response {
			requests = responses
		}
		return has(requests, b.grams)
	case blocksAnd:
		for _, m := range b.of {
			if !m.May(requests, responses) {
				return false
			}
		}
	case blocksOr:
		return slices.ContainsFunc(b.of, func(m Blocks) bool { return m.May(requests, responses) })
	}
	return true
}

// joinBlocks is an AND, or an OR, of conditions.
func joinBlocks(kind blocksKind, of []Blocks) Blocks {
	nothing, decides := blocksAll, blocksNone
	if kind == blocksOr {
		nothing, decides = decides, nothing
	}
	var left []Blocks
	for _, b := range of {
		switch b.kind {
		case decides:
			return Blocks{kind: decides}
		case nothing:
		case kind:
			left = append(left, b.of...)
		default:
			left = append(left, b)
		}
	}
	switch len(left) {
	case 0:
		return Blocks{kind: nothing}
	case 1:
		return left[0]
	}
	return Blocks{kind: kind, of: left}
}

// texts is a condition on the texts of one side: text is in them, or what of
// says.
type texts struct {
	kind blocksKind // blocksHas: text
	text string
	of   []texts
}

// blocks is the condition on signatures that follows.
func (t *Table) blocks(side httpql.Side, x texts) Blocks {
	switch x.kind {
	case blocksHas:
		grams := t.grams(x.text)
		if len(grams) == 0 {
			return Blocks{}
		}
		return Blocks{kind: blocksHas, side: side, grams: grams}
	case blocksAnd, blocksOr:
		of := make([]Blocks, len(x.of))
		for i, m := range x.of {
			of[i] = t.blocks(side, m)
		}
		return joinBlocks(x.kind, of)
	}
	return Blocks{kind: x.kind}
}

// codes is the condition on the statuses of responses. One that successes fulfil
// leaves out no block and is not asked.
func (t *Table) codes(n *httpql.Node) Blocks {
	low, high := int64(0), int64(999)
	switch n.Op {
	case httpql.Eq:
		if n.Number < low || n.Number > high {
			return Blocks{kind: blocksNone}
		}
		return Blocks{kind: blocksHas, side: httpql.Response, grams: marked(t.status(n.Number))}
	case httpql.Gt:
		low = min(n.Number, high) + 1
	case httpql.Gte:
		low = min(n.Number, high+1)
	case httpql.Lt:
		high = min(n.Number-1, high)
	case httpql.Lte:
		high = min(n.Number, high)
	default:
		return Blocks{}
	}
	if low > high {
		return Blocks{kind: blocksNone}
	}
	var of []Blocks
	for class := low / 100; class <= high/100; class++ {
		if class == 2 {
			return Blocks{}
		}
		of = append(of, Blocks{kind: blocksHas, side: httpql.Response, grams: marked(t.class(class * 100))})
	}
	return joinBlocks(blocksOr, of)
}

func marked(bits [marks]uint16) []uint16 { return bits[:] }

// grams are the bits of the trigrams of a text, each once.
func (t *Table) grams(text string) []uint16 {
	var grams []uint16
	var last, ascii uint32
	for i := 0; i < len(text) && len(grams) < 4*maxGrams; i++ {
		c := text[i]
		if c >= 0x80 {
			ascii = 0
			continue
		}
		last = (last<<7 | uint32(t.lower[c])) & (trigrams - 1)
		if ascii++; ascii >= 3 {
			grams = append(grams, t.bit[last])
		}
	}
	slices.Sort(grams)
	grams = slices.Compact(grams)
	return grams[:min(len(grams), maxGrams)]
}
