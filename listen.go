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
	return listen(ctx, "--listen", addr)
}

// ListenAdmin listens for operators at an address: of this machine, or anywhere with an AdminToken.
func (s *Server) ListenAdmin(ctx context.Context, addr string) (net.Listener, error) {
	l, err := listen(ctx, "--admin-listen", addr)
	if err != nil {
		return nil, err
	}
	if err := s.checkAdmin(l); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// checkAdmin refuses to let everybody be an operator.
func (s *Server) checkAdmin(l net.Listener) error {
	if !loopbackAddr(l.Addr().String()) && s.cfg.AdminToken == "" {
		return errors.New("--admin-listen is open to others than this machine: set --admin-token, such as the output of: openssl rand -hex 32")
	}
	return nil
}

// listen listens at the address that a flag gives.
func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
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
