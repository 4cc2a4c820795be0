package rls_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A setGrammar writes policies that ask other tables.
type setGrammar struct{ *rand.Rand }

func (r setGrammar) pick(of ...string) string { return of[r.IntN(len(of))] }

// uid is the principal, as policies name him.
func (r setGrammar) uid() string {
	return r.pick("app.uid()", "(SELECT app.uid())", "nullif(current_setting('app.user', true), '')::int", "(nullif(current_setting('request.jwt.claims', true), '')::json ->> 'id')::int")
}

// claims are as tokens bring them, some as nobody means them; none raises an error.
func (r setGrammar) claims() string {
	return r.pick(fmt.Sprintf(`{"id":%d,"person":"00000000-0000-4000-8000-00000000000%d"}`, 1+r.IntN(5), r.IntN(3)), `{"id":" 2 ","person":null}`, `{"id":null,"person":"{00000000-0000-4000-8000-000000000001}"}`, `{"id":1,"id":3}`, `{}`, `null`, `["1"]`, `{"ID":1,"person":"00000000-0000-4000-8000-00000000000A"}`)
}

// person is the principal too, by another name.
const person = "(nullif(current_setting('request.jwt.claims', true), '')::json ->> 'person')::uuid"

// wide is a term over several tables, or over other types than numbers.
func (r setGrammar) wide(uid string) string {
	return r.pick(
		"EXISTS (SELECT FROM members m, projects p, people h WHERE p.team = m.team AND h.home = p.team AND m.who = "+uid+" AND p.id = t.project)",
		"EXISTS (SELECT 1 FROM members m JOIN projects p ON p.team = m.team JOIN blocked b ON b.who = m.who WHERE b.target = "+uid+" AND p.id = t.project AND NOT p.closed)",
		"project IN (SELECT p.id FROM projects p WHERE p.team IN (SELECT m.team FROM members m WHERE m.who IN (SELECT b.target FROM blocked b WHERE b.who = "+uid+")))",
		"label IN (SELECT s.label FROM shares s WHERE s.person = "+person+r.pick("", " AND s.until > '2020-01-01'", " AND s.level <> 'guest'", " AND s.until IS NULL")+")",
		"EXISTS (SELECT FROM shares s WHERE s.person = t.person AND s.label "+r.pick("=", "<>", "IS NOT DISTINCT FROM")+" t.label)",
		"(label, person) IN (SELECT s.label, s.person FROM shares s JOIN members m ON m.level = s.level WHERE m.who = "+uid+")",
		"person = "+person+r.pick("", " AND label NOT IN (SELECT s.label FROM shares s WHERE s.until = 'infinity')"),
		"app.shared(label, "+r.pick("person", person)+")",
	)
}

func (r setGrammar) term(d int) string {
	uid := r.uid()
	switch n := r.IntN(30); {
	case n < 3:
		return r.pick("open", "owner = "+uid, "team = 1", "NOT open", "owner IS NULL", "true")
	case n < 6:
		return "team " + r.pick("", "", "NOT ") + "IN (SELECT " + r.pick("", "DISTINCT ") + "m.team FROM members m WHERE m.who = " + uid + r.pick("", " AND m.active", " AND m.level IN ('lead', 'guest')", " AND "+r.inner(d), " OR m.level = 'lead'") + ")"
	case n < 9:
		return r.pick("", "", "NOT ") + "EXISTS (SELECT " + r.pick("", "1", "m.team") + " FROM members m WHERE m.team = t.team AND m.who = " + uid + r.pick("", " AND m.active", " AND m.level <> 'guest'", " AND "+r.inner(d)) + ")"
	case n < 11:
		return "team = ANY (ARRAY(SELECT m.team FROM members m WHERE m.who = " + uid + " AND " + r.inner(d) + "))"
	case n < 13:
		return "EXISTS (SELECT 1 FROM projects p JOIN members m ON m.team = p.team WHERE p.id = t.project AND m.who = " + uid + r.pick("", " AND NOT p.closed", " AND m.active") + ")"
	case n < 15:
		return "project IN (SELECT p.id FROM projects p WHERE " + r.pick("p.closed", "p.closed IS NOT TRUE", "p.team = t.team") + " AND p.team IN (SELECT team FROM members WHERE who = " + uid + "))"
	case n < 16:
		return "(team, project) IN (SELECT p.team, p.id FROM projects p, members m WHERE m.team = p.team AND m.who = " + uid + ")"
	case n < 17:
		return "team IN (SELECT team FROM members WHERE who = " + uid + " UNION SELECT team FROM projects WHERE NOT closed)"
	case n < 18:
		return "team = (SELECT home FROM people WHERE id = " + uid + ")"
	case n < 19:
		return r.pick("app.leads(team)", "app.member(t.team, "+uid+")", "app.admin()")
	case n < 20:
		return "team IN (SELECT app.my_teams())"
	case n < 21:
		return "EXISTS (SELECT 1 FROM guarded g WHERE g.team = t.team)"
	case n < 22:
		return "owner NOT IN (SELECT b.target FROM blocked b WHERE b.who = " + uid + ")"
	case n < 28:
		return r.wide(uid)
	default:
		return "NOT EXISTS (SELECT FROM blocked b WHERE b.who = t.owner AND b.target = " + uid + ")"
	}
}

func (r setGrammar) inner(d int) string {
	if d > 0 && r.IntN(4) == 0 {
		return "m.team IN (SELECT p.team FROM projects p WHERE p.closed IS NOT TRUE)"
	}
	return r.pick("m.active", "m.active IS NOT FALSE", "(m.level = 'lead' OR m.active)", "m.level IS NULL", "coalesce(m.active, true)", "m.team > 1", "m.note = 'x'", "m.note IS DISTINCT FROM m.level::text")
}

func (r setGrammar) cond(d int) string {
	if d > 0 && r.IntN(2) == 0 {
		a, b := r.cond(d-1), r.cond(d-1)
		return "(" + r.pick(a+" AND "+b, a+" OR "+b, a+" OR "+b, "NOT "+a, "("+a+") IS NOT FALSE", "coalesce("+a+", "+b+")") + ")"
	}
	return "(" + r.term(d) + ")"
}

const setWorld = `CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO {0}, {1}; CREATE TYPE app.level AS ENUM ('guest', 'lead', 'none');
CREATE TABLE t (id int PRIMARY KEY, team int, project int, owner int, open bool, label text, person uuid); ALTER TABLE t ENABLE ROW LEVEL SECURITY, REPLICA IDENTITY FULL;
CREATE TABLE members (team int, who int, level app.level, active bool, note text, big text); CREATE TABLE projects (id int PRIMARY KEY, team int, closed bool);
CREATE TABLE people (id int PRIMARY KEY, home int, admin bool); CREATE TABLE blocked (who int, target int);
CREATE TABLE guarded (team int, who int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE TABLE secret (team int, who int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE TABLE shares (label text, person uuid, until date, level app.level); ALTER TABLE shares ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON t, members, projects, people, blocked, guarded, shares TO {0}, {1};
CREATE FUNCTION app.uid() RETURNS int LANGUAGE sql STABLE AS $$ select coalesce(nullif(current_setting('app.user', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'id')::int $$;
CREATE POLICY rest ON guarded AS RESTRICTIVE USING (team IS DISTINCT FROM 3);
CREATE POLICY all_of ON shares TO {0} USING (true); CREATE POLICY few ON shares TO {1} USING (level IS NULL OR EXISTS (SELECT FROM guarded g WHERE g.who = app.uid()));
CREATE FUNCTION app.shared(l text, p uuid) RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$ SELECT EXISTS (SELECT 1 FROM shares s WHERE s.label = l AND s.person = p) $$;
CREATE POLICY own ON guarded TO {0} USING (who = app.uid()); CREATE POLICY team ON guarded TO {1} USING (team IN (SELECT m.team FROM members m WHERE m.who = app.uid()));
CREATE FUNCTION app.leads(team int) RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$ SELECT EXISTS (SELECT 1 FROM secret s WHERE s.team = leads.team AND s.who = app.uid()) $$;
CREATE FUNCTION app.member(team int, who int) RETURNS bool LANGUAGE sql STABLE AS $$ select exists (select from public.members m where m.team = $1 and m.who = member.who and m.active) $$;
CREATE FUNCTION app.admin() RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$ SELECT coalesce((SELECT p.admin FROM public.people p WHERE p.id = app.uid()), false) $$;
CREATE FUNCTION app.my_teams() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$ SELECT team FROM secret WHERE who = (SELECT app.uid()) $$;`

var setTables = []string{"t", "members", "projects", "people", "blocked", "guarded", "secret", "shares"}

func (r setGrammar) number(n int) string {
	if r.IntN(9) == 0 {
		return "NULL"
	}
	return fmt.Sprint(1 + r.IntN(n))
}

func (r setGrammar) label() string { return r.pick("'a'", "'A'", "''", "'ü'", "NULL") }

func (r setGrammar) person() string {
	return r.pick("'00000000-0000-4000-8000-000000000001'", "'00000000-0000-4000-8000-00000000000A'", "NULL")
}

func (r setGrammar) flag() string { return r.pick("true", "false", "NULL") }

// write is a statement of a transaction.
func (r setGrammar) write() string {
	id, team, who := fmt.Sprint(1+r.IntN(25)), r.number(4), r.number(5)
	switch n := r.IntN(33); {
	case n < 4:
		return fmt.Sprintf("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", id, team, r.number(4), who, r.flag(), r.label(), r.person())
	case n < 6:
		return fmt.Sprintf("UPDATE t SET team = %s WHERE id %s %s", team, r.pick("=", "<"), id)
	case n < 8:
		return fmt.Sprintf("UPDATE t SET open = %s, owner = %s, project = %s, label = %s, person = %s WHERE id = %s", r.flag(), who, r.number(4), r.label(), r.person(), id)
	case n < 9:
		return "DELETE FROM t WHERE id = " + id
	case n < 10:
		return fmt.Sprintf("UPDATE t SET id = id + 100 WHERE id = %s AND NOT EXISTS (SELECT FROM t x WHERE x.id = t.id + 100)", id)
	case n < 14:
		return fmt.Sprintf("INSERT INTO members VALUES (%s, %s, %s, %s, %s, %s)", team, who, r.pick("'lead'", "'guest'", "'none'", "NULL"), r.flag(), r.pick("'x'", "'lead'", "NULL"), r.pick("NULL", "repeat(md5(random()::text), 400)"))
	case n < 16:
		return "DELETE FROM members WHERE " + r.pick("who = "+who, "team = "+team, "ctid = (SELECT min(ctid) FROM members)")
	case n < 18:
		return fmt.Sprintf("UPDATE members SET %s WHERE who = %s", r.pick("active = "+r.flag(), "level = 'lead'", "team = "+team, "note = 'lead'", "big = big"), who)
	case n < 19:
		return fmt.Sprintf("INSERT INTO projects VALUES (%d, %s, %s) ON CONFLICT (id) DO UPDATE SET team = excluded.team, closed = excluded.closed", 1+r.IntN(4), team, r.flag())
	case n < 20:
		return "DELETE FROM projects WHERE id = " + fmt.Sprint(1+r.IntN(4))
	case n < 22:
		return fmt.Sprintf("INSERT INTO people VALUES (%d, %s, %s) ON CONFLICT (id) DO UPDATE SET home = excluded.home, admin = excluded.admin", 1+r.IntN(5), team, r.flag())
	case n < 24:
		return r.pick(fmt.Sprintf("INSERT INTO blocked VALUES (%s, %s)", who, r.number(5)), "DELETE FROM blocked WHERE who = "+who, fmt.Sprintf("UPDATE blocked SET target = %s", r.number(5)))
	case n < 26:
		return r.pick(fmt.Sprintf("INSERT INTO guarded VALUES (%s, %s)", team, who), "DELETE FROM guarded WHERE team = "+team)
	case n < 28:
		return r.pick(fmt.Sprintf("INSERT INTO secret VALUES (%s, %s)", team, who), "DELETE FROM secret WHERE team = "+team, fmt.Sprintf("UPDATE secret SET team = %s", team))
	case n < 31:
		return r.pick(fmt.Sprintf("INSERT INTO shares VALUES (%s, %s, %s, %s)", r.label(), r.person(), r.pick("'2019-01-01'", "'infinity'", "NULL"), r.pick("'lead'", "'guest'", "NULL")), "DELETE FROM shares WHERE label = "+r.label(), fmt.Sprintf("UPDATE shares SET label = %s, level = NULL WHERE person = %s", r.label(), r.person()))
	case n < 32:
		return "SAVEPOINT s; DELETE FROM members; DELETE FROM t; ROLLBACK TO s"
	default:
		return "TRUNCATE " + r.pick("shares", "members", "blocked", "projects", "guarded", "t")
	}
}

// seen are the keys of t that each principal's SELECT returns now.
func (f *follower) seen(t *testing.T, who []*authz.Principal) []map[string]bool {
	t.Helper()
	var sql strings.Builder
	for _, p := range who {
		sql.WriteString("BEGIN;")
		for _, s := range p.Settings {
			fmt.Fprintf(&sql, "SET LOCAL %s = '%s';", pgx.Identifier(strings.Split(s.Name, ".")).Sanitize(), strings.ReplaceAll(s.Value, "'", "''"))
		}
		fmt.Fprintf(&sql, "SET LOCAL ROLE %s; SELECT id FROM public.t; ROLLBACK;", quote(p.Role))
	}
	results, err := f.admin.Exec(t.Context(), sql.String()).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]bool
	for _, r := range results {
		if !r.CommandTag.Select() {
			continue
		}
		keys := map[string]bool{}
		for _, row := range r.Rows {
			keys[string(row[0])] = true
		}
		out = append(out, keys)
	}
	return out
}

// A judged is a transaction and what each principal saw before and after it.
type judged struct {
	batch         *cdc.Batch
	before, after []map[string]bool
}

// TestSetsAgreeWithSelectBeforeAndAfterEachTransaction makes policies that ask other tables, and
// transactions that write to these and to the rows. Each image is judged as the principal's SELECT
// had it: before the transaction for the old, after it for the new, also when it is judged again
// later; and where what is seen of other rows changed, that is told. Whatever is visible is found by what narrowed
// when it was last told. ROWTIDE_TEST_SEED replays a
// run, ROWTIDE_TEST_DECISIONS makes it longer.
//
// Covers R28, R31.
func TestSetsAgreeWithSelectBeforeAndAfterEachTransaction(t *testing.T) {
	t.Parallel()
	r := setGrammar{rand.New(rand.NewPCG(seed(t), 3))}
	f := newWorld(t, 2, setWorld).follow(t, setTables...)
	users, most := []string{"1", "2", "3", ""}, decisions(t)
	if most > 100_000 { // at night: new policies are dear, principals are not
		users = append(users, "4", "", "", "")
	}
	var who []*authz.Principal
	for n := range 2 {
		for _, user := range users {
			who = append(who, f.as(n, r.claims(), "app.user", user))
		}
	}
	c := &setCheck{f: f, who: who}
	sets, other := 0, map[string]int{}
	for round := 0; c.decisions < most; round++ {
		policies := f.policies(t, r)
		tab := f.use(t, "t")[0]
		why, asks := f.g.Unkept(tab, f.names[0])
		if why != "" || !asks {
			for _, w := range f.g.Ways(tab, f.names[0]) {
				other[w.Way+" "+w.Why]++
			}
			continue
		}
		sets++
		c.tab, c.past, c.now = tab, nil, f.seen(t, who)
		c.place(t, everybody(len(who)))
		for range 40 {
			c.transaction(t, r)
			if t.Failed() {
				t.Fatalf("round %d:\n%s", round, policies)
			}
		}
	}
	t.Logf("%d sets of policies, %d decisions, %d visible, %d narrowed away, %d of %d changes of membership told, %d in vain, %d times few rows were read, %d of %d reached", sets, c.decisions, c.visible, c.narrowed, c.told, c.moved, c.vain, c.few, c.reached, c.reached+c.spared)
	for w, n := range other {
		t.Logf("%4d not kept: %s", n, w)
	}
	if c.visible*20 < c.decisions || c.moved < 20 || sets < 5 || c.parts < 20 || c.narrowed*50 < c.decisions || c.few == 0 || c.spared < c.reached {
		t.Error("the policies are too much alike")
	}
}

// policies makes some for t.
func (f *follower) policies(t *testing.T, r setGrammar) string {
	t.Helper()
	var sql strings.Builder
	sql.WriteString(`DO $$ DECLARE p name; BEGIN FOR p IN SELECT polname FROM pg_policy WHERE polrelid = 't'::regclass LOOP EXECUTE format('DROP POLICY %I ON t', p); END LOOP; END $$;`)
	for i := range 1 + r.IntN(2) {
		kind := ""
		if i > 0 {
			kind = r.pick("", "AS RESTRICTIVE")
		}
		fmt.Fprintf(&sql, "CREATE POLICY p%d ON t %s USING (%s);\n", i, kind, r.cond(r.IntN(3)))
	}
	f.exec(t, sql.String())
	return sql.String()
}

// A setCheck holds transactions against the truth.
type setCheck struct {
	f    *follower
	tab  *schema.Table
	who  []*authz.Principal
	past []judged
	now  []map[string]bool // what each principal sees

	decisions, visible, moved, told, vain, parts, narrowed, few, reached, spared int

	// held is by what each principal is found, as an index of subscriptions holds it; found tells that what is
	// judged is looked up there.
	held  [][]authz.Equality
	found bool
}

// place puts principals into the index anew.
func (c *setCheck) place(t *testing.T, which []authz.Effect) {
	t.Helper()
	if len(c.held) != len(c.who) {
		c.held = make([][]authz.Equality, len(c.who))
	}
	for i, effect := range which {
		if effect != authz.NoEffect {
			c.held[i] = c.f.g.Narrow(c.tab, c.who[i])
		}
	}
}

func everybody(n int) []authz.Effect { return slices.Repeat([]authz.Effect{authz.Unknown}, n) }

// missed tells whether the index does not find a principal by an image.
func (c *setCheck) missed(principal int, image cdc.Row) bool {
	return slices.ContainsFunc(c.held[principal], func(q authz.Equality) bool {
		v := image[q.Column]
		return v.Kind() != cdc.Text || !slices.Contains(q.Values, v.Text())
	})
}

func (c *setCheck) transaction(t *testing.T, r setGrammar) {
	t.Helper()
	before := c.now
	var writes []string
	for range 1 + r.IntN(4) {
		writes = append(writes, r.write())
	}
	c.f.exec(t, "BEGIN; "+strings.Join(writes, "; ")+"; COMMIT")
	after := c.f.seen(t, c.who)
	c.now = after
	var whole cdc.Batch
	c.f.pump(t, func(b *cdc.Batch) {
		j := judged{b, before, after}
		c.place(t, c.ask(t, b.Commit))
		c.found = true
		c.judge(t, j)
		c.found = false
		c.past = append(c.past, j)
		if whole.Commit != b.Commit {
			whole = cdc.Batch{Transaction: b.Transaction}
		} else {
			c.parts++
		}
		if whole.Events = append(whole.Events, b.Events...); b.Last && len(whole.Events) > 0 {
			c.affected(t, judged{&whole, before, after})
		}
	})
	for range min(len(c.past), 2) {
		c.judge(t, c.past[r.IntN(len(c.past))])
	}
	if t.Failed() {
		t.Logf("the transaction: %q", writes)
	}
}

// judge holds the images of a transaction against the truth.
func (c *setCheck) judge(t *testing.T, j judged) {
	t.Helper()
	q := authz.Question{XID: j.batch.XID, Commit: j.batch.Commit, Table: c.tab, Principals: c.who}
	for _, e := range j.batch.Events {
		if e.Relation.OID != c.tab.Def.OID {
			continue
		}
		for i, image := range []cdc.Row{e.Old, e.New} {
			if image != nil {
				q.Images, q.Old = append(q.Images, image), append(q.Old, i == 0)
			}
		}
	}
	got, err := c.f.g.Judge(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.who {
		for k, image := range q.Images {
			truth := j.after[i]
			if q.Old[k] {
				truth = j.before[i]
			}
			want := authz.Hidden
			if truth[image[0].Text()] {
				want = authz.Visible
				c.visible++
			}
			if c.found && c.missed(i, image) {
				if c.narrowed++; want == authz.Visible {
					t.Errorf("as %s %v, row %v, old %t, is visible and not found by %v", c.who[i].Role, c.who[i].Settings, image, q.Old[k], c.held[i])
				}
			}
			if c.decisions++; got[i][k] != want {
				t.Errorf("as %s %v, row %v, old %t: verdict %d, SELECT says %d", c.who[i].Role, c.who[i].Settings, image, q.Old[k], got[i][k], want)
			}
		}
	}
}

// affected checks that everybody is told of whom other rows than those written are seen, or not.
func (c *setCheck) affected(t *testing.T, j judged) {
	t.Helper()
	touched := map[string]bool{}
	for _, e := range j.batch.Events {
		if e.Relation.OID == c.tab.Def.OID {
			if e.Op == cdc.Truncate {
				return
			}
			for _, image := range []cdc.Row{e.Old, e.New} {
				if image != nil {
					touched[image[0].Text()] = true
				}
			}
		}
	}
	told := c.ask(t, j.batch.Commit)
	for i := range c.who {
		moved := slices.ContainsFunc(slices.Concat(keys(j.before[i]), keys(j.after[i])), func(id string) bool {
			return !touched[id] && j.before[i][id] != j.after[i][id]
		})
		switch {
		case moved && told[i] == authz.RowsMoved:
			c.moved++
			c.told++
			c.near(t, j, i, touched)
		case moved:
			c.moved++
			t.Errorf("%s %v is not told that other rows are seen: %v before, %v after, %v were written", c.who[i].Role, c.who[i].Settings, keys(j.before[i]), keys(j.after[i]), keys(touched))
		case told[i] != authz.NoEffect:
			c.vain++
		}
	}
}

// ask asks what a transaction means to everybody, and checks that nothing is told to who is not reached.
func (c *setCheck) ask(t *testing.T, commit cdc.LSN) []authz.Effect {
	t.Helper()
	told := c.f.g.Affected(c.tab, commit, c.who)
	handles, all := c.f.g.Reached(c.tab, commit)
	for i, p := range c.who {
		switch reached := all || slices.ContainsFunc(c.f.g.Handles(c.tab, p), func(h string) bool { return slices.Contains(handles, h) }); {
		case reached:
			c.reached++
		case told[i] != authz.NoEffect:
			t.Errorf("%s %v is not reached by %q", p.Role, p.Settings, handles)
		default:
			c.spared++
		}
	}
	return told
}

// near checks that the rows that came into or went out of a principal's sight are among those that are read.
func (c *setCheck) near(t *testing.T, j judged, i int, touched map[string]bool) {
	t.Helper()
	_, rows, err := c.f.g.Near(t.Context(), c.tab, j.batch.Commit, c.who[i:i+1], []uint32{j.batch.XID}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	for _, row := range rows {
		read[row[0].Text()] = true
	}
	for _, id := range slices.Concat(keys(j.before[i]), keys(j.after[i])) {
		if !touched[id] && j.before[i][id] != j.after[i][id] && !read[id] {
			t.Errorf("%s %v sees row %s: %t, and before: %t; it is not among those read: %v", c.who[i].Role, c.who[i].Settings, id, j.after[i][id], j.before[i][id], keys(read))
		}
	}
	if all := c.f.seenByAll(t); len(rows) < all {
		c.few++
	}
}

// seenByAll is the number of rows of t.
func (f *follower) seenByAll(t *testing.T) int {
	t.Helper()
	results, err := f.admin.Exec(t.Context(), "SELECT count(*) FROM public.t").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(string(results[0].Rows[0][0]))
	return n
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
