// Package index says beforehand which stored flows a query cannot be true of.
//
// Stored flows come in blocks of up to 64. Of the requests and of the responses
// of a block there is a [Signature] each: a bitmap of the trigrams of all that a
// query can find in them. A trigram is three ASCII bytes in a row, letters in
// lower case, since that is how the language folds them; where another byte
// stands there is none. The bit of a trigram is drawn by the project's key
// ([Table]), so that whoever has the bitmaps without the key cannot look up
// texts in them. What they do tell: how many different trigrams a block has,
// which bits are frequent, and which blocks are alike. The status codes of the
// responses have bits there, too.
//
// [NewPlan] takes a query apart into a condition on the clear columns of a flow,
// and one on the signatures of its block. Both are bounds: they let through every
// flow that the query is true of, and others too. To bound a NOT, each part of
// the query has two of them: where it may be true, and where it may be false. A
// negative comparison and a short text have none worth having; a regex has the
// texts without which it cannot match.
//
// The last word is always httpql's own evaluator, which is asked about each flow
// that is left. So a bound may be too wide, which costs time, and never too
// narrow, which the tests of package store hunt for.
//
// The package opens nothing and knows no database: conditions are SQL that
// SQLite and PostgreSQL read alike, with ? for each argument.
package index
