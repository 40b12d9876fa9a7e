package jar

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// netscapeHead is the line by which other programs know the format.
const netscapeHead = "# Netscape HTTP Cookie File\n"

const httpOnlyMark = "#HttpOnly_"

// Problem is a cookie that could not be written or read.
type Problem struct {
	Line   int // of the file, from 1; 0 when writing
	Name   string
	Reason string
}

// String is for a report.
func (p Problem) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("line %d: %s", p.Line, p.Reason)
	}
	return fmt.Sprintf("cookie %q: %s", p.Name, p.Reason)
}

// EncodeNetscape writes a cookies.txt as curl, wget and browser extensions
// read it: seven fields with tabs between them (domain, whether hosts below it
// are meant, path, Secure, the end in seconds since 1970 or 0 for none, name,
// value), and #HttpOnly_ before the line of an HttpOnly cookie. The format has
// no place for SameSite, Partitioned, creation times and fractions of seconds;
// a cookie with a tab in its domain, path or name does not fit at all and is
// reported.
func EncodeNetscape(cookies []Cookie) ([]byte, []Problem) {
	var problems []Problem
	out := []byte(netscapeHead)
	for i := range cookies {
		c := &cookies[i]
		if strings.Contains(c.Name+c.Path+c.Domain, "\t") {
			problems = append(problems, Problem{Name: c.Name, Reason: "a tab in name, path or domain has no place in cookies.txt; export JSON"})
			continue
		}
		if c.HTTPOnly {
			out = append(out, httpOnlyMark...)
		}
		if !c.HostOnly {
			out = append(out, '.')
		}
		out = append(out, c.Domain...)
		out = append(out, '\t')
		out = append(out, boolWord(!c.HostOnly)...)
		out = append(out, '\t')
		out = append(out, c.Path...)
		out = append(out, '\t')
		out = append(out, boolWord(c.Secure)...)
		out = append(out, '\t')
		out = strconv.AppendInt(out, netscapeEnd(c.Expires), 10)
		out = append(out, '\t')
		out = append(out, c.Name...)
		out = append(out, '\t')
		out = append(out, c.Value...)
		out = append(out, '\n')
	}
	return out, problems
}

// netscapeEnd is the end in seconds. 0 means none, so an end at or before the
// epoch is written as the first second after it.
func netscapeEnd(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.Unix(), 1)
}

func boolWord(b bool) string {
	if b {
		return "TRUE"
	}
	return "FALSE"
}

// DecodeNetscape reads a cookies.txt. Lines that cannot be read are reported
// and left out. It checks the form, not the cookies: that is done by
// [Jar.Import].
func DecodeNetscape(src []byte) ([]Cookie, []Problem) {
	found, problems := readNetscape(src)
	var cookies []Cookie
	for _, f := range found {
		cookies = append(cookies, f.cookie)
	}
	return cookies, problems
}

func readNetscape(src []byte) (found []placed, problems []Problem) {
	number := 0
	for line := range bytes.Lines(src) {
		number++
		text := strings.TrimRight(string(line), "\r\n")
		rest, httpOnly := strings.CutPrefix(text, httpOnlyMark)
		if !httpOnly && strings.HasPrefix(text, "#") || strings.Trim(text, space) == "" {
			continue
		}
		c, reason := netscapeLine(rest)
		if reason != "" {
			problems = append(problems, Problem{Line: number, Name: c.Name, Reason: reason})
			continue
		}
		c.HTTPOnly = httpOnly
		found = append(found, placed{c, number})
	}
	return found, problems
}

func netscapeLine(line string) (c Cookie, reason string) {
	f := strings.SplitN(line, "\t", 7)
	if len(f) == 6 {
		f = append(f, "") // some writers leave out the tab before an empty value
	}
	if len(f) != 7 {
		return c, fmt.Sprintf("has %d fields, want 7 with tabs between them", len(f))
	}
	c.Domain, c.Path, c.Name, c.Value = strings.TrimPrefix(f[0], "."), f[2], f[5], f[6]
	c.HostOnly = !strings.EqualFold(f[1], "TRUE")
	c.Secure = strings.EqualFold(f[3], "TRUE")
	for _, i := range []int{1, 3} {
		if !strings.EqualFold(f[i], "TRUE") && !strings.EqualFold(f[i], "FALSE") {
			return c, fmt.Sprintf("field %d is neither TRUE nor FALSE", i+1)
		}
	}
	// Some programs write fractions; nothing is lost by cutting them off.
	seconds, _, _ := strings.Cut(f[4], ".")
	end, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return c, "field 5 is not a time in seconds since 1970"
	}
	if end = min(end, maxSeconds); end > 0 {
		c.Expires = time.Unix(end, 0).UTC()
	}
	return c, ""
}

// maxSeconds is the end of the year 9999, the last that our JSON can hold.
const maxSeconds = 253402300799
