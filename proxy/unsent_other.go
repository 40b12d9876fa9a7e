//go:build !linux

package proxy

import "net"

// boundUnsent is for Linux, whose buffers for sending grow by themselves.
func boundUnsent(net.Listener) {}
