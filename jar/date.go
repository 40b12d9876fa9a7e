package jar

import (
	"strings"
	"time"
)

// parseDate reads a cookie-date (§5.1.1), the grammar of everything that
// servers ever wrote: words in any order, nearly any separators, no zone.
func parseDate(s string) (time.Time, bool) {
	var hms [3]int
	var day, year int
	var month time.Month
	var foundTime, foundDay, foundYear bool
	for s != "" {
		var token string
		if token, s = nextToken(s); token == "" {
			continue
		}
		if !foundTime {
			if hms, foundTime = parseTime(token); foundTime {
				continue
			}
		}
		if !foundDay {
			if day, foundDay = leadingNumber(token, 1, 2); foundDay {
				continue
			}
		}
		if month == 0 {
			if month = parseMonth(token); month != 0 {
				continue
			}
		}
		if !foundYear {
			year, foundYear = leadingNumber(token, 2, 4)
		}
	}
	switch {
	case year >= 70 && year <= 99:
		year += 1900
	case year >= 0 && year <= 69:
		year += 2000
	}
	if !foundTime || !foundDay || month == 0 || !foundYear ||
		day < 1 || day > 31 || year < 1601 || hms[0] > 23 || hms[1] > 59 || hms[2] > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, hms[0], hms[1], hms[2], 0, time.UTC)
	return t, t.Day() == day // 30 February does not exist (step 6)
}

// nextToken cuts s at its first delimiter.
func nextToken(s string) (token, rest string) {
	for i := 0; i < len(s); i++ {
		if isDelimiter(s[i]) {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func isDelimiter(c byte) bool {
	return c == 0x09 || c >= 0x20 && c <= 0x2f || c >= 0x3b && c <= 0x40 ||
		c >= 0x5b && c <= 0x60 || c >= 0x7b && c <= 0x7e
}

// leadingNumber reads least to most digits, which a digit must not follow.
func leadingNumber(s string, least, most int) (n int, ok bool) {
	i := 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		if i == most {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, i >= least
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// parseTime reads 1*2DIGIT ":" 1*2DIGIT ":" 1*2DIGIT and lets anything but a
// digit follow.
func parseTime(s string) (hms [3]int, ok bool) {
	for i := range hms {
		n, ok := leadingNumber(s, 1, 2)
		if !ok {
			return hms, false
		}
		hms[i] = n
		s = strings.TrimLeft(s, "0123456789")
		if i == 2 {
			break
		}
		if s == "" || s[0] != ':' {
			return hms, false
		}
		s = s[1:]
	}
	return hms, true
}

func parseMonth(s string) time.Month {
	if len(s) < 3 {
		return 0
	}
	for m := time.January; m <= time.December; m++ {
		if strings.EqualFold(s[:3], m.String()[:3]) {
			return m
		}
	}
	return 0
}
