package rowtide_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestTheRecipesForClients runs each program of docs/clients.md as it stands there: it shows what
// the table has for its user, while rows come, change, leave and go.
func TestTheRecipesForClients(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	recipes := regexp.MustCompile("(?s)<!-- recipe: (\\S+) -->\n```js\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(recipes) < 3 {
		t.Fatalf("the page has %d recipes", len(recipes))
	}
	for _, r := range recipes {
		t.Run(r[1], func(t *testing.T) {
			t.Parallel()
			runRecipe(t, r[1], r[2])
		})
	}
}

func runRecipe(t *testing.T, name, program string) {
	t.Helper()
	db := pgtest.New(t, `CREATE TABLE notes (id int PRIMARY KEY, owner text NOT NULL, text text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY; COMMENT ON TABLE notes IS '@subscribe';
CREATE POLICY own ON notes USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
INSERT INTO notes VALUES (1, 'ana', 'first'), (2, 'ben', 'ben''s')`)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	s := start(t, settings(t, db, role))

	// Where its packages are.
	file := filepath.Join("internal", "stockclients", fmt.Sprintf(".recipe-%s-%d.mjs", name, os.Getpid()))
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	node := exec.CommandContext(ctx, "node", filepath.Base(file))
	node.Dir = filepath.Dir(file)
	node.Env = append(os.Environ(), "URL=http://"+s.addr+"/graphql", "TOKEN="+token(t, role, map[string]string{"sub": "ana"}))
	node.Stderr = t.Output()
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatalf("%v: run npm ci in internal/stockclients, or make test", err)
	}
	defer func() { cancel(); _ = node.Wait() }()
	lines := bufio.NewScanner(out)
	await := func(want string) {
		t.Helper()
		for lines.Text() != want {
			if !lines.Scan() {
				t.Fatalf("it ended before it showed %s; last it showed %s", want, lines.Text())
			}
		}
	}
	await(`[{"id":1,"text":"first"}]`)
	for _, step := range []struct{ sql, want string }{
		{`INSERT INTO notes VALUES (3, 'ana', 'third')`, `[{"id":1,"text":"first"},{"id":3,"text":"third"}]`},
		{`UPDATE notes SET text = 'changed' WHERE id = 3`, `[{"id":1,"text":"first"},{"id":3,"text":"changed"}]`},
		{`UPDATE notes SET owner = 'ben' WHERE id = 1`, `[{"id":3,"text":"changed"}]`},
		{`DELETE FROM notes WHERE id = 3`, `[]`},
	} {
		db.Exec(t, step.sql)
		await(step.want)
	}
	if strings.Contains(lines.Text(), "ben") {
		t.Error("ana sees a row of ben's")
	}
}
