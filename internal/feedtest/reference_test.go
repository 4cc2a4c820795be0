package feedtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A bench is a source, a target, and a Reference between them.
type bench struct {
	fx             *Fixture
	source, target *pgtest.DB
	ref            *Reference
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{source: pgtest.New(t)}
	b.fx = NewFixture(b.source.Role(t, "web_user"), b.source.Role(t, "web_reader"))
	b.source.Exec(t, b.fx.DDL())
	b.target = pgtest.New(t, b.fx.DDL())
	b.ref = &Reference{
		Source: b.source.Admin, Target: b.target.Admin,
		Tables: b.fx.Tables(), Subscriptions: b.fx.Subscriptions(), CheckEvery: 25,
	}
	if err := b.ref.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) now(t *testing.T) pglogrepl.LSN {
	t.Helper()
	at, err := CurrentLSN(t.Context(), b.source.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (b *bench) run(t *testing.T, from pglogrepl.LSN) []*Stream {
	t.Helper()
	streams, err := b.ref.Run(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	return streams
}

// told is what the streams of one principal say, commit by commit.
func told(streams []*Stream, principal string) []string {
	type frame struct {
		e    *Expected
		text string
	}
	var frames []frame
	for _, s := range streams {
		sub := s.Subscription
		if sub.Principal.Name != principal || sub.WhereSQL != "" {
			continue
		}
		for i := range s.Frames {
			e := &s.Frames[i]
			text := e.Kind + " " + sub.Table.Name + " " + strings.ReplaceAll(e.Key, keySeparator, ",")
			if f := s.Frame(i); f.Changed != nil {
				text += " " + strings.Join(f.Changed, ",")
			}
			frames = append(frames, frame{e, text})
		}
	}
	slices.SortStableFunc(frames, func(a, b frame) int { return int(int64(a.e.Commit) - int64(b.e.Commit)) })
	var out []string
	for i, f := range frames {
		if i > 0 && frames[i-1].e.Commit == f.e.Commit {
			out[len(out)-1] += "; " + f.text
			continue
		}
		out = append(out, f.text)
	}
	return out
}

// Each line is a transaction, and what one user, one reader and the administrator are told.
func TestReferenceTellsWhatEachCommitMeansToEachPrincipal(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.Exec(t, `INSERT INTO members VALUES (1, 'u01'), (2, 'u02');
		INSERT INTO documents (id, owner, title, updated_at) VALUES (1, 'u01', 'a', '2020-01-01'), (2, 'u02', 'b', '2020-01-01')`)
	from := b.now(t)
	const at = "updated_at) VALUES"
	steps := []struct{ sql, user, reader, admin string }{
		{"INSERT INTO documents (id, owner, " + at + " (3, 'u01', '2020-01-01')", "INSERT documents 3", "INSERT documents 3", "INSERT documents 3"},
		{"UPDATE documents SET amount = 5 WHERE id = 3", "UPDATE documents 3 amount", "", "UPDATE documents 3 amount"},
		{"UPDATE documents SET secret = 'x' WHERE id = 3", "", "", ""},
		{"UPDATE documents SET title = title", "", "", ""},
		{"UPDATE documents SET owner = 'u02' WHERE id = 3", "LEAVE documents 3", "LEAVE documents 3", "UPDATE documents 3 owner"},
		{"UPDATE documents SET owner = 'u01', amount = 6 WHERE id = 3", "ENTER documents 3", "ENTER documents 3", "UPDATE documents 3 owner,amount"},
		{"DELETE FROM documents WHERE id = 3", "DELETE documents 3", "DELETE documents 3", "DELETE documents 3"},
		{"DELETE FROM documents WHERE id = 1; INSERT INTO documents (id, owner, title, " + at + " (1, 'u01', 'c', '2020-01-01')", "UPDATE documents 1 title", "UPDATE documents 1 title", "UPDATE documents 1 title"},
		{"INSERT INTO documents (id, owner, " + at + " (4, 'u01', '2020-01-01'); DELETE FROM documents WHERE id = 4", "", "", ""},
		{"UPDATE documents SET id = 5 WHERE id = 1", "DELETE documents 1; INSERT documents 5", "DELETE documents 1; INSERT documents 5", "DELETE documents 1; INSERT documents 5"},
		{"UPDATE documents SET id = 1, owner = 'u02' WHERE id = 5", "DELETE documents 5", "DELETE documents 5", "DELETE documents 5; INSERT documents 1"},
		{"INSERT INTO documents (id, owner, " + at + " (6, 'u01', '2020-01-01'), (7, 'u01', '2020-01-01'); UPDATE documents SET title = 'z' WHERE id = 6", "INSERT documents 7; INSERT documents 6", "INSERT documents 7; INSERT documents 6", "INSERT documents 7; INSERT documents 6"},
		{"SAVEPOINT s; DELETE FROM documents; ROLLBACK TO s; UPDATE documents SET is_starred = true WHERE id = 6", "UPDATE documents 6 isStarred", "UPDATE documents 6 isStarred", "UPDATE documents 6 isStarred"},
		{"INSERT INTO tickets (region, number, is_public, priority, made_at) VALUES ('east', 1, false, 1, '2020-01-01'), ('west', 1, true, 1, '2020-01-01')", "INSERT tickets east,1; INSERT tickets west,1", "INSERT tickets east,1; INSERT tickets west,1", "INSERT tickets west,1"},
		{"UPDATE tickets SET priority = 2", "LEAVE tickets east,1; LEAVE tickets west,1", "LEAVE tickets east,1; LEAVE tickets west,1", "UPDATE tickets west,1 priority"},
		{"UPDATE tickets SET priority = NULL; UPDATE tickets SET priority = 1 WHERE region = 'west'", "ENTER tickets west,1", "ENTER tickets west,1", "UPDATE tickets west,1 priority"},
		{"INSERT INTO tasks (id, team_id, title) VALUES ('00000000-0000-0000-0000-000000000001', 1, 'x')", "INSERT tasks 00000000-0000-0000-0000-000000000001", "INSERT tasks 00000000-0000-0000-0000-000000000001", ""},
		{"UPDATE tasks SET team_id = 2", "LEAVE tasks 00000000-0000-0000-0000-000000000001", "LEAVE tasks 00000000-0000-0000-0000-000000000001", ""},
		{"DELETE FROM documents WHERE id = 6; TRUNCATE documents; INSERT INTO documents (id, owner, title, " + at + " (7, 'u01', 'n', '2020-01-01')", "TRUNCATE documents ; INSERT documents 7", "TRUNCATE documents ; INSERT documents 7", "TRUNCATE documents ; INSERT documents 7"},
	}
	var user, reader, admin []string
	for _, s := range steps {
		b.source.Exec(t, "BEGIN; "+s.sql+"; COMMIT")
		for _, x := range []struct {
			to   *[]string
			text string
		}{{&user, s.user}, {&reader, s.reader}, {&admin, s.admin}} {
			if x.text != "" {
				*x.to = append(*x.to, x.text)
			}
		}
	}
	streams := b.run(t, from)
	for name, want := range map[string][]string{"u01": user, "reader u01": reader, "admin": admin} {
		if diff := cmp.Diff(want, told(streams, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, s := range streams {
		if s.Subscription.Principal.Name == "nobody" && s.Subscription.Table.Name == "documents" && len(s.Frames) != 1 {
			t.Errorf("%s has %d frames, want the TRUNCATE alone", s.Subscription.Name, len(s.Frames))
		}
	}
}

// What the Reference says, a client that started with its SELECT and materialises what it is sent
// has in the end what its SELECT returns then. And a service that sent exactly it would pass.
func TestReferenceLeadsFromTheFirstSelectToTheLast(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := Workload{URL: b.source.Admin, Seed: 1, Changes: 3000, MaxRows: 200}
	fill(t, w)
	subs := b.ref.Subscriptions
	clients := make([]*Materialiser, len(subs))
	for i, s := range subs {
		clients[i] = NewMaterialiser()
		for key, image := range b.rows(t, s) {
			clients[i].Apply(&Frame{Kind: Snapshot, RowID: s.Table.Name + " " + key, Row: s.object(image)})
		}
	}
	from := b.now(t)
	stats, err := w.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stats.Changes < 3000 || stats.RolledBack == 0 || stats.Transactions == 0 {
		t.Errorf("the workload did %+v", stats)
	}
	streams := b.run(t, from)
	for i, s := range streams {
		frames := make([]*Frame, len(s.Frames))
		for n := range frames {
			frames[n] = s.Frame(n)
			clients[i].Apply(frames[n])
		}
		for _, failure := range Judge(s, frames) {
			t.Errorf("%s: %s", subs[i].Name, failure)
		}
		for _, failure := range clients[i].Compare(subs[i], b.rows(t, subs[i])) {
			t.Errorf("%s: %s", subs[i].Name, failure)
		}
	}
	kinds := Kinds(streams)
	for _, kind := range []string{Insert, Update, Delete, Enter, Leave} {
		if kinds[kind] < 50 {
			t.Errorf("only %d frames are of kind %s", kinds[kind], kind)
		}
	}
	t.Logf("%+v; %d commits; %v", stats, b.ref.Commits, kinds)
}

func (b *bench) rows(t *testing.T, s *Subscription) Rows {
	t.Helper()
	rows, err := s.Select(t.Context(), b.source.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func fill(t *testing.T, w Workload) {
	t.Helper()
	if err := w.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Looking at the touched keys alone gives what looking at everything gives.
func TestReferenceOfTheTouchedKeysIsThatOfWholeTables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	full := &Reference{Source: b.source.Admin, Target: pgtest.New(t, b.fx.DDL()).Admin, Name: b.ref.Name + "_full", Tables: b.fx.Tables(), Subscriptions: b.ref.Subscriptions, Full: true}
	if err := full.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := Workload{URL: b.source.Admin, Seed: 2, Changes: 500, MaxRows: 50}
	fill(t, w)
	from := b.now(t)
	if _, err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.source.Exec(t, "TRUNCATE tasks; INSERT INTO tasks (id, team_id, title) SELECT gen_random_uuid(), 1, 'x' FROM generate_series(1, 20)")
	want, err := full.Run(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range b.run(t, from) {
		if diff := cmp.Diff(want[i].Frames, s.Frames); diff != "" {
			t.Errorf("%s: %s", s.Subscription.Name, diff)
		}
	}
}

// A change of membership moves rows that it does not touch. A Reference that looks at the touched
// keys alone cannot know, and says so.
func TestReferenceOfTheTouchedKeysNoticesAChangeOfMembership(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.source.Exec(t, "INSERT INTO tasks (id, team_id, title) VALUES (gen_random_uuid(), 1, 'x')")
	from := b.now(t)
	b.source.Exec(t, "INSERT INTO members VALUES (1, 'u01')")
	if _, err := b.ref.Run(t.Context(), from); err == nil || !strings.Contains(err.Error(), "no difference gave it") {
		t.Errorf("got the error %v", err)
	}
}

func TestReferenceTellsAChangeOfMembership(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ref.Full = true
	b.source.Exec(t, "INSERT INTO tasks (id, team_id, title) SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, n, 'x' FROM generate_series(1, 3) n")
	from := b.now(t)
	b.source.Exec(t, "INSERT INTO members VALUES (1, 'u01')")
	b.source.Exec(t, "BEGIN; UPDATE members SET team_id = 2; UPDATE tasks SET title = 'y' WHERE team_id = 2; COMMIT")
	b.source.Exec(t, "BEGIN; UPDATE members SET team_id = 3; DELETE FROM tasks WHERE team_id = 2; COMMIT")
	const id = " tasks 00000000-0000-0000-0000-00000000000"
	want := []string{"ENTER" + id + "1", "ENTER" + id + "2; LEAVE" + id + "1", "DELETE" + id + "2; ENTER" + id + "3"}
	if diff := cmp.Diff(want, told(b.run(t, from), "u01")); diff != "" {
		t.Error(diff)
	}
}

// Rows from before Prepare are copied as of the point where the slot begins.
func TestReferenceBeginsWithTheRowsThatThereAre(t *testing.T) {
	t.Parallel()
	b := &bench{source: pgtest.New(t)}
	b.fx = NewFixture(b.source.Role(t, "web_user"), b.source.Role(t, "web_reader"))
	b.source.Exec(t, b.fx.DDL())
	b.target = pgtest.New(t, b.fx.DDL())
	w := Workload{URL: b.source.Admin, Seed: 7, Changes: 1000, MaxRows: 100}
	fill(t, w)
	writing := make(chan error, 1)
	go func() {
		_, err := w.Run(t.Context())
		writing <- err
	}()
	b.ref = &Reference{Source: b.source.Admin, Target: b.target.Admin, Tables: b.fx.Tables(), Subscriptions: b.fx.Subscriptions()}
	if err := b.ref.Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-writing; err != nil {
		t.Fatal(err)
	}
	b.run(t, b.now(t)) // checks everything in the end
	for _, s := range b.ref.Subscriptions {
		want := b.rows(t, s)
		target, err := s.Select(t.Context(), b.target.Admin)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, target); diff != "" {
			t.Errorf("%s: %s", s.Name, diff)
		}
	}
}

// The Reference is wrong if the databases differ, or if a subscription has not all columns. It
// says so rather than judge by it.
func TestReferenceNoticesThatItCannotJudge(t *testing.T) {
	t.Parallel()
	const insert = "INSERT INTO documents (id, owner, updated_at) VALUES (1, 'u01', '2020-01-01')"
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, b *bench)
		want  string
	}{
		"a row that no commit made": {func(t *testing.T, b *bench) {
			t.Helper()
			b.target.Exec(t, "INSERT INTO documents (id, owner, updated_at) VALUES (2, 'u01', '2020-01-01')")
		}, "not in the table"},
		"a table of other columns": {func(t *testing.T, b *bench) {
			t.Helper()
			b.source.Exec(t, "ALTER TABLE documents ADD more int")
			b.source.Exec(t, "UPDATE documents SET title = 'x'")
		}, "10 columns, want 9"},
		"a column that is readable": {func(t *testing.T, b *bench) {
			t.Helper()
			b.target.Exec(t, fmt.Sprintf("GRANT SELECT (secret) ON documents TO %s", quote(b.fx.Reader)))
		}, "the role may read"},
		"a policy that raises an error": {func(t *testing.T, b *bench) {
			t.Helper()
			b.target.Exec(t, "CREATE POLICY broken ON documents USING (1 / (id - 1) > 0)")
		}, "division by zero"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			from := b.now(t)
			b.source.Exec(t, insert)
			tt.spoil(t, b)
			if _, err := b.ref.Run(t.Context(), from); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want one with %q", err, tt.want)
			}
		})
	}
}
