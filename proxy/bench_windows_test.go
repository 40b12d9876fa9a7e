package proxy_test

import (
	"syscall"
	"testing"
)

// processorTime is what the process has used, in nanoseconds.
func processorTime(b *testing.B) int64 {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		b.Fatal(err)
	}
	var begun, ended, kernel, user syscall.Filetime
	if err := syscall.GetProcessTimes(self, &begun, &ended, &kernel, &user); err != nil {
		b.Fatal(err)
	}
	ticks := func(t syscall.Filetime) int64 { return int64(t.HighDateTime)<<32 | int64(t.LowDateTime) } // of 100 ns
	return 100 * (ticks(kernel) + ticks(user))
}
