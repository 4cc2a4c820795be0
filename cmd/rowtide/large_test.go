package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

var largeRows = flag.Int("large-rows", 100_000, "rows of the large transactions")

// mostMore is what a transaction of any size may add to the memory of a service.
const mostMore = 128 << 20

// A transaction larger than memory, and one that touches each of its rows twice, take little
// memory, and who follows another table gets its changes meanwhile. For the figures:
//
//	go test ./cmd/rowtide -run TestLargeTransactions -v -timeout 2h -large-rows 10000000
//
// Covers C66.
func TestLargeTransactions(t *testing.T) {
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_wal_size": "8GB"}})
	db := pgtest.On(t, cluster, `
		CREATE TABLE big (id int PRIMARY KEY, owner text NOT NULL, body text);
		CREATE TABLE ticks (id int PRIMARY KEY);
		COMMENT ON TABLE big IS '@subscribe(rowSecurity: NOT_REQUIRED)';
		COMMENT ON TABLE ticks IS '@subscribe(rowSecurity: NOT_REQUIRED)'`)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON big, ticks TO "+role)
	v := newVictim(t, db, &feedtest.Fixture{User: role, Reader: role}, db.Admin)
	defer v.kill()
	v.start(t)
	token, err := rowtide.Token(rowtide.Config{JWTSecret: testSecret}, role, []byte(`{"sub": "ana"}`), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := dialUntil(t, "ws://"+v.addr+"/graphql", token)
	if err := c.Subscribe(t.Context(), "1", "subscription { ticks { kind row { id } } }", nil); err != nil {
		t.Fatal(err)
	}
	ticks := newTicker(t, db, c)
	ticks.during(t, "idle", func() { pause(t.Context(), time.Second) })
	idle := memory(t, v, "VmRSS")
	for _, tx := range []struct{ name, sql string }{
		{"insert", fmt.Sprintf(`INSERT INTO big SELECT n, 'owner ' || n %% 100, repeat('x', 40) || n FROM generate_series(1, %d) n`, *largeRows)},
		{"copy", ""},
		{"update twice", `UPDATE big SET body = repeat('y', 40) || id; UPDATE big SET owner = 'somebody'`},
		{"delete", `DELETE FROM big`},
	} {
		ticks.during(t, tx.name, func() {
			if tx.sql == "" {
				copyRows(t, db, *largeRows/10)
				return
			}
			db.Exec(t, tx.sql)
		})
		peak := memory(t, v, "VmHWM")
		t.Logf("%s: memory at most %d MiB, idle %d MiB", tx.name, peak>>20, idle>>20)
		if peak-idle > mostMore {
			t.Errorf("%s: %d MiB more than idle, want at most %d", tx.name, (peak-idle)>>20, mostMore>>20)
		}
	}
}

// copyRows writes rows by COPY.
func copyRows(t *testing.T, db *pgtest.DB, n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows := pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{-1 - i, "copy", "text"}, nil })
	if _, err := conn.CopyFrom(t.Context(), pgx.Identifier{"big"}, []string{"id", "owner", "body"}, rows); err != nil {
		t.Fatal(err)
	}
}

// dialUntil connects once the service is ready.
func dialUntil(t *testing.T, url, token string) *client.Client {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; pause(t.Context(), 50*time.Millisecond) {
		c, err := client.Dial(t.Context(), url, token)
		if err == nil {
			t.Cleanup(func() { _ = c.CloseNow() })
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// memory reads a size from /proc, in bytes.
func memory(t *testing.T, v *victim, field string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(v.cmd.Process.Pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %s in %s", field, b)
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// A ticker writes to a table of its own, one row after the other has arrived, and notes how long
// each took.
type ticker struct {
	conn *pgx.Conn
	c    *client.Client
	n    int
}

func newTicker(t *testing.T, db *pgtest.DB, c *client.Client) *ticker {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	tk := &ticker{conn: conn, c: c}
	tk.await(t, `"LIVE"`)
	return tk
}

func (tk *ticker) await(t *testing.T, text string) {
	t.Helper()
	for {
		m, err := tk.c.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(m.Payload), text) {
			return
		}
	}
}

func (tk *ticker) tick(t *testing.T) time.Duration {
	t.Helper()
	tk.n++
	began := time.Now()
	if _, err := tk.conn.Exec(t.Context(), "INSERT INTO ticks VALUES ($1)", tk.n); err != nil {
		t.Fatal(err)
	}
	tk.await(t, fmt.Sprintf(`"id":%d}`, tk.n))
	return time.Since(began)
}

// during ticks while f runs, until the first tick behind its end has arrived.
func (tk *ticker) during(t *testing.T, name string, f func()) {
	t.Helper()
	var all sync.WaitGroup
	done := make(chan time.Time, 1)
	all.Go(func() { f(); done <- time.Now() })
	defer all.Wait()
	began := time.Now()
	var took []time.Duration
	for ended := false; ; {
		took = append(took, tk.tick(t))
		if ended {
			break
		}
		select {
		case end := <-done:
			ended = true
			defer func() {
				t.Logf("%s: committed after %s, handed on %s later", name, end.Sub(began).Round(time.Millisecond), time.Since(end).Round(time.Millisecond))
			}()
		default:
		}
		pause(t.Context(), 10*time.Millisecond)
	}
	slices.Sort(took)
	t.Logf("%s: %d ticks meanwhile, median %s, longest %s", name, len(took), took[len(took)/2].Round(time.Microsecond), took[len(took)-1].Round(time.Millisecond))
}
