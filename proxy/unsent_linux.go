package proxy

import (
	"net"
	"syscall"
)

// tcpNotsentLowat is TCP_NOTSENT_LOWAT of include/uapi/linux/tcp.h.
const tcpNotsentLowat = 25

// boundUnsent has the kernel take no more than maxUnsent bytes for a client
// beyond what its window lets go; connections have that from their listener.
// Otherwise clients that read nothing have megabytes each copied for them, all
// at once, in memory that is not the process's own.
func boundUnsent(ln net.Listener) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotsentLowat, maxUnsent) // a kernel without it has no bound
	})
}
