package rowtide_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestAServerThatStartsUpIsWaitedFor starts the service while the server recovers, and so is there and
// takes no sessions.
//
// Covers C37.
func TestAServerThatStartsUpIsWaitedFor(t *testing.T) {
	t.Parallel()
	// Without hot_standby nobody gets in before recovery has ended: else it is a standby for a moment.
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on", "hot_standby": "off"}})
	db := pgtest.On(t, cluster)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	cfg := settings(t, db, role)
	log := &logBuffer{more: make(chan struct{}, 1)}
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))

	// Recovery asks for WAL until it is told that there is no more.
	data := filepath.Join(cluster.Dir(), "data")
	enough := filepath.Join(data, "enough")
	db.Exec(t, "ALTER SYSTEM SET restore_command = 'until [ -e "+enough+" ]; do sleep 0.02; done; exit 1'")
	if err := cluster.StopMode(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "recovery.signal"), nil, 0o644); err != nil { //nolint:gosec // the server runs as another user
		t.Fatal(err)
	}
	restarted := make(chan error, 1)
	go func() { restarted <- cluster.Restart(t.Context()) }()
	eventually(t, "the server is there", func() bool {
		_, err := pgx.Connect(t.Context(), db.Admin)
		var pe *pgconn.PgError
		return errors.As(err, &pe) && pe.Code == pgerrcode.CannotConnectNow
	})
	go func() {
		log.await(t, "waiting for PostgreSQL")
		if err := os.WriteFile(enough, nil, 0o644); err != nil { //nolint:gosec // likewise
			t.Error(err)
		}
	}()
	s := start(t, cfg)
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	c := liveNotes(t, s, role, "")
	afresh(t, db, "INSERT INTO notes VALUES (1, 'ana', '')")
	until(t, c, isKind("INSERT"))
}
