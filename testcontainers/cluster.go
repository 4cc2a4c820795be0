package testcontainers

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"sync"
	"time"
)

// Config says what cluster to start. The zero Config is useful.
type Config struct {
	// BinDir holds initdb and postgres. Defaults to what Find finds.
	BinDir string
	// Dir is the folder in which the cluster's private folder is made. Defaults to the system's
	// folder for temporary files. The user whom the server runs as must be able to reach it.
	Dir string
	// Settings are added to postgresql.conf, over those of DefaultSettings. Defaults to none.
	Settings map[string]string
	// Password of the superuser. With one, every TCP connection must give a password
	// (scram-sha-256). Defaults to none, and everybody on the loopback address is trusted.
	Password string
	// StartTimeout bounds initdb and each start of the server. Defaults to 30 s.
	StartTimeout time.Duration
}

// Superuser is the name of every cluster's superuser.
const Superuser = "postgres"

// A Backend runs the server of a Cluster, which calls it from one goroutine at a time, but for
// Status. This package has one for the machine's own binaries, pgtest one for Docker.
type Backend interface {
	// Start starts the server, with the data that it had, and returns when it accepts
	// connections. Where it fails no server runs.
	Start(ctx context.Context) error
	// Stop ends the server in one of StopMode's modes; the data stay. It returns when the server
	// has ended or ctx has. It does nothing where none runs.
	Stop(ctx context.Context, mode string) error
	// Remove ends the server at once, even where ctx has ended, and removes all that there is.
	Remove(ctx context.Context) error
	// Status may be called at any time.
	Status() Status
}

// Status says where a server is.
type Status struct {
	// Address is host:port. It is fixed once the server was started for the first time.
	Address string
	// Pid is the process id of the postmaster, 0 while no server runs.
	Pid int
	// Dir is the cluster's folder on this machine; empty where it has none.
	Dir string
}

// A Cluster is a private PostgreSQL cluster with its server. Its methods may be called from many
// goroutines.
type Cluster struct {
	cfg     Config
	backend Backend

	mu      sync.Mutex // held across starting and stopping, which must not overlap
	removed bool
}

// Start makes a cluster and starts its server; it returns when the server accepts connections.
// The caller must Stop the cluster. ctx bounds the start alone. Where the machine has no server
// binaries the error is a *NotFoundError.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	bin, err := newFinder().find(ctx, cfg.BinDir)
	if err != nil {
		return nil, err
	}
	return StartOn(ctx, cfg, newLocal(bin, cfg))
}

// StartOn is Start on another backend than the machine's own binaries.
func StartOn(ctx context.Context, cfg Config, b Backend) (*Cluster, error) {
	c := &Cluster{cfg: cfg, backend: b}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.startLocked(ctx); err != nil {
		return nil, errors.Join(err, b.Remove(ctx))
	}
	return c, nil
}

func (c *Cluster) startLocked(ctx context.Context) error {
	limit := c.cfg.StartTimeout
	if limit == 0 {
		limit = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.backend.Start(ctx)
}

// Dir is the cluster's private folder: data, log and socket. It is empty under Docker.
func (c *Cluster) Dir() string { return c.backend.Status().Dir }

// DataDir is the server's data folder. It is empty under Docker.
func (c *Cluster) DataDir() string {
	if dir := c.Dir(); dir != "" {
		return filepath.Join(dir, "data")
	}
	return ""
}

// Pid is the process id of the postmaster, 0 while no server runs.
func (c *Cluster) Pid() int { return c.backend.Status().Pid }

// URL is the connection string of a user and a database; it stays the same over restarts. It
// carries the password where the user is the superuser and Config asked for one.
func (c *Cluster) URL(user, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Host:     c.backend.Status().Address,
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	if user == Superuser && c.cfg.Password != "" {
		u.User = url.UserPassword(user, c.cfg.Password)
	}
	return u.String()
}

// Stop ends the server at once and removes the cluster. Further calls do nothing. It waits for no
// client, and data are lost: for an orderly shutdown, see StopMode.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil
	}
	c.removed = true
	return c.backend.Remove(ctx)
}

// StopMode ends the server as pg_ctl stop does and keeps the data, so that Restart can follow.
// Modes are "smart", "fast", "immediate", and "kill" for a crash (SIGKILL to the postmaster; its
// children end when they notice). It returns when the postmaster has ended, or when ctx has: then
// the server goes on stopping, and the error says so.
func (c *Cluster) StopMode(ctx context.Context, mode string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backend.Stop(ctx, mode)
}

// Restart stops the server (fast) where it runs, and starts it again on the same address and data.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return errors.New("restart cluster: it was removed by Stop")
	}
	if err := c.backend.Stop(ctx, "fast"); err != nil {
		return err
	}
	return c.startLocked(ctx)
}

// DefaultSettings are the settings of every cluster. They trade durability for speed, which is
// right for data that live as long as a test, and leave room for many slots and connections.
func DefaultSettings() map[string]string {
	return map[string]string{
		"wal_level":             "logical",
		"max_wal_senders":       "50",
		"max_replication_slots": "50",
		"max_connections":       "200",
		"fsync":                 "off",
		"full_page_writes":      "off",
		"synchronous_commit":    "on", // off would let commits be streamed late, unlike real servers
		"shared_buffers":        "32MB",
		"autovacuum":            "on",
		"timezone":              "UTC",
		"log_line_prefix":       "%m [%p] %q%u@%d ",
		// In the data folder, not in /dev/shm, where a killed server would leave it behind.
		"dynamic_shared_memory_type": "mmap",
	}
}
