package rls_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/introspect"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A world is a database, a service that judges its rows, and a superuser who knows the truth.
type world struct {
	db    *pgtest.DB
	login string
	judge *rls.Postgres
	audit *audit
	// admin is a superuser's session with the walsender's settings.
	admin *pgconn.PgConn
	names []string // the roles, {0}, {1}, … in SQL
}

// newWorld runs SQL in a new database. {0}, {1}, … in it are roles of the world's own, of which
// the service's login is a member.
func newWorld(t testing.TB, roles int, sql string) *world {
	t.Helper()
	db := pgtest.New(t)
	names := make([]string, roles)
	for i := range names {
		names[i] = db.Role(t, fmt.Sprintf("role%d", i))
	}
	w := worldOf(t, db, names)
	w.exec(t, sql)
	return w
}

func worldOf(t testing.TB, db *pgtest.DB, roles []string) *world {
	t.Helper()
	w := &world{db: db, names: roles, audit: &audit{}, login: db.Login(t, "svc", roles...)}
	w.judge = w.newJudge(t, nil)
	w.admin = connect(t, db.Admin)
	return w
}

// newJudge makes another service for the same database.
func (w *world) newJudge(t testing.TB, change func(*rls.Config)) *rls.Postgres {
	t.Helper()
	// A busy machine is no reason for a verdict to differ.
	c := rls.Config{URL: w.db.URL(w.login), Audit: w.audit, StatementTimeout: time.Minute, SnapshotTimeout: time.Minute, VisibilityWait: time.Minute}
	if change != nil {
		change(&c)
	}
	g, err := rls.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// connect opens a session with the settings that the stream's text depends on.
func connect(t testing.TB, url string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(c.RuntimeParams, map[string]string{
		"datestyle": "ISO, YMD", "intervalstyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "timezone": "UTC",
		"search_path": "pg_catalog",
		// A function's query that was planned for another's claims may not meet an error of these: as in a
		// session of one's own, each is planned for those at hand.
		"plan_cache_mode": "force_custom_plan",
		"jit":             "off", // of policies over a few rows, compiling is the most of the time
	})
	conn, err := pgconn.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func (w *world) exec(t testing.TB, sql string) {
	t.Helper()
	w.db.Exec(t, w.fill(sql))
}

// fill puts in the names of roles, and of the login as {login}.
func (w *world) fill(sql string) string {
	for i, n := range w.names {
		sql = strings.ReplaceAll(sql, fmt.Sprintf("{%d}", i), n)
	}
	return strings.ReplaceAll(sql, "{login}", w.login)
}

// table reads the present description of a table as the service does.
func (w *world) table(t testing.TB, name string) *schema.Table {
	t.Helper()
	space, rel, ok := strings.Cut(name, ".")
	if !ok {
		space, rel = "public", name
	}
	tab := w.load(t, space)[rel]
	if tab == nil {
		t.Fatalf("table %s was not read", name)
	}
	return tab
}

// load reads the tables of a schema.
func (w *world) load(t testing.TB, space string) map[string]*schema.Table {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.db.URL(w.login))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	db, err := introspect.Load(t.Context(), conn, introspect.Config{Schemas: []string{space}, Roles: w.names, All: true, Related: true})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*schema.Table{}
	for i := range db.Tables {
		out[db.Tables[i].Name] = tableOf(&db.Tables[i])
	}
	return out
}

func tableOf(d *schema.TableDef) *schema.Table {
	t := &schema.Table{Def: d}
	for i := range d.Columns {
		t.Columns = append(t.Columns, &schema.Column{Def: &d.Columns[i], Name: d.Columns[i].Name})
	}
	return t
}

// rows reads all rows as the stream would give them: text, without generated columns. The
// order is that of their place in the table.
func (w *world) rows(t testing.TB, tab *schema.Table) (images []cdc.Row, places []string) {
	t.Helper()
	columns := []string{"tableoid::regclass::text || ' ' || ctid::text"}
	for _, c := range tab.Columns {
		columns = append(columns, quote(c.Def.Name))
	}
	r := w.admin.ExecParams(t.Context(), "SELECT "+strings.Join(columns, ", ")+" FROM "+name(tab)+" ORDER BY tableoid, ctid", nil, nil, nil, nil).Read()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	for _, values := range r.Rows {
		image := make(cdc.Row, len(tab.Columns))
		for i, v := range values[1:] {
			switch {
			case tab.Columns[i].Def.Generated != 0:
				image[i] = cdc.AbsentValue()
			case v != nil:
				image[i] = cdc.TextValue(string(v))
			}
		}
		images = append(images, image)
		places = append(places, string(values[0]))
	}
	return images, places
}

// settled is a transaction that everybody sees.
func (w *world) settled(t testing.TB) uint32 {
	t.Helper()
	r := w.admin.ExecParams(t.Context(), "SELECT pg_current_xact_id()::xid", nil, nil, nil, nil).Read()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	var xid uint32
	if _, err := fmt.Sscan(string(r.Rows[0][0]), &xid); err != nil {
		t.Fatal(err)
	}
	return xid
}

// ask judges images.
func (w *world) ask(t testing.TB, tab *schema.Table, images []cdc.Row, principals ...*authz.Principal) [][]authz.Verdict {
	t.Helper()
	return w.askOf(t, w.judge, tab, images, principals...)
}

func (w *world) askOf(t testing.TB, g *rls.Postgres, tab *schema.Table, images []cdc.Row, principals ...*authz.Principal) [][]authz.Verdict {
	t.Helper()
	v, err := g.Judge(t.Context(), authz.Question{XID: w.settled(t), Table: tab, Images: images, Principals: principals})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// truth is what a SELECT under the principal's role shows of each row: with the others gone,
// since one row that raises an error would fail the whole. "t", "f", or the SQLSTATE.
func (w *world) truth(t testing.TB, tab *schema.Table, places []string, p *authz.Principal) []string {
	t.Helper()
	pipe := w.admin.StartPipeline(t.Context())
	send := func(sql string, args ...string) {
		params := make([][]byte, len(args))
		for i, a := range args {
			params[i] = []byte(a)
		}
		pipe.SendQueryParams(sql, params, nil, nil, nil)
	}
	for _, place := range places {
		send("BEGIN")
		send("DELETE FROM "+name(tab)+" WHERE tableoid::regclass::text || ' ' || ctid::text <> $1", place)
		for _, s := range p.Settings {
			send("SELECT set_config($1, $2, true)", s.Name, s.Value)
		}
		send("SELECT set_config('role', $1, true)", p.Role)
		send("SELECT " + w.readable(tab, p.Role) + " FROM " + name(tab))
		pipe.SendPipelineSync()
		send("ROLLBACK")
		pipe.SendPipelineSync()
	}
	out := make([]string, len(places))
	for i := range places {
		out[i] = answered(t, pipe, 4+len(p.Settings))
		answered(t, pipe, 1)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// answered tells what the last of some statements gave: "t" for a row, "f" for none, or the SQLSTATE. The
// others must not fail.
func answered(t testing.TB, pipe *pgconn.Pipeline, statements int) (out string) {
	t.Helper()
	if err := pipe.Flush(); err != nil {
		t.Fatal(err)
	}
	for done := 0; ; {
		got, err := pipe.GetResults()
		if r, ok := got.(*pgconn.ResultReader); ok && err == nil {
			read := r.Read()
			out, err = []string{"f", "t"}[min(len(read.Rows), 1)], read.Err
		}
		var pe *pgconn.PgError
		switch {
		case errors.As(err, &pe) && done == statements-1:
			out = pe.Code
		case err != nil:
			t.Fatalf("statement %d of %d: %v", done+1, statements, err)
		}
		if _, end := got.(*pgconn.PipelineSync); end {
			return out
		}
		done++
	}
}

// readable is a column that the role may read, or all.
func (w *world) readable(tab *schema.Table, role string) string {
	for i, may := range tab.Def.Access[role].Columns {
		if may {
			return quote(tab.Columns[i].Def.Name)
		}
	}
	return "*"
}

func (w *world) run(t testing.TB, sql string, args ...string) {
	t.Helper()
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	if r := w.admin.ExecParams(t.Context(), sql, params, nil, nil, nil).Read(); r.Err != nil {
		t.Fatalf("%v\n%s", r.Err, sql)
	}
}

// agree checks that the verdicts on all rows of the tables are the truth: an error hides.
// It gives how many were visible, hidden and errors.
func (w *world) agree(t *testing.T, tables []string, principals ...*authz.Principal) (visible, hidden, failed int) {
	t.Helper()
	for _, tableName := range tables {
		tab := w.table(t, tableName)
		images, places := w.rows(t, tab)
		got := w.ask(t, tab, images, principals...)
		for i, p := range principals {
			for k, truth := range w.truth(t, tab, places, p) {
				want := authz.Hidden
				switch truth {
				case "t":
					want = authz.Visible
					visible++
				case "f":
					hidden++
				default:
					failed++
				}
				if got[i][k] != want {
					t.Errorf("%s as %s %v, row %v: verdict %d, SELECT says %q", tableName, p.Role, p.Settings, images[k], got[i][k], truth)
				}
			}
		}
	}
	return visible, hidden, failed
}

// as makes a principal of role {n} with claims, a JSON object or "", and settings.
func (w *world) as(n int, claims string, settings ...string) *authz.Principal {
	return principal(w.names[n], claims, settings...)
}

func principal(role, claims string, settings ...string) *authz.Principal {
	var sub struct{ Sub string }
	_ = json.Unmarshal([]byte(claims), &sub) // hostile claims have no subject
	all := []authz.Setting{{Name: "request.jwt.claims", Value: claims}}
	for i := 0; i < len(settings); i += 2 {
		all = append(all, authz.Setting{Name: settings[i], Value: settings[i+1]})
	}
	return authz.NewPrincipal(role, sub.Sub, all, noExpiry)
}

// counts counts the verdicts of one principal.
func counts(v []authz.Verdict) (visible, hidden, undecided int) {
	for _, x := range v {
		switch x {
		case authz.Visible:
			visible++
		case authz.Hidden:
			hidden++
		case authz.Undecided, authz.Overspent:
			undecided++
		}
	}
	return visible, hidden, undecided
}

// want checks the verdicts of one principal, a letter for each: v, h or u.
func want(t testing.TB, what string, got []authz.Verdict, letters string) {
	t.Helper()
	var b strings.Builder
	for _, v := range got {
		b.WriteByte("?vhuo"[v])
	}
	if b.String() != letters {
		t.Errorf("%s: verdicts %s, want %s", what, b.String(), letters)
	}
}

// An audit keeps the records.
type audit struct {
	mu      sync.Mutex
	records []authz.Record
}

func (a *audit) Record(r authz.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records = append(a.records, r)
}

// take gives the records since the last time, as "event reason sqlstate count".
func (a *audit) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]string, 0, len(a.records))
	for _, r := range a.records {
		out = append(out, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %d", r.Event, r.Reason, r.SQLState, r.Count)), " "))
	}
	a.records = nil
	slices.Sort(out)
	return out
}

// audited checks the records since the last time.
func (w *world) audited(t testing.TB, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := w.audit.take(); !slices.Equal(got, want) {
		t.Errorf("audit records %q, want %q", got, want)
	}
}

func name(t *schema.Table) string { return quote(t.Def.Schema) + "." + quote(t.Def.Name) }

func quote(s string) string { return pgx.Identifier{s}.Sanitize() }

// snapshot reads a snapshot of all columns that the role may read, and throws it away.
func (w *world) snapshot(t testing.TB, tab *schema.Table, p *authz.Principal) error {
	t.Helper()
	return w.judge.Snapshot(t.Context(), authz.Reading{Principal: p, Table: tab, Readable: tab.Def.Access[p.Role].Columns},
		func(cdc.Snapshot) error { return nil }, func(cdc.Row) error { return nil })
}
