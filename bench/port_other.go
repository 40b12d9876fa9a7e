//go:build !linux

package main

import "net"

// reservePort finds a port nobody listens on now. Elsewhere than on Linux it
// cannot be kept for a program that is to listen on it.
func reservePort() (port string, release func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	defer l.Close()
	_, port, err = net.SplitHostPort(l.Addr().String())
	return port, func() {}, err
}
