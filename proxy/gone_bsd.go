//go:build darwin || freebsd || netbsd || openbsd

package proxy

import (
	"net"
	"syscall"
)

// peerState looks at what is next to be read without taking it. It cannot see
// past bytes that have arrived and are not read yet.
func peerState(conn net.Conn) int {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return peerHere
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return peerGone
	}
	state := peerHere
	err = rc.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == nil && n == 0:
			state = peerHalf
		case err == syscall.ECONNRESET || err == syscall.EPIPE:
			state = peerGone
		}
	})
	if err != nil {
		return peerGone
	}
	return state
}
