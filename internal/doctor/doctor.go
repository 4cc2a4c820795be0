// Package doctor examines a database, its server and its settings for whatever keeps Rowtide from
// delivering, and says what to do about each.
//
// It changes nothing: it reads catalogs, takes roles on in read-only transactions, and plans
// queries. What a login may not see is not found: with an AdminURL more is.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
	"github.com/rowtide/rowtide/schema/introspect"
)

// A Severity says how bad a finding is.
type Severity uint8

// The severities. The zero Severity is invalid.
const (
	// Note: worth knowing.
	Note Severity = iota + 1
	// Warning: a table or a role is not served as the annotations say, or something is at risk.
	Warning
	// Fatal: the service cannot start, loses changes, fills the disk or breaks the
	// application's writes.
	Fatal
)

// String is the word for people and programs.
func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Warning:
		return "warning"
	case Fatal:
		return "fatal"
	}
	return "invalid"
}

// MarshalText is String, for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Finding is one thing that is not as it should be.
type Finding struct {
	Severity Severity `json:"severity"`
	// Check names what was looked at, for programs: "wal_level", "replica_identity", ….
	Check string `json:"check"`
	// Object is what it is about, in SQL's words: "table public.tasks", "slot rowtide".
	Object string `json:"object"`
	// Message says what is wrong, and what comes of it.
	Message string `json:"message"`
	// Fix mends it: SQL statements, commands of rowtide, and words where neither can.
	Fix []string `json:"fix,omitempty"`
	// Late tells that a fatal finding is no reason not to start the service: that would not
	// mend it, or would keep tables from being served with which all is well.
	Late bool `json:"-"`
}

// String is one line.
func (f Finding) String() string {
	return fmt.Sprintf("%-7s  %s: %s", f.Severity, f.Object, f.Message)
}

// Line is one line without the severity, and with what mends it.
func (f Finding) Line() string {
	return strings.Replace(strings.Join(append([]string{f.Object + ": " + f.Message}, f.Fix...), "; "), ":;", ":", 1)
}

// Config says what to examine.
type Config struct {
	// DatabaseURL is the service login's. Required, or AdminURL: without it the login is not
	// examined.
	DatabaseURL string
	// AdminURL is of a superuser or owner, who sees more. Defaults to none.
	AdminURL string
	// Roles is the allow-list. Schemas, Slot and Publication are the service's, with its
	// defaults.
	Roles       []string
	Schemas     []string
	Slot        string
	Publication string
	// Annotations stand for comments in the database. Defaults to none.
	Annotations *annotation.File
	// RetainedWAL is what the slot may hold back before that is told. Defaults to 1 GiB.
	RetainedWAL int64
	// LongTransaction is how old a writing transaction may get. Defaults to 5 minutes.
	LongTransaction time.Duration
	// Running tells that the service runs, with a WAL sender of its own. Defaults to false.
	Running bool
	// Now is the clock that tokens are judged by. Defaults to time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if len(c.Schemas) == 0 {
		c.Schemas = []string{"public"}
	}
	if c.Slot == "" {
		c.Slot = migrations.DefaultSlot
	}
	if c.Publication == "" {
		c.Publication = migrations.DefaultPublication
	}
	if c.RetainedWAL == 0 {
		c.RetainedWAL = 1 << 30
	}
	if c.LongTransaction == 0 {
		c.LongTransaction = 5 * time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// An exam is one run.
type exam struct {
	cfg      Config
	conn     *pgx.Conn // the administrator's, or else the login's
	asker    *pgx.Conn // who takes roles on: the login, or else the administrator
	login    string    // "" where there is no DatabaseURL
	host     migrations.Server
	database schema.Database
	catalog  *schema.Catalog
	asked    []rls.AskedTable // that policies of the tables ask
	findings []Finding
}

// Examine looks at everything. The error tells that it could not be looked at; a server that is
// not reached is a finding.
func Examine(ctx context.Context, cfg Config) ([]Finding, error) {
	e := &exam{cfg: cfg.withDefaults()}
	defer e.close(ctx)
	if err := e.connect(ctx); err != nil || e.conn == nil {
		return e.findings, err
	}
	if usable, err := e.server(ctx); err != nil || !usable {
		return e.findings, err // all else is of another server
	}
	for _, check := range []func(context.Context) error{
		e.clock, e.installation, e.roles, e.loginFitness, e.load, e.schemas, e.annotations, e.publications,
		e.members, e.identities, e.keeping, e.access, e.policies, e.functions, e.slot, e.orphans, e.transactions,
	} {
		if err := check(ctx); err != nil {
			return e.findings, err
		}
	}
	return e.findings, nil
}

// AtStart looks at what keeps the service from working at all, and at nothing that takes long: the
// server, Rowtide's own objects, the publications and the slot. The login is left to migrations.CheckLogin.
func AtStart(ctx context.Context, cfg Config) ([]Finding, error) {
	e := &exam{cfg: cfg.withDefaults()}
	defer e.close(ctx)
	if err := e.connect(ctx); err != nil || e.conn == nil {
		return e.findings, err
	}
	if usable, err := e.server(ctx); err != nil || !usable {
		return e.findings, err
	}
	for _, check := range []func(context.Context) error{e.installation, e.publications, e.slot} {
		if err := check(ctx); err != nil {
			return e.findings, err
		}
	}
	return e.findings, nil
}

func (e *exam) tell(s Severity, check, object, message string, fix ...string) {
	e.findings = append(e.findings, Finding{Severity: s, Check: check, Object: object, Message: message, Fix: fix})
}

// late says of the last finding that it is no reason not to start.
func (e *exam) late() { e.findings[len(e.findings)-1].Late = true }

// connect opens the connections. A URL that cannot be used is a finding.
func (e *exam) connect(ctx context.Context) error {
	if e.cfg.DatabaseURL == "" && e.cfg.AdminURL == "" {
		return errors.New("no database: set --database-url to the service login's URL")
	}
	admin, err := e.open(ctx, "--admin-url", e.cfg.AdminURL)
	if err != nil {
		return err
	}
	login, err := e.open(ctx, "--database-url", e.cfg.DatabaseURL)
	if err != nil {
		return err
	}
	e.conn, e.asker = admin, login
	if admin == nil {
		e.conn = login
	}
	if login == nil {
		e.asker = admin
		return nil
	}
	if err := login.QueryRow(ctx, `SELECT session_user::text`).Scan(&e.login); err != nil {
		return fmt.Errorf("read login: %w", err)
	}
	return nil
}

func (e *exam) open(ctx context.Context, flag, url string) (*pgx.Conn, error) {
	if url == "" {
		return nil, nil
	}
	cfg, err := migrations.ParseURL(flag, url)
	if err != nil {
		return nil, err
	}
	if err := migrations.Reach(ctx, flag, url); err != nil {
		message, fix, _ := strings.Cut(err.Error(), ": ")
		e.tell(Fatal, "connection", flag, message+": "+fix)
		return nil, nil
	}
	// Names in deparsed expressions then carry their schema.
	cfg.RuntimeParams["search_path"] = "pg_catalog, pg_temp"
	cfg.RuntimeParams["application_name"] = "rowtide doctor"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect with %s: %w", flag, err)
	}
	return conn, nil
}

func (e *exam) close(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if e.conn != nil {
		_ = e.conn.Close(ctx) // nothing was written
	}
	if e.asker != nil && e.asker != e.conn {
		_ = e.asker.Close(ctx)
	}
}

// load reads the annotated tables.
func (e *exam) load(ctx context.Context) error {
	// A role that the asker cannot take on was told of.
	var roles []string
	var who string
	err := rows(ctx, e.asker, "roles", `
SELECT r.rolname::text FROM unnest($1::text[]) WITH ORDINALITY w(name, n) JOIN pg_roles r ON r.rolname = w.name
WHERE pg_has_role(session_user, r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
ORDER BY w.n`, []any{e.cfg.Roles}, []any{&who}, func() { roles = append(roles, who) })
	if err != nil {
		return err
	}
	e.database, err = introspect.Load(ctx, e.asker, introspect.Config{
		Schemas: e.cfg.Schemas, Roles: roles, All: e.cfg.Annotations != nil, Related: true,
	})
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	return nil
}

// annotations tells mistakes. What replica identity is about is told by identities.
func (e *exam) annotations(context.Context) error {
	problems := annotation.ApplyFile(&e.database, e.cfg.Annotations)
	catalog, more := schema.New(e.database, schema.Options{})
	e.catalog, e.asked = catalog, rls.Asked(catalog.Wanted(), e.cfg.Schemas)
	wanted := map[uint32]bool{}
	for _, t := range catalog.Wanted() {
		wanted[t.OID] = true
	}
	for _, p := range append(problems, more...) {
		if wanted[p.Table] {
			continue
		}
		severity, message := Warning, p.Message
		if p.Note() {
			severity = Note
		}
		object := p.Object
		if p.File != "" {
			object += ", " + p.File
		}
		if p.Line > 0 {
			object += fmt.Sprintf(", line %d, column %d", p.Line, p.Column)
		}
		var fix []string
		if p.Hint != "" {
			fix = []string{p.Hint}
		}
		e.tell(severity, "annotation", object, message, fix...)
	}
	if len(e.database.Tables) == 0 {
		e.tell(Warning, "annotation", "database", "no table is annotated, so none is served", "COMMENT ON TABLE … IS '@subscribe'")
	}
	return nil
}

// rows runs a query and calls each for each of its rows, whose columns dest takes.
func rows(ctx context.Context, conn *pgx.Conn, what, sql string, args, dest []any, each func()) error {
	r, err := conn.Query(ctx, sql, args...)
	if err == nil {
		_, err = pgx.ForEachRow(r, dest, func() error {
			each()
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

func name(parts ...string) string { return schema.QuoteName(parts...) }

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// code is the SQLSTATE of an error, and message the server's words, "" where it has none.
func code(err error) (state, message string) {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code, pe.Message
	}
	return "", ""
}

func bytes(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d kB", n>>10)
	}
	if n < 1<<30 {
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
}
