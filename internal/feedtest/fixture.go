package feedtest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pglogrepl"
)

// A Fixture is an application's database, small and with a bit of everything: documents that
// belong to an owner, tickets that attributes of row and claims decide about, tasks of teams
// whose members stand in a fourth table; two roles, one of which may read fewer columns; columns
// that no role may read; twenty principals.
type Fixture struct {
	// User and Reader are the roles. Roles belong to the whole cluster, so each test has its
	// own names.
	User, Reader string

	documents, tickets, tasks, members *Table
	principals                         []*Principal
}

// What there is of each. Keys are drawn from a fixed domain, so that rows are met again and again.
const (
	documentKeys = 1200
	ticketKeys   = 250 // of each region
	taskKeys     = 1000
	users        = 12
	teams        = 6
)

func regions() []string { return []string{"north", "east", "south", "west"} }

// NewFixture makes one for the roles, which must exist.
func NewFixture(user, reader string) *Fixture {
	f := &Fixture{
		User: user, Reader: reader,
		documents: &Table{Schema: "public", Name: "documents", Field: "documents", Key: []string{"id"}, Columns: []Column{
			{"id", "id", oidInt8},
			{"owner", "owner", oidText},
			{"title", "title", oidText},
			{"body", "body", oidText},
			{"amount", "amount", oidNumeric},
			{"is_starred", "isStarred", oidBool},
			{"meta", "meta", oidJSONB},
			{"secret", "secret", oidText},
			{"updated_at", "updatedAt", oidTimestamptz},
		}},
		tickets: &Table{Schema: "public", Name: "tickets", Field: "tickets", Key: []string{"region", "number"}, Columns: []Column{
			{"note", "note", oidText},
			{"region", "region", oidText},
			{"number", "number", oidInt4},
			{"is_public", "isPublic", oidBool},
			{"priority", "priority", oidInt4},
			{"subject", "subject", oidText},
			{"price", "price", oidNumeric},
			{"due", "due", oidDate},
			{"made_at", "madeAt", oidTimestamp},
		}},
		tasks: &Table{Schema: "public", Name: "tasks", Field: "tasks", Key: []string{"id"}, Columns: []Column{
			{"id", "id", oidUUID},
			{"team_id", "teamId", oidInt4},
			{"title", "title", oidText},
			{"is_done", "isDone", oidBool},
			{"hours", "hours", oidNumeric},
			{"details", "details", oidJSONB},
			{"body", "body", oidText},
			{"cost", "cost", oidNumeric},
		}},
		members: &Table{Schema: "public", Name: "members", Field: "members", Key: []string{"team_id", "user_id"}, Columns: []Column{
			{"team_id", "teamId", oidInt4}, {"user_id", "userId", oidText},
		}},
	}
	f.principals = f.makePrincipals()
	return f
}

// Tables are all tables, for a Reference. Subscribers follow all but the last.
func (f *Fixture) Tables() []*Table { return []*Table{f.documents, f.tickets, f.tasks, f.members} }

// Asked are the tables that policies on others read.
func (f *Fixture) Asked() []*Table { return []*Table{f.members} }

// Principals are twenty: twelve users, five readers, an administrator, one whom no row is for,
// and one without claims but the role.
func (f *Fixture) Principals() []*Principal { return f.principals }

func (f *Fixture) makePrincipals() []*Principal {
	var out []*Principal
	person := func(name, role string, n int) {
		out = append(out, &Principal{Name: name, Role: role, Claims: map[string]any{
			"role": role, "sub": user(n), "region": regions()[n%4], "clearance": n % 5,
		}})
	}
	for n := 1; n <= users; n++ {
		person(user(n), f.User, n)
	}
	for n := 1; n <= 5; n++ {
		person("reader "+user(n), f.Reader, n)
	}
	return append(
		out,
		&Principal{Name: "admin", Role: f.User, Claims: map[string]any{"role": f.User, "sub": "root", "admin": true, "clearance": 9}},
		&Principal{Name: "stranger", Role: f.User, Claims: map[string]any{"role": f.User, "sub": "' OR true --", "region": "nowhere"}},
		&Principal{Name: "nobody", Role: f.Reader, Claims: map[string]any{"role": f.Reader}},
	)
}

func user(n int) string { return fmt.Sprintf("u%02d", n) }

// Subscriptions are those of every principal to every table, and some with a filter.
func (f *Fixture) Subscriptions() []*Subscription {
	var out []*Subscription
	for _, p := range f.principals {
		for _, t := range []*Table{f.documents, f.tickets, f.tasks} {
			out = append(out, &Subscription{Name: p.Name + " " + t.Name, Principal: p, Table: t, Columns: f.columns(t, p.Role)})
		}
	}
	filtered := func(p int, t *Table, where, sql string) {
		s := &Subscription{Principal: f.principals[p], Table: t, Columns: f.columns(t, f.principals[p].Role), Where: where, WhereSQL: sql}
		s.Name = s.Principal.Name + " " + t.Name + " where " + sql
		out = append(out, s)
	}
	filtered(0, f.tickets, `{priority: {gte: 2}}`, "priority >= 2")
	filtered(1, f.tickets, `{or: [{isPublic: {eq: false}}, {subject: {isNull: true}}]}`, "NOT is_public OR subject IS NULL")
	filtered(2, f.tasks, `{isDone: {eq: false}, hours: {gt: "10"}}`, "is_done = false AND hours > 10")
	filtered(12, f.tasks, `{not: {teamId: {in: [1, 3]}}}`, "NOT team_id IN (1, 3)")
	filtered(17, f.documents, `{owner: {ne: "u01"}, isStarred: {eq: true}}`, "owner <> 'u01' AND is_starred = true")
	return out
}

// Finish commits a last transaction that every subscription receives as one TRUNCATE, and gives
// an LSN before it: once a subscription has a TRUNCATE of a later commit, nothing is on its way
// any more. The tables are empty then, so SELECT before.
func (f *Fixture) Finish(ctx context.Context, url string) (pglogrepl.LSN, error) {
	at, err := CurrentLSN(ctx, url)
	if err != nil {
		return 0, err
	}
	conn, err := connect(ctx, url, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "TRUNCATE documents, tickets, tasks"); err != nil {
		return 0, fmt.Errorf("finish: %w", err)
	}
	return at, nil
}

// columns are those of the table that the role may read.
func (f *Fixture) columns(t *Table, role string) []string {
	user := map[*Table][]string{
		f.documents: {"id", "owner", "title", "body", "amount", "is_starred", "meta", "updated_at"},
		f.tickets:   {"region", "number", "is_public", "priority", "subject", "price", "due", "made_at"},
		f.tasks:     {"id", "team_id", "title", "is_done", "hours", "details", "body"},
	}
	reader := map[*Table][]string{
		f.documents: {"id", "title", "is_starred", "updated_at"}, // not owner, which the policy reads
		f.tickets:   {"region", "number", "is_public", "priority", "subject"},
		f.tasks:     {"id", "team_id", "title", "is_done"},
	}
	if role == f.Reader {
		return slices.Clone(reader[t])
	}
	return slices.Clone(user[t])
}

// DDL makes the tables, policies, grants and annotations.
func (f *Fixture) DDL() string {
	sql := fixtureDDL
	for _, t := range []*Table{f.documents, f.tickets, f.tasks} {
		for _, role := range []string{f.User, f.Reader} {
			columns := f.columns(t, role)
			for i := range columns {
				columns[i] = quote(columns[i])
			}
			sql += fmt.Sprintf("GRANT SELECT (%s) ON %s TO %s;\n", strings.Join(columns, ", "), t.sql(), quote(role))
		}
	}
	return strings.NewReplacer("$user", quote(f.User), "$reader", quote(f.Reader)).Replace(sql)
}

const fixtureDDL = `
CREATE FUNCTION claim(name text) RETURNS text LANGUAGE sql STABLE
  AS $f$ SELECT nullif(current_setting('request.jwt.claims', true), '')::json ->> name $f$;

CREATE TABLE members (
  team_id int,
  user_id text,
  PRIMARY KEY (team_id, user_id)
);
CREATE TABLE documents (
  id         bigint PRIMARY KEY,
  owner      text NOT NULL,
  title      text,
  body       text,
  amount     numeric(12,2),
  is_starred boolean NOT NULL DEFAULT false,
  meta       jsonb,
  secret     text,
  updated_at timestamptz NOT NULL
);
CREATE TABLE tickets (
  note      text,
  region    text,
  number    int,
  is_public boolean NOT NULL,
  priority  int,
  subject   text,
  price     numeric,
  due       date,
  made_at   timestamp NOT NULL,
  PRIMARY KEY (region, number)
);
CREATE TABLE tasks (
  id      uuid PRIMARY KEY,
  team_id int,
  title   text NOT NULL,
  is_done boolean,
  hours   numeric(8,2),
  details jsonb,
  body    text,
  cost    numeric
);
ALTER TABLE documents REPLICA IDENTITY FULL;
ALTER TABLE tickets   REPLICA IDENTITY FULL;
ALTER TABLE tasks     REPLICA IDENTITY FULL;
-- So that a value of some kilobytes is kept out of line, whatever it holds.
ALTER TABLE documents ALTER body SET STORAGE EXTERNAL;
ALTER TABLE tasks     ALTER body SET STORAGE EXTERNAL;

ALTER TABLE members   ENABLE ROW LEVEL SECURITY;
ALTER TABLE documents ENABLE ROW LEVEL SECURITY;
ALTER TABLE tickets   ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks     ENABLE ROW LEVEL SECURITY;

CREATE POLICY own ON documents FOR SELECT TO $user, $reader USING (owner = claim('sub'));
CREATE POLICY administrators ON documents FOR ALL TO $user USING (claim('admin') = 'true');
CREATE POLICY writers ON documents FOR UPDATE TO $user USING (true); -- says nothing about SELECT
CREATE POLICY public_or_region ON tickets FOR SELECT TO $user, $reader
  USING (is_public OR region = claim('region'));
CREATE POLICY clearance ON tickets AS RESTRICTIVE FOR SELECT TO $user, $reader
  USING (priority <= coalesce(claim('clearance')::int, 1));
CREATE POLICY team ON tasks FOR SELECT TO $user
  USING (team_id IN (SELECT m.team_id FROM members m WHERE m.user_id = claim('sub')));
CREATE POLICY readers ON tasks FOR SELECT TO $reader
  USING (EXISTS (SELECT FROM members m WHERE m.team_id = tasks.team_id AND m.user_id = claim('sub')));
CREATE POLICY own ON members FOR SELECT TO $user, $reader USING (user_id = claim('sub'));

GRANT USAGE ON SCHEMA public TO $user, $reader;
GRANT SELECT ON members TO $user, $reader;

COMMENT ON TABLE documents IS '@subscribe
Something somebody wrote.';
COMMENT ON TABLE tickets IS '@subscribe
Something to see to.';
COMMENT ON TABLE tasks IS '@subscribe
Something for a team to do.';
`
