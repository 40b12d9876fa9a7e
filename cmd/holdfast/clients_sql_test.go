package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// database is the version that the database below has.
const database = "3.40.1"

// Conditions that the database understands.
var (
	onlyID  = regexp.MustCompile(`^1(?: AND (.*?))?(?:-- \w*)?$`)
	compare = regexp.MustCompile(`^\(?(\d+)\)?\s*(=|>|<)\s*\(?(\d+)\)?$`)
	letter  = regexp.MustCompile(`^SUBSTR\(.*SQLITE_VERSION\(\).*,(\d+),1\)(=|>|<)CHAR\((\d+)\)$`)
)

// query is a page whose parameter stands in an SQL statement as it came, where
// the database understands just what sqlmap asks.
func query(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	m := onlyID.FindStringSubmatch(id)
	if m == nil || m[1] != "" && !holds(m[1]) {
		fmt.Fprint(w, "<html><body><h1>Things</h1><p>There is nothing like that.</p></body></html>")
		return
	}
	fmt.Fprint(w, "<html><body><h1>Things</h1><p>A copper kettle, two litres, and its lid</p></body></html>")
}

func holds(condition string) bool {
	if m := compare.FindStringSubmatch(condition); m != nil {
		return compared(decimal(m[1]), m[2], decimal(m[3]))
	}
	if m := letter.FindStringSubmatch(condition); m != nil {
		at, c := decimal(m[1]), 0
		if at <= len(database) {
			c = int(database[at-1])
		}
		return compared(c, m[2], decimal(m[3]))
	}
	left, right, ok := strings.Cut(condition, "=")
	return condition == "RANDOMBLOB(-1)>0" || ok && left == right
}

func decimal(digits string) int {
	n, _ := strconv.Atoi(digits) // an overflow is as good as its limit
	return n
}

func compared(a int, op string, b int) bool {
	switch op {
	case "=":
		return a == b
	case ">":
		return a > b
	}
	return a < b
}
