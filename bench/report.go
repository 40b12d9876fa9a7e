package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// Keys of a sample. They are the names in the JSON report, where a change of
// meaning raises reportVersion.
const (
	keyCPU     = "cpu_us_per_unit"
	keyClient  = "client_us_per_unit"
	keyRate    = "units_per_second"
	keyP50     = "p50_ms"
	keyP99     = "p99_ms"
	keyP999    = "p999_ms"
	keyFirst   = "first_byte_ms"
	keyIdle    = "idle_mb"
	keyPeak    = "peak_mb"
	keyTunnels = "mb_per_1000_tunnels"
	keyFailed  = "failed"
	keyBusy    = "proxy_cpu_percent"
	keyHarness = "harness_cpu_percent"
)

const reportVersion = 1

// A column of a table; the title's %s is the unit of the work, %p its plural.
type column struct {
	title, key string
	ratio      bool // a column with the ratio to the reference follows
}

// columns of the table of a work; those without a figure in any row are left
// out.
func columns() []column {
	return []column{
		{"CPU µs/%s", keyCPU, true},
		{"%p/s", keyRate, true},
		{"p50 ms", keyP50, false},
		{"p99 ms", keyP99, true},
		{"p99.9 ms", keyP999, false},
		{"first byte ms", keyFirst, true},
		{"MB/1,000 tunnels", keyTunnels, true},
		{"idle MB", keyIdle, false},
		{"peak MB", keyPeak, true},
		{"client µs/%s", keyClient, false},
		{"proxy % of a CPU", keyBusy, false},
		{"client and origin %", keyHarness, false},
	}
}

// A report is a whole run.
type report struct {
	Version  int      `json:"version"`
	Machine  machine  `json:"machine"`
	Settings settings `json:"settings"`
	Rows     []*row   `json:"rows"`
}

type machine struct {
	OS   string  `json:"os"`
	Arch string  `json:"arch"`
	CPUs int     `json:"cpus"`
	Go   string  `json:"go"`
	Pins pinning `json:"pinned"`
	Note string  `json:"note"`
}

func (r *report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// writeText prints a table for each work, and the ratios of all of them in one.
func (r *report) writeText(w io.Writer, list []work) error {
	pace := "as fast as answers come"
	if r.Settings.Rate > 0 {
		pace = fmt.Sprintf("at most %d requests/s", r.Settings.Rate)
	}
	fmt.Fprintf(w, "%d rounds (medians), %d connections, %s each, %s; %s\n",
		r.Settings.Rounds, r.Settings.Conns, r.Settings.Time, pace, r.Machine.Note)
	fmt.Fprint(w, "×ref is the ratio to the reference; CPU is user and system time of the proxy's process\n")
	for _, wk := range list {
		rows := r.of(wk.name)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s: %s\n", wk.name, wk.title)
		if err := writeTable(w, rows, wk.unit); err != nil {
			return err
		}
	}
	return r.writeRatios(w, list)
}

func (r *report) of(name string) []*row {
	var rows []*row
	for _, x := range r.Rows {
		if x.Work == name {
			rows = append(rows, x)
		}
	}
	return rows
}

func writeTable(w io.Writer, rows []*row, unit string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var used []column
	for _, c := range columns() {
		for _, x := range rows {
			if _, ok := x.Median[c.key]; ok {
				used = append(used, c)
				break
			}
		}
	}
	plural := unit
	if unit != "MB" {
		plural += "s"
	}
	names := strings.NewReplacer("%s", unit, "%p", plural)
	cells := []string{"proxy"}
	for _, c := range used {
		cells = append(cells, names.Replace(c.title))
		if c.ratio {
			cells = append(cells, "×ref")
		}
	}
	writeCells(tw, append(cells, "CPU spread"))
	for _, x := range rows {
		cells := []string{x.Proxy}
		for _, c := range used {
			cells = append(cells, figure(x.Median, c.key))
			if c.ratio {
				cells = append(cells, ratio(x.Ratio, c.key))
			}
		}
		span := "–"
		if x.Spread > 0 {
			span = fmt.Sprintf("%.0f%%", 100*x.Spread)
		}
		writeCells(tw, append(cells, span))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, x := range rows {
		if x.Problem != "" {
			fmt.Fprintf(w, "  %s: %s\n", x.Proxy, shorten(x.Problem))
		}
	}
	return nil
}

// maxProblem bounds what a table says about a problem; the JSON report says
// all.
const maxProblem = 300

func shorten(problem string) string {
	r := []rune(problem)
	if len(r) <= maxProblem {
		return problem
	}
	return string(r[:maxProblem]) + " … (all of it with --json)"
}

// writeRatios prints CPU time as ratios to the reference: proxies down, works
// across.
func (r *report) writeRatios(w io.Writer, list []work) error {
	var names []string
	seen := map[string]bool{}
	for _, x := range r.Rows {
		if !seen[x.Proxy] && x.Proxy != direct {
			names = append(names, x.Proxy)
		}
		seen[x.Proxy] = true
	}
	fmt.Fprint(w, "\nCPU time as a ratio to the reference (HTTP/2 to its HTTP/1; idle: memory)\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	cells := []string{"proxy"}
	for _, wk := range list {
		cells = append(cells, wk.name)
	}
	writeCells(tw, cells)
	for _, n := range names {
		cells := []string{n}
		for _, wk := range list {
			cell := "–"
			for _, x := range r.of(wk.name) {
				if x.Proxy != n {
					continue
				}
				key := keyCPU
				if wk.tunnels > 0 {
					key = keyTunnels
				}
				cell = ratio(x.Ratio, key)
			}
			cells = append(cells, cell)
		}
		writeCells(tw, cells)
	}
	return tw.Flush()
}

// writeCells writes one line; the writer keeps errors for Flush.
func writeCells(tw *tabwriter.Writer, cells []string) {
	fmt.Fprintln(tw, strings.Join(cells, "\t")+"\t")
}

// figure shows three significant digits or all before the point.
func figure(s sample, key string) string {
	v, ok := s[key]
	switch {
	case !ok || math.IsNaN(v):
		return "–"
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func ratio(s sample, key string) string {
	v, ok := s[key]
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}
