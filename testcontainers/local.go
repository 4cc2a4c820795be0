package testcontainers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

// local is the Backend that runs this machine's binaries.
type local struct {
	cfg      Config
	bin      Binaries
	owner    owner
	dir      string // empty before the first Start
	watchdog *watchdog
	port     int // chosen by the first Start, fixed from then on

	server atomic.Pointer[server] // the newest run; nil before the first
}

func newLocal(bin Binaries, cfg Config) *local { return &local{cfg: cfg, bin: bin} }

func (l *local) dataDir() string { return filepath.Join(l.dir, "data") }

// Status tells where the server is.
func (l *local) Status() Status {
	st := Status{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(l.port)), Dir: l.dir}
	if s := l.server.Load(); s != nil && !s.ended() {
		st.Pid = s.pid()
	}
	return st
}

// Start makes the cluster, the first time, and starts its server.
func (l *local) Start(ctx context.Context) error {
	if l.dir != "" {
		return l.startAfterCrash(ctx)
	}
	var err error
	if l.owner, err = serverOwner(); err != nil {
		return err
	}
	if l.dir, err = privateDir(l.cfg.Dir, l.owner); err != nil {
		return err
	}
	if l.watchdog, err = startWatchdog(l.dir); err != nil {
		return err
	}
	if err := l.initdb(ctx); err != nil {
		return err
	}
	return l.startOnFreePort(ctx)
}

// startOnFreePort tries ports until the server gets one: between the choice and the server's
// bind somebody else may take it.
func (l *local) startOnFreePort(ctx context.Context) error {
	const tries = 20
	var err error
	for range tries {
		if l.port, err = FreePort(ctx); err != nil {
			return err
		}
		if err = l.start(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// Remove ends the server and deletes the folder; only then is nothing left to guard.
func (l *local) Remove(ctx context.Context) error {
	err := l.kill(ctx)
	if l.dir != "" {
		err = errors.Join(err, removeAll(l.dir))
	}
	if l.watchdog != nil {
		err = errors.Join(err, l.watchdog.dismiss())
	}
	if err != nil {
		return fmt.Errorf("remove cluster: %w", err)
	}
	return nil
}

// removeAll tries for a while: the children of a postmaster that was killed may write files into
// a folder while it is being emptied, until they notice.
func removeAll(dir string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for give := time.Now().Add(10 * time.Second); ; <-tick.C {
		if err := os.RemoveAll(dir); err == nil || time.Now().After(give) {
			return err
		}
	}
}
