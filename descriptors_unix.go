//go:build unix

package holdfast

import "syscall"

// maxDescriptors is how many descriptors this process may have. Go has raised
// the soft limit to the hard one when the process started.
func maxDescriptors() (limit uint64, known bool) {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 0, false
	}
	return uint64(r.Cur), true
}
