package main

import (
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const rest = " S 41 7 7 0 -1 4194560 100 200 0 0 250 50 30 20 20 0 9 0 123456 1000 200 18446744073709551615 0 0"
	for _, name := range []string{"(holdfast)", "(a b)", "(evil) S 1 2 (x)", "()"} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte("42 " + name + rest))
			want := procStat{parent: 41, own: 3 * time.Second, waited: 500 * time.Millisecond}
			if err != nil || got != want {
				t.Fatalf("%+v, %v; want %+v", got, err, want)
			}
		})
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1 2"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestParseSchedstat(t *testing.T) {
	if d, err := parseSchedstat([]byte("1234567 89 3\n")); err != nil || d != 1234567 {
		t.Fatal(d, err)
	}
	if _, err := parseSchedstat([]byte("x 1 2")); err == nil {
		t.Fatal("letters were accepted")
	}
}

func TestParseStatus(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nThreads:\t3\n")
	for key, want := range map[string]int64{"VmHWM": 2 << 20, "VmRSS": 1 << 20} {
		if n, ok := parseStatusKB(status, key); !ok || n != want {
			t.Errorf("%s: %d %v, want %d", key, n, ok, want)
		}
	}
	for _, key := range []string{"Threads", "VmPeak"} {
		if _, ok := parseStatusKB(status, key); ok {
			t.Errorf("%s is no size", key)
		}
	}
}

func TestParseCPUList(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-1": {0, 1}, "0-2,5,7-8": {0, 1, 2, 5, 7, 8}} {
		if got, err := parseCPUList(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", list, got, err, want)
		}
	}
	for _, bad := range []string{"", "a", "3-1", "1-", "0-9999999"} {
		if _, err := parseCPUList(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	u, err := treeUsage(os.Getpid())
	if runtime.GOOS != "linux" {
		if err == nil {
			t.Fatal("figures without /proc")
		}
		return
	}
	if err != nil || u.cpu <= 0 || u.resident <= 0 || u.peak < u.resident {
		t.Fatalf("%+v, %v", u, err)
	}
}
