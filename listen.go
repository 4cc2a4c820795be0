package rowtide

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// Listen listens for clients at an address.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	return ListenFor(ctx, "--listen", addr)
}

// ListenFor listens at the address that a flag gives.
func ListenFor(ctx context.Context, flag, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	var call *os.SyscallError
	var wrong *net.AddrError
	switch {
	case err == nil:
		return l, nil
	case errors.As(err, &call): // without the address over again
		return nil, fmt.Errorf("listen on %s: %w: choose another address with %s", addr, call.Err, flag)
	case errors.As(err, &wrong):
		return nil, fmt.Errorf("listen on %s: %s: write host and port, such as 127.0.0.1:8080", addr, wrong.Err)
	}
	return nil, fmt.Errorf("listen on %s: %w: choose another address with %s", addr, err, flag)
}
