//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package proxy

import "net"

// canRest is false: here an idle connection waits in the read of its next
// request.
func canRest(net.Conn) bool { return false }

func awaitReadable(net.Conn) error { return nil }
