package rowtide_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A logBuffer may be written to while it is read.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *logBuffer) await(t *testing.T, want string) {
	t.Helper()
	for {
		b.mu.Lock()
		said := b.text.String()
		b.mu.Unlock()
		if strings.Contains(said, want) {
			return
		}
		select {
		case <-b.more:
		case <-t.Context().Done():
			t.Fatalf("%q was not logged:\n%s", want, said)
		}
	}
}

// A policy that would give every client the rows of the service login is told of in the log at the
// start, with what mends it; the tables beside it are served.
func TestTheServiceLogsWhatTheDoctorFinds(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int PRIMARY KEY, owner text); ALTER TABLE a ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON a USING (owner = session_user); COMMENT ON TABLE a IS '@subscribe'`)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON a TO "+role)
	log := &logBuffer{more: make(chan struct{}, 1)}
	cfg := settings(t, db, role)
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	start(t, cfg)
	log.await(t, "which is the service login for every client; ALTER POLICY")
	log.await(t, "max_slot_wal_keep_size is unlimited")
}
