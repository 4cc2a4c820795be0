package testcontainers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what cluster to start. The zero Config is useful.
type Config struct {
	// BinDir holds initdb and postgres. Defaults to what Find finds.
	BinDir string
	// Dir is the folder in which the cluster's private folder is made. Defaults to the system's
	// folder for temporary files. The user whom the server runs as must be able to reach it.
	Dir string
	// Settings are added to postgresql.conf, over the defaults of package testcontainers.
	// Defaults to none.
	Settings map[string]string
	// Password of the superuser. With one, every TCP connection must give a password
	// (scram-sha-256). Defaults to none, and everybody on the loopback address is trusted.
	Password string
	// StartTimeout bounds initdb and each start of the server. Defaults to 30 s.
	StartTimeout time.Duration
}

// Superuser is the name of every cluster's superuser.
const Superuser = "postgres"

// A Cluster is a private PostgreSQL cluster with its running server. Its methods may be called
// from many goroutines.
type Cluster struct {
	cfg      Config
	bin      Binaries
	owner    owner
	dir      string
	watchdog *watchdog

	port int // chosen by Start, fixed from then on

	server atomic.Pointer[server] // the newest run; nil before the first

	mu      sync.Mutex // held across starting and stopping, which must not overlap
	removed bool
}

// Start makes a cluster and starts its server; it returns when the server accepts connections.
// The caller must Stop the cluster. ctx bounds the start alone.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.StartTimeout)
	defer cancel()
	bin, err := newFinder().find(ctx, cfg.BinDir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, bin: bin}
	if err := c.create(ctx); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

func (c *Cluster) create(ctx context.Context) (err error) {
	if c.owner, err = serverOwner(); err != nil {
		return err
	}
	if c.dir, err = privateDir(c.cfg.Dir, c.owner); err != nil {
		return err
	}
	if c.watchdog, err = startWatchdog(c.dir); err != nil {
		return err
	}
	if err := c.initdb(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.startOnFreePortLocked(ctx)
}

// startOnFreePortLocked tries ports until the server gets one: between the choice and the
// server's bind somebody else may take it.
func (c *Cluster) startOnFreePortLocked(ctx context.Context) error {
	const tries = 20
	var err error
	for range tries {
		if c.port, err = freePort(ctx); err != nil {
			return err
		}
		if err = c.startLocked(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// Dir is the cluster's private folder: the data, the server's log and its socket.
func (c *Cluster) Dir() string { return c.dir }

// DataDir is the server's data folder.
func (c *Cluster) DataDir() string { return filepath.Join(c.dir, "data") }

// LogFile is the server's log.
func (c *Cluster) LogFile() string { return filepath.Join(c.dir, "server.log") }

// Binaries tells which programs the cluster runs.
func (c *Cluster) Binaries() Binaries { return c.bin }

// Port is the TCP port on 127.0.0.1. It stays the same over restarts.
func (c *Cluster) Port() int { return c.port }

// Pid is the process id of the postmaster, 0 while no server runs.
func (c *Cluster) Pid() int {
	s := c.server.Load()
	if s == nil || s.ended() {
		return 0
	}
	return s.pid()
}

// URL is the connection string of a user and a database. It carries the password where the user
// is the superuser and Config asked for one.
func (c *Cluster) URL(user, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Host:     "127.0.0.1:" + strconv.Itoa(c.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	if user == Superuser && c.cfg.Password != "" {
		u.User = url.UserPassword(user, c.cfg.Password)
	}
	return u.String()
}

// Stop ends the server at once and removes the cluster's folder. Further calls do nothing. It is
// not a shutdown of the kind that waits for anybody: for that, see StopMode.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil
	}
	err := c.killLocked(ctx)
	c.removed = true
	return errors.Join(err, c.remove())
}

// remove deletes the folder, then tells the watchdog that nothing is left to guard.
func (c *Cluster) remove() error {
	var err error
	if c.dir != "" {
		err = os.RemoveAll(c.dir)
	}
	if c.watchdog != nil {
		err = errors.Join(err, c.watchdog.dismiss())
	}
	if err != nil {
		return fmt.Errorf("remove cluster: %w", err)
	}
	return nil
}

// StopMode ends the server as pg_ctl stop does and keeps the data, so that Restart can follow.
// Modes are "smart", "fast", "immediate", and "kill" for a crash (SIGKILL to the postmaster; its
// children end when they notice). It returns when the postmaster has ended, or when ctx has: then
// the server goes on stopping, and the error says so.
func (c *Cluster) StopMode(ctx context.Context, mode string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopLocked(ctx, mode)
}

// Restart stops the server (fast) where it runs, and starts it again on the same port and data.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return errors.New("restart cluster: it was removed by Stop")
	}
	if err := c.stopLocked(ctx, "fast"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StartTimeout)
	defer cancel()
	return c.startAfterCrashLocked(ctx)
}
