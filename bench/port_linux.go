package main

import (
	"os"
	"strconv"
	"syscall"
)

// reservePort finds a port of 127.0.0.1 and keeps it until release: nobody is
// given it who lets the system choose, and connections to it are refused, but a
// program can listen on it that sets SO_REUSEADDR, as servers do (socket(7)).
func reservePort() (port string, release func(), err error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			syscall.Close(fd)
		}
	}()
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", nil, os.NewSyscallError("setsockopt", err)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", nil, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", nil, os.NewSyscallError("getsockname", err)
	}
	return strconv.Itoa(name.(*syscall.SockaddrInet4).Port), func() { syscall.Close(fd) }, nil
}
