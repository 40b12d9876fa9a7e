package proxy

import (
	"encoding/binary"
	"net"
	"syscall"
)

// States of TCP in the kernel's numbering (include/net/tcp_states.h).
const (
	tcpClose     = 7
	tcpCloseWait = 8
)

// peerState asks for the connection's state, which does not depend on what
// has arrived and is not read yet. The first byte of struct tcp_info is that
// state; the four that an int holds are enough.
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
		v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		if err != nil {
			return // no TCP: not known
		}
		var info [4]byte
		binary.NativeEndian.PutUint32(info[:], uint32(v))
		switch info[0] {
		case tcpCloseWait:
			state = peerHalf
		case tcpClose:
			state = peerGone
		}
	})
	if err != nil {
		return peerGone
	}
	return state
}
