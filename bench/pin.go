package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// A pinning says on which processors the two sides run.
type pinning struct {
	Harness []int `json:"harness,omitempty"` // client and origin
	Proxy   []int `json:"proxy,omitempty"`
}

// pin moves this process (client and origin) to all processors but the last,
// which is kept for the proxies. With one processor, or without taskset(1), it
// does nothing and says why.
func pin() (pinning, string) {
	cpus, err := allowedCPUs()
	if err != nil {
		return pinning{}, "not pinned: " + err.Error()
	}
	if len(cpus) < 2 {
		return pinning{}, "not pinned: there is one processor; client, origin and proxy share it"
	}
	last := len(cpus) - 1
	p := pinning{Harness: cpus[:last], Proxy: cpus[last:]}
	out, err := exec.Command("taskset", "-a", "-c", "-p", cpuList(p.Harness), strconv.Itoa(os.Getpid())).CombinedOutput()
	if err != nil {
		return pinning{}, fmt.Sprintf("not pinned: taskset: %v %s", err, strings.TrimSpace(string(out)))
	}
	runtime.GOMAXPROCS(len(p.Harness))
	return p, fmt.Sprintf("client and origin on processor %s, the proxy on %s", cpuList(p.Harness), cpuList(p.Proxy))
}

// wrap puts a proxy's command on the proxy's processor.
func (p pinning) wrap(argv []string) []string {
	if len(p.Proxy) == 0 {
		return argv
	}
	return append([]string{"taskset", "-c", cpuList(p.Proxy)}, argv...)
}

func cpuList(cpus []int) string {
	var b strings.Builder
	for i, c := range cpus {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(c))
	}
	return b.String()
}
