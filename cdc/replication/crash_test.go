package replication

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// The test binary runs itself again as the program to be killed: the environment says so.
const (
	crashChildEnv = "ROWTIDE_TEST_CRASH_FILE"
	crashURLEnv   = "ROWTIDE_TEST_CRASH_URL"
	crashSlotEnv  = "ROWTIDE_TEST_CRASH_SLOT"
	seedEnv       = "ROWTIDE_TEST_SEED"
)

// A ledger is a handler that holds a transaction by a line in a file, written with one system
// call: what the kernel has survives the death of the program.
type ledger struct {
	file     *os.File
	progress *Progress
	open     []string
	had      int // transactions
}

func (l *ledger) Reset(cdc.LSN) { l.open = nil }

func (l *ledger) Lost(context.Context, cdc.LSN) error { return nil }

func (l *ledger) Handle(ctx context.Context, data []byte) error {
	m, err := pglogrepl.Parse(data)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pglogrepl.InsertMessage:
		l.open = append(l.open, string(m.Tuple.Columns[0].Data))
		// Now and then a transaction takes its time, so that death finds it open: long enough for
		// keepalives and statuses to pass.
		if len(l.open) == 1 && l.had%16 == 0 {
			sleep(ctx, 20*time.Millisecond)
		}
	case *pglogrepl.CommitMessage:
		l.had++
		line := fmt.Sprintf("%s %s %s\n", m.CommitLSN, m.TransactionEndLSN, strings.Join(l.open, ","))
		if _, err := l.file.WriteString(line); err != nil {
			return err
		}
		l.open = nil
		l.progress.Held(cdc.LSN(m.TransactionEndLSN))
	}
	return nil
}

// crashChild streams into the file until it is killed.
func crashChild(file string) int {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		l := &ledger{file: f, progress: NewProgress()}
		var c *Consumer
		if c, err = New(Config{URL: os.Getenv(crashURLEnv), Slot: os.Getenv(crashSlotEnv), Publications: []string{publication}, Handler: l, Progress: l.progress}); err == nil {
			err = c.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, "crash child:", err)
	return 1
}

// An entry is one line of the ledger, or one transaction of the reference.
type entry struct {
	commit, end cdc.LSN
	rows        string
}

// readLedger gives the whole lines, each transaction once. A transaction that was written and not
// acknowledged comes again; in another place of the order it may not.
func readLedger(t *testing.T, file string) []entry {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	var out []entry
	seen := map[cdc.LSN]entry{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 3)
		if len(fields) != 3 {
			t.Fatalf("ledger has the line %q", lines.Text())
		}
		e := entry{commit: parseLSN(t, fields[0]), end: parseLSN(t, fields[1]), rows: fields[2]}
		if before, again := seen[e.commit]; again {
			if before != e {
				t.Errorf("transaction %s came as %v and then as %v", e.commit, before, e)
			}
			continue
		}
		if n := len(out); n > 0 && e.commit <= out[n-1].commit {
			t.Errorf("transaction %s came for the first time after %s", e.commit, out[n-1].commit)
		}
		seen[e.commit] = e
		out = append(out, e)
	}
	return out
}

func parseLSN(t *testing.T, s string) cdc.LSN {
	t.Helper()
	l, err := cdc.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reference reads all that committed out of a slot of its own, with Postgres's own functions.
func reference(t *testing.T, db *pgtest.DB, slot string) []entry {
	t.Helper()
	rows, err := db.Pool(t).Query(t.Context(), `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)`, slot, publication)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	var out []entry
	var open []string
	for _, f := range frames {
		m, err := pglogrepl.Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pglogrepl.InsertMessage:
			open = append(open, string(m.Tuple.Columns[0].Data))
		case *pglogrepl.CommitMessage:
			out = append(out, entry{commit: cdc.LSN(m.CommitLSN), end: cdc.LSN(m.TransactionEndLSN), rows: strings.Join(open, ",")})
			open = nil
		}
	}
	return out
}

// workload writes transactions of 1 to 20 rows from two connections, and others that are not
// published or rolled back, at a pace that the program can follow, until stop is called, which gives their error.
func workload(t *testing.T, db *pgtest.DB, seed uint64) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	errs := make(chan error, 2)
	for writer := range 2 {
		r := rand.New(rand.NewPCG(seed, uint64(writer)))
		all.Go(func() {
			conn, err := pgx.Connect(context.WithoutCancel(ctx), db.Admin)
			if err != nil {
				errs <- err
				return
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for id := writer * 100_000_000; sleep(ctx, time.Millisecond); id += 20 {
				sql := fmt.Sprintf("INSERT INTO t SELECT %d + i FROM generate_series(1, %d) i", id, 1+r.IntN(20))
				switch r.IntN(5) {
				case 0:
					sql = "BEGIN; " + sql + "; ROLLBACK"
				case 1:
					sql = "INSERT INTO other VALUES (1)"
				case 2:
					sql = fmt.Sprintf("BEGIN; INSERT INTO other VALUES (1); %s; SAVEPOINT s; INSERT INTO t VALUES (-%d); ROLLBACK TO s; COMMIT", sql, id+1)
				}
				if _, err := conn.Exec(context.WithoutCancel(ctx), sql); err != nil {
					errs <- fmt.Errorf("%s: %w", sql, err)
					return
				}
			}
		})
	}
	return sync.OnceValue(func() error {
		cancel()
		all.Wait()
		close(errs)
		return <-errs
	})
}

// Kill -9 at random moments of a concurrent workload: the slot never moves past a transaction
// that the program did not hold, and what it holds in the end is what committed, in the order of
// the commits.
//
// Covers C01, C06.
func TestKilledProgramLosesNothing(t *testing.T) {
	t.Parallel()
	const kills = 20
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedEnv, seed)
	random := rand.New(rand.NewPCG(seed, 99))
	db := database(t)
	makeSlot(t, db)
	db.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", "ref_"+db.Name)
	file := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := workload(t, db, seed)
	t.Cleanup(func() { _ = stop() })

	type moment struct {
		confirmed cdc.LSN
		held      int
	}
	var moments []moment
	for range kills {
		runAndKill(t, db, file, random.IntN(4) > 0, time.Duration(random.IntN(300))*time.Millisecond)
		truncateTorn(t, file)
		moments = append(moments, moment{confirmed: confirmed(t, db), held: len(readLedger(t, file))})
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	want := reference(t, db, "ref_"+db.Name)
	f := startChild(t, db, file)
	eventually(t, "the ledger is complete", func() bool {
		got := readLedger(t, file)
		return len(got) > 0 && got[len(got)-1].commit == want[len(want)-1].commit
	})
	f()
	got := readLedger(t, file)
	if len(got) != len(want) {
		t.Errorf("%d transactions are held, %d committed", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("transaction %d is %v, want %v", i, got[i], want[i])
		}
	}
	for i, m := range moments {
		if m.held < len(want) && m.confirmed > want[m.held].commit {
			t.Errorf("at kill %d the slot stood at %s, behind the commit %s of a transaction that was not held", i, m.confirmed, want[m.held].commit)
		}
	}
	t.Logf("%d transactions; held at the kills: %v", len(want), moments)
}

// startChild starts the program; the returned function kills it, and waits until the server has
// noticed.
func startChild(t *testing.T, db *pgtest.DB, file string) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashChildEnv+"="+file, crashURLEnv+"="+db.Admin, crashSlotEnv+"="+db.Name)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("kill: %v: %s", err, &stderr)
		}
		_ = cmd.Wait() // it was killed
		eventually(t, "the server has noticed", func() bool {
			return !pgtest.One[bool](t, db, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", db.Name)
		})
	}
}

// runAndKill kills the program some time after its start, or after it has first written.
func runAndKill(t *testing.T, db *pgtest.DB, file string, written bool, after time.Duration) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	kill := startChild(t, db, file)
	if written {
		eventually(t, "the program writes", func() bool { return size() > before })
	}
	sleep(t.Context(), after)
	kill()
}

// truncateTorn cuts off a line that death left without its end. Its transaction was not held.
func truncateTorn(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, int64(bytes.LastIndexByte(b, '\n')+1)); err != nil {
		t.Fatal(err)
	}
}
