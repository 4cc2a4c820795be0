package testcontainers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// errPortTaken says that another program listens on the port that the server was to have.
var errPortTaken = errors.New("port is taken")

// errStillHeld says that processes of the server before are still alive.
var errStillHeld = errors.New("shared memory of the last run is still in use")

// A server is one run of the postmaster.
type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process was reaped
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// start runs a server on l.port and waits until it accepts connections.
func (l *local) start(ctx context.Context) error {
	log, err := os.OpenFile(l.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer log.Close()
	before, err := log.Stat()
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	// Not CommandContext: the server lives on when ctx, which bounds the start, has ended.
	cmd := exec.Command(filepath.Join(l.bin.Dir, "postgres"), l.serverArgs()...) //nolint:noctx // as said above
	l.prepare(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	s := &server{cmd: cmd, done: make(chan struct{})}
	l.server.Store(s)
	l.watchdog.guard(s.pid())
	go func() {
		defer close(s.done)
		_ = cmd.Wait() // how it ended is in its log
		l.watchdog.guard(0)
	}()
	if err := l.waitReady(ctx, s, before.Size()); err != nil {
		return errors.Join(err, l.kill(ctx))
	}
	return nil
}

// startAfterCrash is start, again and again while processes of a killed server still
// hold its shared memory: they end as soon as they notice that their postmaster is gone.
func (l *local) startAfterCrash(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := l.start(ctx)
		if !errors.Is(err, errStillHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// waitReady waits as pg_ctl does: postmaster.pid has the server's process id in line 1, and
// "ready" in line 8 once it accepts connections (miscadmin.h, LOCK_FILE_LINE_PM_STATUS).
func (l *local) waitReady(ctx context.Context, s *server, logFrom int64) error {
	file, pid := filepath.Join(l.dataDir(), "postmaster.pid"), strconv.Itoa(s.pid())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return l.startError(logFrom)
		case <-ctx.Done():
			return fmt.Errorf("start server: not ready in time: %w; last log line: %s", ctx.Err(), lastLine(l.logSince(logFrom)))
		case <-tick.C:
			b, err := os.ReadFile(file)
			if err != nil {
				continue // not yet written
			}
			lines := strings.Split(string(b), "\n")
			if len(lines) > 7 && lines[0] == pid && strings.TrimSpace(lines[7]) == "ready" {
				return nil
			}
		}
	}
}

// startError tells from the log why the server ended before it was ready.
func (l *local) startError(logFrom int64) error {
	log := l.logSince(logFrom)
	if strings.Contains(log, "could not bind") || strings.Contains(log, "could not create any TCP/IP sockets") {
		return fmt.Errorf("start server on port %d: %w", l.port, errPortTaken)
	}
	if strings.Contains(log, "pre-existing shared memory block") {
		return fmt.Errorf("start server: %w", errStillHeld)
	}
	return fmt.Errorf("start server: %s", reason(log))
}

// reason is what the FATAL line of a log says, and the LOG line before it, which often says more
// ("configuration file contains errors" follows what the error is).
func reason(log string) string {
	said := ""
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if _, text, ok := strings.Cut(line, "LOG:  "); ok {
			said = " (" + text + ")"
		}
		if _, text, ok := strings.Cut(line, "FATAL:  "); ok {
			return text + said
		}
	}
	return lastLine(log)
}

func (l *local) logFile() string { return filepath.Join(l.dir, "server.log") }

func (l *local) logSince(from int64) string {
	b, err := os.ReadFile(l.logFile())
	if err != nil || int64(len(b)) < from {
		return ""
	}
	return string(b[from:])
}

// Stop asks the server to end in a mode and waits.
func (l *local) Stop(ctx context.Context, mode string) error {
	signal, err := stopSignal(mode)
	if err != nil {
		return err
	}
	s := l.server.Load()
	if s == nil || s.ended() {
		return nil
	}
	if err := s.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop server (%s): %w", mode, err)
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop server (%s): still running: %w", mode, ctx.Err())
	}
}

// kill ends the server whatever it does: immediate shutdown, which lets it give back its
// shared memory, and SIGKILL where that takes long.
func (l *local) kill(ctx context.Context) error {
	// ctx may have ended, which is often the reason to be here.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 7*time.Second)
	defer cancel()
	// The postmaster itself kills backends that outlive an immediate shutdown by 5 s
	// (postmaster.c, SIGKILL_CHILDREN_AFTER_SECS).
	if err := l.Stop(ctx, "immediate"); err == nil {
		return nil
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 7*time.Second)
	defer cancel()
	return l.Stop(ctx, "kill")
}

// FreePort picks a port on which nobody listens, below the range from which Linux and macOS take
// ports for outgoing connections: there it could be taken while the server restarts.
func FreePort(ctx context.Context) (int, error) {
	const low, high, tries = 15000, 32000, 100
	var lc net.ListenConfig
	for range tries {
		port := low + rand.IntN(high-low)
		l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port on 127.0.0.1 between %d and %d: %d tried, all taken", low, high, tries)
}
