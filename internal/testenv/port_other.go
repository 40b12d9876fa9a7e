//go:build !linux

package testenv

// keepPort leaves the choice to the listener: elsewhere than on Linux a port
// cannot be kept beside a listener on it.
func keepPort() (addr string, release func(), err error) {
	return "127.0.0.1:0", func() {}, nil
}
