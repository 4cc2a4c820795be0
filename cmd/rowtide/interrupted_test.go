package main

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
)

// TestToldToStopWhileItStarts sends SIGTERM to commands that wait for a server which never
// answers. Those that last until they are told to stop have done what they were told.
func TestToldToStopWhileItStarts(t *testing.T) {
	for _, c := range []struct {
		args, want string
		exit       int
	}{
		{"serve --roles web_user --database-url postgres://rowtide@$silent/app", "", 0},
		{"serve --dev --database-url postgres://postgres@$silent/app", "", 0},
		{"subscribe --url ws://$silent/graphql subscription", "", 0},
		{"setup --roles web_user --admin-url postgres://postgres@$silent/app", "rowtide: interrupted before all was done: run it again\n", 1},
		{"schema --role web_user --database-url postgres://rowtide@$silent/app", "rowtide: interrupted before all was done: run it again\n", 1},
	} {
		t.Run(c.args, func(t *testing.T) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			w := newWorld()
			w.words["silent"] = l.Addr().String()
			cmd := w.command(context.WithoutCancel(t.Context()), t, strings.Fields(w.expand(t, c.args))...)
			var said strings.Builder
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.exit || said.String() != c.want {
				t.Errorf("it ended with %v (%d) and said %q, want %d and %q", err, got, &said, c.exit, c.want)
			}
		})
	}
}
