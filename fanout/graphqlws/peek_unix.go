//go:build unix

package graphqlws

import (
	"errors"
	"syscall"
)

const canPeek = true

// readable is syscall.RawConn's: true once a read would not wait. It takes nothing.
func readable(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) //nolint:gosec // a descriptor
		if !errors.Is(err, syscall.EINTR) {
			return !errors.Is(err, syscall.EAGAIN)
		}
	}
}
