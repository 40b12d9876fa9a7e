//go:build linux || darwin || freebsd || netbsd || openbsd

package proxy

import (
	"net"
	"syscall"
)

// canRest tells whether awaitReadable can wait for the connection.
func canRest(conn net.Conn) bool {
	_, ok := conn.(syscall.Conn)
	return ok
}

// awaitReadable returns when a read would not wait: for bytes, the peer's end,
// or an error. Its own errors are those of a deadline and of closing.
func awaitReadable(conn net.Conn) error {
	rc, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	waited := false
	return rc.Read(func(fd uintptr) bool {
		if waited {
			return true
		}
		waited = true
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN
	})
}
