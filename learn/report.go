package learn

import (
	"encoding/json"
	"fmt"
	"io"
)

// Claim is something that was to be shown.
type Claim struct {
	Claim  string `json:"claim"`
	Proved bool   `json:"proved"`
	How    string `json:"how"`
	Next   string `json:"next,omitempty"` // what to do by hand
}

// Asked is a request that was asked with the session, without it, and with a
// broken one.
type Asked struct {
	Request string `json:"request"`
	Answer  string `json:"answer"`
}

// Report is what was learnt or examined: the JSON shape of version 1. It holds no
// secrets.
type Report struct {
	Version  int    `json:"v"`
	Origin   string `json:"origin,omitempty"`
	Identity string `json:"identity,omitempty"`
	Rule     string `json:"rule,omitempty"`
	// Held says that the session was held: logged in, used, killed, recovered.
	Held     bool     `json:"held"`
	Steps    int      `json:"login_steps,omitempty"`
	Requests int      `json:"requests"` // that were sent to find out
	Asked    []Asked  `json:"asked"`
	Claims   []Claim  `json:"claims"`
	Timing   *Timing  `json:"timing,omitempty"`
	Notes    []string `json:"notes,omitempty"`
}

// Timing is how long things took, in milliseconds; 0: it was not done.
type Timing struct {
	Login   float64 `json:"login_ms"`
	Refresh float64 `json:"refresh_ms,omitempty"`
	Probe   float64 `json:"probe_ms,omitempty"`
}

func (r *Report) claim(proved bool, what, how, next string) {
	if proved {
		next = ""
	}
	r.Claims = append(r.Claims, Claim{what, proved, how, next})
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Write writes the report for a person.
func (r *Report) Write(w io.Writer) {
	for _, a := range r.Asked {
		fmt.Fprintf(w, "asked       %s: %s\n", a.Request, a.Answer)
	}
	for _, c := range r.Claims {
		word := "proved      "
		if !c.Proved {
			word = "NOT PROVED  "
		}
		fmt.Fprintf(w, "%s%s: %s\n", word, c.Claim, c.How)
		if c.Next != "" {
			fmt.Fprintf(w, "            -> %s\n", c.Next)
		}
	}
	if t := r.Timing; t != nil {
		fmt.Fprintf(w, "time        login %.0f ms", t.Login)
		if t.Refresh > 0 {
			fmt.Fprintf(w, ", refresh %.0f ms", t.Refresh)
		}
		if t.Probe > 0 {
			fmt.Fprintf(w, ", probe %.0f ms", t.Probe)
		}
		fmt.Fprintln(w)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note        %s\n", n)
	}
	held := "the session is held"
	if !r.Held {
		held = "THE SESSION IS NOT HELD"
	}
	fmt.Fprintf(w, "result      %s (%d requests)\n", held, r.Requests)
}

func quote(s string) string {
	raw, err := json.Marshal(s)
	if err != nil {
		return `""` // a string can always be written
	}
	return string(raw)
}
