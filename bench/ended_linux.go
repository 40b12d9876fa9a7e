package main

import (
	"net"
	"syscall"
)

// ended tells whether the other side has ended a connection, without reading
// from it.
func ended(c net.Conn) bool {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		const established = 1 // tcp(7): tcpi_state is the first byte of what TCP_INFO says
		v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		gone = err != nil || v&0xff != established
	})
	return err != nil || gone
}
