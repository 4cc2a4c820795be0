package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rowtide/rowtide/testcontainers"
)

// A Choice is where the demo's PostgreSQL comes from.
type Choice string

// The choices, in the order in which Auto tries them.
const (
	// Auto is the first of the others that can be had.
	Auto Choice = "auto"
	// Local runs the server binaries of this machine.
	Local Choice = "local"
	// Docker runs a container.
	Docker Choice = "docker"
	// Download fetches server binaries once, and keeps them in the user's cache.
	Download Choice = "download"
)

// PostgresConfig says how to get a PostgreSQL.
type PostgresConfig struct {
	// Choice defaults to Auto.
	Choice Choice
	// Repository is a Maven repository with the server binaries that the project
	// zonkyio/embedded-postgres-binaries builds. Defaults to Maven Central.
	Repository string
	// CacheDir keeps what was downloaded. Defaults to the user's cache.
	CacheDir string
	// Out is told what is waited for; a bar is shown where it is a terminal.
	Out io.Writer

	// local starts this machine's binaries. Tests have it find none.
	local func(context.Context) (*testcontainers.Cluster, error)
}

// startPostgres starts a private server, from what can be had.
func startPostgres(ctx context.Context, cfg PostgresConfig) (*testcontainers.Cluster, error) {
	if cfg.local == nil {
		cfg.local = func(ctx context.Context) (*testcontainers.Cluster, error) {
			return testcontainers.Start(ctx, testcontainers.Config{Settings: settings()})
		}
	}
	switch cfg.Choice {
	case Local:
		return cfg.local(ctx)
	case Docker:
		return startDocker(ctx, cfg.Out)
	case Download:
		return startDownloaded(ctx, cfg)
	case Auto:
	}
	cluster, err := cfg.local(ctx)
	var missing *testcontainers.NotFoundError
	if !errors.As(err, &missing) || os.Getenv(testcontainers.BinDirEnv) != "" {
		return cluster, err // who names the binaries to use gets those or an error
	}
	noDocker := dockerRuns(ctx)
	if noDocker == nil {
		return startDocker(ctx, cfg.Out)
	}
	cluster, noDownload := startDownloaded(ctx, cfg)
	if noDownload != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("no PostgreSQL can be had: install its server (apt-get install postgresql; macOS: brew install postgresql@17), "+
			"or Docker (%w), or let it be downloaded (%w)", noDocker, noDownload)
	}
	return cluster, noDownload
}

// startLimit bounds the start of a server whose image may have to be fetched first.
const startLimit = 5 * time.Minute

// settings are those of a server that nobody looks after: the doctor has nothing to say of it.
func settings() map[string]string {
	return map[string]string{"max_slot_wal_keep_size": "1GB"}
}
