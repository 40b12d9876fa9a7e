package config

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// sizeUnits in the order in which a suffix is looked for. KB and kB are not
// among them: whether they mean 1000 or 1024 is anybody's guess.
func sizeUnits() []struct {
	suffix string
	bytes  int64
} {
	return []struct {
		suffix string
		bytes  int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

// parseSize reads a whole number of bytes with a unit; a number alone is
// bytes.
func parseSize(s string) (int64, bool) {
	unit := int64(1)
	for _, u := range sizeUnits() {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimRight(rest, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit || strings.HasPrefix(s, "+") {
		return 0, false
	}
	return n * unit, true
}

// formatSize writes a size with the largest unit that divides it.
func formatSize(n int64) string {
	for _, u := range sizeUnits() {
		if n%u.bytes == 0 && n >= u.bytes {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// formatDuration is Duration.String without the zero units at its end.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// suggest returns the known word that was probably meant, or "".
func suggest(s string, known []string) string {
	if utf8.RuneCountInString(s) > 40 {
		return ""
	}
	best, limit := "", 1
	if n := utf8.RuneCountInString(s); n > 4 {
		limit += n / 4
	}
	for _, k := range known {
		if n := distance(fold(s), fold(k)); n <= limit {
			best, limit = k, n-1
		}
	}
	return best
}

// fold makes reauthMacro, reauth-macro and reauth_macro alike.
func fold(s string) []rune {
	return []rune(strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s)))
}

// distance is how many letters must be added, taken out, changed or swapped
// with their neighbour to get from a to b (optimal string alignment).
func distance(a, b []rune) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// shorten keeps a word out of the file readable inside a message.
func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
