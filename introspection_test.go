package rowtide_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestStockToolsReadTheSchema has graphql-js, which GraphiQL, graphql-codegen, Apollo, Relay and
// urql stand on, read the schema of each role with every introspection query that it writes.
func TestStockToolsReadTheSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, zooDDL, `
		CREATE TABLE things (id int PRIMARY KEY, secret text, m mood, p nested, spans datemultirange, many text[], h hstore, old int);
		COMMENT ON COLUMN things.old IS '@deprecated(reason: "use \"m\"")
It was "once".';
		ALTER TABLE things REPLICA IDENTITY FULL; COMMENT ON TABLE things IS '@subscribe(rowSecurity: NOT_REQUIRED)
Things, """quoted""".'`)
	all, some, none := db.Role(t, "web_all"), db.Role(t, "web_some"), db.Role(t, "web_none")
	db.Exec(t, "GRANT SELECT ON things TO "+all+"; GRANT SELECT (id, m) ON things TO "+some)
	cfg := settings(t, db, all, some, none)
	cfg.ExposePositions = false // as rowtide.SDL prints it
	s := start(t, cfg)
	seen := map[string]string{}
	for _, role := range []string{all, some, none} {
		sdl, _, err := rowtide.SDL(t.Context(), rowtide.ReadConfig{URL: db.Admin}, role)
		if err != nil {
			t.Fatal(err)
		}
		seen[role] = sdl
		said := readSchema(t, "http://"+s.addr+"/graphql", token(t, role, map[string]any{}), sdl)
		if said.Variants != 64 || len(said.Problems) > 0 {
			t.Errorf("%s: %d variants of 64, %s", role, said.Variants, said.Problems)
		}
	}
	if !strings.Contains(seen[all], "secret") || strings.Contains(seen[some], "secret") || strings.Contains(seen[none], "Thing") {
		t.Error("the schemas are not those of the roles")
	}

	s.stop()
	cfg.NoIntrospection = true
	s = start(t, cfg)
	if said := readSchema(t, "http://"+s.addr+"/graphql", token(t, all, map[string]any{}), seen[all]); said.Variants != 0 {
		t.Errorf("introspection is off, and answers %d times", said.Variants)
	}
}

type schemaReading struct {
	Variants int
	Problems []json.RawMessage
}

func readSchema(t *testing.T, url, token, sdl string) (out schemaReading) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "introspection.mjs", url, token)
	node.Dir = filepath.Join("internal", "stockclients")
	node.Stdin, node.Stderr = strings.NewReader(sdl), t.Output()
	text, err := node.Output()
	if err != nil {
		t.Fatalf("%v: run npm ci in internal/stockclients, or make test", err)
	}
	if err := json.Unmarshal(bytes.TrimSpace(text), &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}
