package httpql

// Limits of a query.
const (
	// MaxSource is the length in bytes of the text of a query, and of its
	// canonical form.
	MaxSource = 64 << 10
	// MaxDepth is how deep a query may nest, parentheses that change nothing
	// included. A row of clauses joined by the same word is one level.
	MaxDepth = 256
	// keptBuffer is the largest buffer that a query keeps for regex and like
	// on raw, which need head and body in one piece.
	keptBuffer = 1 << 20
)
