package rowtide_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestRowsThatAreCopiedAreFollowed copies rows into a table that the same transaction has emptied, so
// that PostgreSQL writes them frozen, and many at once; with a large object beside them, which no
// publication has.
//
// Covers C85.
func TestRowsThatAreCopiedAreFollowed(t *testing.T) {
	t.Parallel()
	const rows = 2000
	s, db, role := serveNotes(t, "INSERT INTO notes VALUES (-1, 'ana', 'before')")
	c := liveNotes(t, s, role, "")
	conn := connection(t, db.Admin)
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "%d\t%s\tcopied\n", i, []string{"ana", "ben"}[i%2])
	}
	exec("BEGIN")
	exec("TRUNCATE notes")
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(text.String()), "COPY notes FROM STDIN (FREEZE)"); err != nil {
		t.Fatal(err)
	}
	exec("SELECT lo_put(lo_create(0), 0, convert_to(repeat('x', 100000), 'UTF8'))")
	exec("COMMIT")
	if f := next(t, c); f.Kind != feedtest.Truncate {
		t.Fatalf("want TRUNCATE, got %s", f)
	}
	for i := 0; i < rows; i += 2 {
		if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != strconv.Itoa(i) || string(f.Row["text"]) != `"copied"` {
			t.Fatalf("want the insert of %d, got %s", i, f)
		}
	}
}

// TestATransactionOfMuchDDLIsFollowed changes the catalog some hundred times in one transaction, with a
// row behind each change: decoding it costs the server much, and each description of the table is in
// force for its row alone.
//
// Covers C88.
func TestATransactionOfMuchDDLIsFollowed(t *testing.T) {
	t.Parallel()
	const changes = 40
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notesSchema+"GRANT SELECT ON notes TO "+role) // under row-level security, images without the later columns are not judged
	s := start(t, settings(t, db, role))
	c := liveNotes(t, s, role, "")
	var sql strings.Builder
	sql.WriteString("BEGIN;")
	for i := range changes {
		fmt.Fprintf(&sql, "CREATE TABLE made_%[1]d (id int PRIMARY KEY); INSERT INTO made_%[1]d VALUES (1); ALTER TABLE made_%[1]d ADD v text;", i)
		fmt.Fprintf(&sql, "ALTER TABLE notes ADD c%[1]d int DEFAULT %[1]d; INSERT INTO notes VALUES (%[1]d, 'ana', 'row %[1]d');", i)
	}
	sql.WriteString("COMMIT; INSERT INTO notes VALUES (-1, 'ana', 'behind it')")
	db.Exec(t, sql.String())
	for i := range changes {
		if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != strconv.Itoa(i) || string(f.Row["text"]) != fmt.Sprintf(`"row %d"`, i) {
			t.Fatalf("want the insert of %d, got %s", i, f)
		}
	}
	if f := next(t, c); string(f.Row["id"]) != "-1" {
		t.Errorf("want the row behind it, got %s", f)
	}
}
