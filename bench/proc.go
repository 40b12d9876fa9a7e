package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on
// every Linux that programs see.
const clockTick = 10 * time.Millisecond

var errBadProc = errors.New("bench: a line of /proc has not the expected form")

// A procStat is what we need of /proc/PID/stat (proc_pid_stat(5)).
type procStat struct {
	parent int
	own    time.Duration // user and system time
	waited time.Duration // of children that ended and were waited for
}

// parseStat reads the line of /proc/PID/stat. The command's name stands in
// parentheses and may contain anything, parentheses and spaces included, so
// fields are counted from the last one that closes.
func parseStat(line []byte) (procStat, error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return procStat{}, errBadProc
	}
	fields := strings.Fields(string(line[end+1:]))
	if len(fields) < 20 {
		return procStat{}, errBadProc
	}
	at := func(n int) uint64 { // numbered as in the manual, from 1
		v, _ := strconv.ParseUint(fields[n-3], 10, 64)
		return v
	}
	return procStat{
		parent: int(at(4)),
		own:    time.Duration(at(14)+at(15)) * clockTick,
		waited: time.Duration(at(16)+at(17)) * clockTick,
	}, nil
}

// parseSchedstat reads the first field of /proc/PID/task/TID/schedstat:
// nanoseconds on a processor.
func parseSchedstat(line []byte) (time.Duration, error) {
	first, _, _ := bytes.Cut(line, []byte(" "))
	n, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return 0, errBadProc
	}
	return time.Duration(n), nil
}

// parseStatusKB reads a size, such as VmHWM, out of /proc/PID/status, in bytes.
func parseStatusKB(status []byte, key string) (int64, bool) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte(key+":"))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) != 2 || string(fields[1]) != "kB" {
			return 0, false
		}
		n, err := strconv.ParseInt(string(fields[0]), 10, 64)
		return n << 10, err == nil
	}
	return 0, false
}

// cpuOf is the processor time of one process: by the scheduler's account of
// its threads, which is exact, unless threads have ended meanwhile: these are
// only in the process's own account, which counts in ticks.
func cpuOf(pid int) (procStat, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	st, err := parseStat(line)
	if err != nil {
		return st, err
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return st, err
	}
	var exact time.Duration
	for _, name := range tasks {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		if d, err := parseSchedstat(line); err == nil {
			exact += d
		}
	}
	if diff := exact - st.own; -clockTick < diff && diff < 3*clockTick {
		st.own = exact
	}
	return st, nil
}

// A usage is what a process and its descendants have used.
type usage struct {
	cpu      time.Duration
	resident int64 // bytes, now
	peak     int64 // bytes, since resetPeak; of several processes, the sum of their peaks
}

// treeUsage adds up a process and all its descendants (squid and nginx work in
// children).
func treeUsage(pid int) (usage, error) {
	pids, err := tree(pid)
	if err != nil {
		return usage{}, err
	}
	var u usage
	for _, p := range pids {
		st, err := cpuOf(p)
		if err != nil {
			if p == pid {
				return usage{}, err
			}
			continue
		}
		u.cpu += st.own + st.waited
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		if err != nil {
			continue
		}
		rss, _ := parseStatusKB(status, "VmRSS")
		peak, _ := parseStatusKB(status, "VmHWM")
		u.resident += rss
		u.peak += peak
	}
	return u, nil
}

// tree lists a process and its descendants.
func tree(root int) ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, name := range names {
		line, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		st, err := parseStat(line)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err == nil {
			children[st.parent] = append(children[st.parent], pid)
		}
	}
	pids := []int{root}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids, nil
}

// resetPeak sets VmHWM back to what is resident now (proc_pid_clear_refs(5),
// value 5). Where that is not allowed, peaks include the start of the process.
func resetPeak(pid int) {
	pids, err := tree(pid)
	if err != nil {
		return
	}
	for _, p := range pids {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p), []byte("5"), 0)
	}
}

// allowedCPUs lists the processors which this process may use.
func allowedCPUs() ([]int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("Cpus_allowed_list:")); ok {
			return parseCPUList(strings.TrimSpace(string(rest)))
		}
	}
	return nil, errBadProc
}

// parseCPUList reads a list such as 0-3,8 (cpuset(7)).
func parseCPUList(s string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || b < a || b-a > 4096 {
			return nil, errBadProc
		}
		for ; a <= b; a++ {
			cpus = append(cpus, a)
		}
	}
	return cpus, nil
}
