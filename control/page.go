package control

import (
	"encoding/base64"
	"slices"
	"strings"
)

// The sizes of pages.
const (
	defaultPage = 100
	maxPage     = 1000
)

// Paging are the parameters of lists.
type Paging struct {
	Limit  int    `json:"limit,omitempty" minimum:"1" maximum:"1000" doc:"How many at most; 100 when absent."`
	Cursor string `json:"cursor,omitempty" maxLength:"4096" doc:"Goes on behind a page: its next."`
}

// Page is a part of a list.
type Page[T any] struct {
	Version int    `json:"v" doc:"Of this shape: 1."`
	Items   []T    `json:"items" nullable:"false"`
	Next    string `json:"next,omitempty" doc:"The cursor of the next page; absent on the last."`
}

// paged cuts a page out of a list. Each item has a key, by which the list is
// ordered and a cursor goes on, also where items have come and gone meanwhile.
func paged[T any](all []T, p Paging, key func(*T) string) (*Page[T], error) {
	slices.SortStableFunc(all, func(a, b T) int { return strings.Compare(key(&a), key(&b)) })
	from := 0
	if p.Cursor != "" {
		after, err := base64.RawURLEncoding.DecodeString(p.Cursor)
		if err != nil {
			return nil, invalid("The cursor is none that a page of this list had as its next.", "Begin without a cursor.")
		}
		from, _ = slices.BinarySearchFunc(all, string(after)+"\x00", func(item T, k string) int { return strings.Compare(key(&item), k) })
	}
	size := p.Limit
	if size <= 0 {
		size = defaultPage
	}
	size = min(size, maxPage)
	out := &Page[T]{Version: 1, Items: []T{}}
	rest := all[from:]
	if len(rest) > size {
		rest = rest[:size]
		out.Next = base64.RawURLEncoding.EncodeToString([]byte(key(&rest[size-1])))
	}
	out.Items = append(out.Items, rest...)
	return out, nil
}
