package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

const testSecret = "a secret for tests, and for tests alone"

// A victim is a service that is killed and started again, always at the same address.
type victim struct {
	bin, addr, slot string
	admin           string // the superuser's URL of its database
	dial            string // where clients reach it
	args            []string

	cmd  *exec.Cmd
	done chan struct{} // closed when all that it said has been read

	mu   sync.Mutex
	dead bool // it is not started again
	// published are the commits that the service said the bus held, at any time, by the number of
	// sightings before.
	published map[cdc.LSN]int
	// seen are, for each kill, where the slot stood.
	seen []cdc.LSN
}

// newVictim sets a database up. The service reaches it at the address of the URL via.
func newVictim(t *testing.T, db *pgtest.DB, fx *feedtest.Fixture, via string) *victim {
	t.Helper()
	report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{
		AdminURL: db.Admin, Roles: []string{fx.User, fx.Reader}, Login: "login_" + db.Name, Slot: "slot_" + db.Name, Yes: true,
	})
	if err != nil {
		t.Fatalf("set up: %v\n%s", err, report)
	}
	t.Cleanup(func() { dropLogin(t, db) })
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	service, err := url.Parse(report.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := url.Parse(via)
	if err != nil {
		t.Fatal(err)
	}
	service.Host = proxy.Host
	v := &victim{bin: build(t), addr: l.Addr().String(), dial: l.Addr().String(), slot: "slot_" + db.Name, admin: db.Admin, published: map[cdc.LSN]int{}}
	v.args = []string{
		"serve", "--database-url", service.String(), "--roles", fx.User + "," + fx.Reader, "--jwt-secret", testSecret,
		"--slot", v.slot, "--listen", v.addr, "--expose-positions", "--log-level", "debug",
		// The window is longer than anybody is away: who is told that it is not has found a fault. (One of
		// a minute was not, at a load of 45 on two cores.)
		"--retain-memory", "1GB", "--retain-wal", "1GB",
	}
	// A second slot, read in the end by no code of ours, knows all commits.
	db.Exec(t, "SELECT pg_create_logical_replication_slot('witness_"+db.Name+"', 'pgoutput')")
	return v
}

// dropLogin drops what setup made outside the database, which belongs to the whole cluster.
func dropLogin(t *testing.T, db *pgtest.DB) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, db.Admin)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(ctx)
	login := "login_" + db.Name
	if _, err := conn.Exec(ctx, "DROP OWNED BY "+login+"; DROP ROLE "+login); err != nil {
		t.Error(err)
	}
}

// start runs the service until kill: one that ends by itself, as where it finds no server, is
// started again, as by a supervisor.
func (v *victim) start(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	v.dead = false
	v.mu.Unlock()
	v.done = make(chan struct{})
	said := v.launch(t)
	go func() {
		defer close(v.done)
		for said != nil {
			v.listen(t, said)
			_ = v.cmd.Wait()
			pause(t.Context(), 300*time.Millisecond)
			said = v.launch(t)
		}
	}()
}

// launch starts one process and gives what it says, or nil where it was killed.
func (v *victim) launch(t *testing.T) io.Reader {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dead {
		return nil
	}
	v.cmd = exec.Command(v.bin, v.args...) //nolint:noctx,gosec // it is killed, which is what is tested
	said, err := v.cmd.StderrPipe()
	if err == nil {
		err = v.cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	return said
}

// listen reads what a process says, to its end.
func (v *victim) listen(t *testing.T, said io.Reader) {
	t.Helper()
	lines := bufio.NewScanner(said)
	published := regexp.MustCompile(`msg=published commit=([0-9A-F]+/[0-9A-F]+)`)
	of := regexp.MustCompile(`level=(WARN|ERROR)|resyncs|held again|ready for clients|^rowtide:`)
	for lines.Scan() {
		if m := published.FindSubmatch(lines.Bytes()); m != nil {
			v.note(string(m[1]))
		} else if of.Match(lines.Bytes()) {
			fmt.Fprintln(t.Output(), lines.Text())
		}
	}
}

func (v *victim) note(lsn string) {
	l, err := cdc.ParseLSN(lsn)
	if err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, before := v.published[l]; !before {
		v.published[l] = len(v.seen)
	}
}

// kill ends the service without a word and waits until all that it said has been read.
func (v *victim) kill() {
	if v.done == nil {
		return
	}
	v.signal(syscall.SIGKILL)
	<-v.done
	v.done = nil
}

// signal sends a signal to the process; one that kills it is the last.
func (v *victim) signal(s syscall.Signal) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dead = s == syscall.SIGKILL
	_ = v.cmd.Process.Signal(s)
}

// look notes where the slot stands, once the server has noticed that nobody streams.
func (v *victim) look(t *testing.T, db *pgtest.DB) {
	t.Helper()
	conn := connected(t, db)
	defer conn.Close(context.WithoutCancel(t.Context()))
	for active, text := true, "0/0"; ; {
		err := conn.QueryRow(t.Context(), `SELECT coalesce(bool_or(active), false), coalesce(max(confirmed_flush_lsn::text), '0/0')
			FROM pg_replication_slots WHERE slot_name = $1`, v.slot).Scan(&active, &text)
		if err != nil {
			t.Fatal(err)
		}
		if active {
			continue
		}
		confirmed, err := cdc.ParseLSN(text)
		if err != nil {
			t.Fatal(err)
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.seen = append(v.seen, confirmed)
		return
	}
}

// connected opens a session of its own: those of a pool do not survive the server's end.
func connected(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	late := time.Now().Add(time.Minute)
	for {
		conn, err := pgx.Connect(t.Context(), db.Admin)
		if err == nil {
			return conn
		}
		if t.Context().Err() != nil || time.Now().After(late) {
			t.Fatal(err)
		}
		pause(t.Context(), 50*time.Millisecond)
	}
}

// check compares each sighting with all commits there were: every one that the slot had moved
// past had been handed on.
func (v *victim) check(t *testing.T, db *pgtest.DB, since cdc.LSN) {
	t.Helper()
	conn := connected(t, db)
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows, err := conn.Query(t.Context(), `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'rowtide') WHERE get_byte(data, 0) = ascii('B')`, "witness_"+db.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	commits, moved := 0, 0
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			t.Fatal(err)
		}
		commit := cdc.LSN(binary.BigEndian.Uint64(data[1:])) // Begin: the LSN of the commit record
		if commit < since {
			continue
		}
		commits++
		sightings, published := v.published[commit]
		for n, confirmed := range v.seen {
			if commit < confirmed {
				moved++
				if !published || sightings > n {
					t.Errorf("kill %d: the slot stood at %s, past the commit at %s, which was not handed on", n, confirmed, commit)
				}
			}
		}
		if !published {
			t.Errorf("the commit at %s was never handed on", commit)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d commits; %d times the slot had moved past one", commits, moved)
	if moved == 0 {
		t.Error("the slot never moved: nothing was tested")
	}
}

// pause waits for a random moment.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
