//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package proxy

import "net"

// peerState is not known here: that a client left shows in the next write.
func peerState(net.Conn) int { return peerHere }
