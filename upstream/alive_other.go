//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package upstream

import "net"

// quiet cannot look without reading here; a connection that died meanwhile is
// found out when it is used.
func quiet(net.Conn) bool { return true }
