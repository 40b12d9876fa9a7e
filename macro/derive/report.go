package derive

import (
	"fmt"
	"io"
	"strings"
)

// Report writes what was derived and why, for a person. It holds no values.
func (d *Draft) Report(w io.Writer) {
	for i := range d.Steps {
		s := &d.Steps[i]
		fmt.Fprintf(w, "step %d  entry %d  %s\n", i+1, s.Entry, s.Name)
		for _, u := range s.Uses {
			fmt.Fprintf(w, "    %-28s {{%s}}  %s\n", u.Place, u.Token, u.From)
		}
		if len(s.Cookies) > 0 {
			fmt.Fprintf(w, "    sets                         %s\n", strings.Join(s.Cookies, ", "))
		}
		for _, x := range s.Extract {
			to := strings.Join(x.Places, "; ")
			if to == "" {
				to = "requests after the macro"
			}
			fmt.Fprintf(w, "    takes                        %s from %s, for %s\n", x.Token, x.Source.String(), to)
		}
		if s.Expect != "" {
			fmt.Fprintf(w, "    expects                      %s\n", s.Expect)
		}
	}
	for _, p := range d.Products {
		place := "no request of the recording carries it"
		if p.Place != "" {
			place = "later requests carry it in " + p.Place
		}
		fmt.Fprintf(w, "brings   %s, by step %d; %s\n", p.Token, p.Step, place)
	}
	for _, x := range d.Dropped {
		fmt.Fprintf(w, "dropped  entry %d  %s %s: %s\n", x.Entry, x.Method, x.URL, x.Reason)
	}
	for _, o := range d.Open {
		fmt.Fprintf(w, "as recorded  step %d, %s: %s\n", o.Step, o.Place, o.Why)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(w, "note     %s\n", n)
	}
}

// Report writes the outcome for a person.
func (p *Proof) Report(w io.Writer) {
	if p.Proved {
		fmt.Fprintf(w, "proved   it ran %d times, each with an empty jar, and every value that differed was derived\n", p.Runs)
	} else {
		fmt.Fprintf(w, "NOT proved, after %d runs\n", p.Runs)
	}
	for _, f := range p.Findings {
		fmt.Fprintf(w, "problem  %s\n", f)
	}
	for _, token := range p.Constant {
		fmt.Fprintf(w, "note     %s was the same each time\n", token)
	}
}
