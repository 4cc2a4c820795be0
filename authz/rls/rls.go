// Package rls judges row images by row-level security: in process, by policies that are compiled,
// or by asking Postgres itself.
//
// It guarantees that an image is Visible only where a SELECT of that row by the principal's
// role, under its claims, would return it: privileges, roles of policies, permissive and
// restrictive policies, and whatever the policies ask of other tables, functions and settings,
// are Postgres's own answers, or what is proven to equal them. Asking is the reference: a policy
// is compiled only where nothing but the row and the claims decides, and the answer is certain.
//
//   - Nothing is judged before the transaction that the images come from is visible to other
//     sessions: a commit is streamed earlier than that.
//   - An error that image and claims determine hides that image from that principal alone. One
//     that they do not determine leaves it Undecided, for that principal alone. Both are audited.
//   - No role, setting or plan of one principal is there when the next one is judged.
//   - What cannot be judged rightly (policies that read system columns or the session's user) is
//     hidden as long as it stays so, and reported once.
//
// It does not guarantee that other tables, the clock and roles are as they were at the commit:
// a policy sees them as they are when it is asked. It does not look for what a policy function
// does out of its session, such as dblink.
//
// The settings of its sessions are its own: it needs connections straight to the server, or
// through a pooler in session mode.
package rls

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// searchPath is what policies, and functions that set no path of their own, are evaluated with.
// pg_catalog comes first, and what is in pg_temp is found last, so that nobody can put a table
// or a function before those of a policy.
func searchPath(schemas []string) string {
	path := "pg_catalog, "
	for _, s := range schemas {
		path += ident(s) + ", "
	}
	return path + "pg_temp"
}

// Config says how to reach Postgres and how long to wait for it.
type Config struct {
	// URL is the connection string of the service's login: member of the roles, without
	// rights of its own.
	URL string
	// Audit takes a record of every image that is hidden or undecided for any reason but a
	// policy's own answer. Required.
	Audit authz.Auditor
	// Schemas are searched for what policy functions name without a schema, as a session of
	// the application would. Policies themselves are qualified. Nobody but their owners may
	// create anything in them. Defaults to none.
	Schemas []string
	// Compile evaluates in process the policies that need only the row and the claims, where
	// that is proven to give what Postgres gives. Postgres is asked where it might raise an error.
	Compile bool
	// Shadow asks Postgres about what is decided in process too. Where they differ the image is
	// hidden, counted (Stats) and audited; where Postgres cannot tell, what was decided counts.
	Shadow bool
	// Sets keeps in process what policies ask of other tables, as far as it can, and judges
	// images as of their own transaction by it. It takes Compile, the function rowtide.rows_of
	// that setup makes, and Use and Follow to be called.
	Sets bool
	// SetBytes bounds the memory of that; Postgres is asked for what is beyond. Defaults to
	// DefaultSetBytes.
	SetBytes int
	// SetHistory is how long the history of that is kept, by which images of the past are
	// judged. Defaults to 10 minutes.
	SetHistory time.Duration
	// Publication has to have the tables that are kept. Needed with Sets.
	Publication string
	// Budget is what evaluation is charged to, and who is over it is not evaluated. Defaults to
	// none.
	Budget authz.Budget
	// Logger is told which tables are kept, and why others are not. Defaults to slog.Default().
	Logger *slog.Logger
	// Conns is the most connections that judge images. Defaults to 4.
	Conns int
	// SnapshotConns is the most connections that read snapshots, which take long: they are
	// others than those that judge. Defaults to 2.
	SnapshotConns int
	// StatementTimeout bounds each evaluation: of a batch of images, and then of one image at
	// a time. Defaults to 2 s.
	StatementTimeout time.Duration
	// SnapshotTimeout bounds each portion of a snapshot, and how long its reader may take to
	// consume one. Defaults to 30 s.
	SnapshotTimeout time.Duration
	// VisibilityWait bounds the wait for a committed transaction to become visible. Defaults
	// to 10 s.
	VisibilityWait time.Duration
}

// A Postgres judges images and reads snapshots. Its methods may be called by many goroutines.
type Postgres struct {
	cfg       Config
	path      string
	ways      ways
	judges    *pool
	snapshots *pool
	bounds    bounds
	breakers  *breakers
	differ    atomic.Uint64
	// keeps are the tables that policies ask; nil where they are not kept. They are read in
	// sessions of keepSession.
	keeps       *keeps
	keepSession *pgconn.Config
	keepers     *pool

	mu    sync.Mutex
	plans map[planKey]*plan
}

type planKey struct {
	table *schema.Table
	role  string
}

// maxPlans bounds the plans that are kept. They are cheap to make: when there are more, all go,
// and with them the catalogs that they hold on to.
const maxPlans = 1024

// keepConns is the most connections that read what changes of membership concern.
const keepConns = 2

// maxIdle ends a transaction of a judge that sends nothing more: it would keep vacuum waiting.
const maxIdle = 30 * time.Second

// New checks the configuration. It connects when first asked.
func New(c Config) (*Postgres, error) {
	if c.Audit == nil {
		return nil, errors.New("check row security: there is no audit log")
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&c.Conns, 4}, {&c.SnapshotConns, 2}, {&c.SetBytes, DefaultSetBytes}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.StatementTimeout, 2 * time.Second}, {&c.SnapshotTimeout, 30 * time.Second}, {&c.VisibilityWait, 10 * time.Second}, {&c.SetHistory, 10 * time.Minute}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Budget == nil {
		c.Budget = (*authz.Limiter)(nil)
	}
	path := searchPath(c.Schemas)
	judges, err := sessionConfig(c.URL, "rowtide judge", path, c.StatementTimeout, max(c.StatementTimeout, maxIdle))
	if err != nil {
		return nil, err
	}
	snapshots, err := sessionConfig(c.URL, "rowtide snapshot", path, c.SnapshotTimeout, c.SnapshotTimeout)
	if err != nil {
		return nil, err
	}
	g := &Postgres{
		cfg: c, path: path, breakers: newBreakers(), judges: newPool(judges, c.Conns), snapshots: newPool(snapshots, c.SnapshotConns),
		plans: map[planKey]*plan{},
	}
	if c.Sets && c.Compile {
		if g.keepSession, err = sessionConfig(c.URL, "rowtide keep", path, c.SnapshotTimeout, c.SnapshotTimeout); err != nil {
			return nil, err
		}
		g.keeps, g.keepers = newKeeps(g, c.SetBytes), newPool(g.keepSession, keepConns)
	}
	return g, nil
}

// Close waits for what is under way and closes the connections. It is idempotent.
func (g *Postgres) Close() {
	g.breakers.close()
	if g.keeps != nil {
		g.keeps.close()
		g.keepers.close()
	}
	g.judges.close()
	g.snapshots.close()
}

// plan gives the plan for a role on a table, which lives as long as the table's description.
func (g *Postgres) plan(t *schema.Table, role string) *plan {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := planKey{t, role}
	if p := g.plans[key]; p != nil {
		return p
	}
	if len(g.plans) >= maxPlans {
		clear(g.plans)
		g.bounds.forget()
		g.breakers.forget()
	}
	p := newPlan(t, role)
	if g.cfg.Compile && p.fixed == 0 {
		p.predicate = compile(t.Def, role, g.keeps.asking(t.Def))
		if p.hint = p.predicate; p.hint == nil {
			p.hint, p.share = compileHint(t.Def, role), compileShare(t.Def, role)
		}
	}
	g.plans[key] = p
	return p
}

// sessionConfig pins every setting that policies, or the text of values, depend on. What is
// given at start beats ALTER ROLE and ALTER DATABASE.
func sessionConfig(url, name, path string, statement, idle time.Duration) (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	// A peer that is gone without a word is noticed in 25 s rather than in hours.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	c.DialFunc = dialer.DialContext
	milliseconds := func(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }
	for k, v := range map[string]string{
		"application_name": name,
		"client_encoding":  "UTF8",
		// The text of images is the walsender's: these must be the same there.
		"DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "TimeZone": "UTC",
		"xmloption": "content", "array_nulls": "on",
		// Deparsed policies are read under these.
		"search_path": path, "standard_conforming_strings": "on", "transform_null_equals": "off",
		"row_security": "on",
		// A generic plan may hold the value of a function that is wrongly declared
		// IMMUTABLE, such as one that reads claims: another principal's.
		"plan_cache_mode": "force_custom_plan",
		// A snapshot is read to its end.
		"cursor_tuple_fraction":         "1.0",
		"jit":                           "off",
		"default_transaction_isolation": "read committed", "default_transaction_read_only": "on", "default_transaction_deferrable": "off",
		"statement_timeout": milliseconds(statement), "lock_timeout": "0", "idle_in_transaction_session_timeout": milliseconds(idle),
	} {
		c.RuntimeParams[k] = v
	}
	return c, nil
}
