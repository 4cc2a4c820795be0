package pgoutput_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/cdc/pgoutput"
)

var updateGolden = flag.Bool("update", false, "record the golden streams anew from the server that the tests use")

// A golden stream is two files: the frames as a server sent them, in hexadecimal, one a line;
// and what they say, in text.
const goldenFrames, goldenText = ".frames", ".golden"

// goldenStreams reads the frames of every golden stream.
func goldenStreams(t testing.TB) map[string][]frame {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*"+goldenFrames))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]frame{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			f, err := hex.DecodeString(strings.TrimSpace(line))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			name := strings.TrimSuffix(filepath.Base(file), goldenFrames)
			out[name] = append(out[name], f)
		}
	}
	return out
}

// Bytes that a server once sent decode to what they said then, whatever server is at hand now.
//
// Covers C45, C47, C52, C57, C60, C74.
func TestGoldenStreams(t *testing.T) {
	if *updateGolden {
		recordGolden(t)
	}
	streams := goldenStreams(t)
	if len(streams) == 0 {
		t.Fatal("no golden stream: run the tests once with -update")
	}
	for name, frames := range streams {
		agree(t, frames)
		d := pgoutput.NewDecoder()
		var got bytes.Buffer
		for _, f := range frames {
			fmt.Fprintln(&got, describe(decode(t, d, f)))
		}
		file := filepath.Join("testdata", name+goldenText)
		if *updateGolden {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s differs (-want +got):\n%s", name, diff)
		}
	}
}

func recordGolden(t *testing.T) {
	t.Helper()
	r := record(t, "TABLE docs, parts, kinds WITH (publish_via_partition_root)", `
		CREATE TYPE mood AS ENUM ('ok', 'so so');
		CREATE TABLE docs (id int PRIMARY KEY, price numeric(10,2), body text, m mood DEFAULT 'ok');
		ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
		CREATE TABLE kinds (b bool, f float8, ts timestamptz, i interval, raw bytea, arr text[], j json);
		ALTER TABLE kinds REPLICA IDENTITY FULL;
		CREATE TABLE parts (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
		CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b')`)
	for _, sql := range []string{
		`INSERT INTO docs VALUES (1, 1.5, ` + long + `), (2, NULL, '')`,
		`UPDATE docs SET price = 2 WHERE id = 1; UPDATE docs SET id = 3 WHERE id = 1; DELETE FROM docs WHERE id = 2`,
		`ALTER TABLE docs REPLICA IDENTITY FULL; UPDATE docs SET price = 3; ALTER TABLE docs ADD COLUMN added int; UPDATE docs SET added = 1; DELETE FROM docs`,
		`INSERT INTO kinds VALUES (true, 0.1::float8 + 0.2, '2026-02-03 04:05:06.789+09', '1 mon 2 days 03:04:05', '\x00ff', '{a,NULL,"NULL"}', '{"a": 1.10}'); UPDATE kinds SET f = 'NaN', ts = 'infinity'`,
		`INSERT INTO parts VALUES (1, 'a'); UPDATE parts SET region = 'b'`,
		`TRUNCATE parts; TRUNCATE docs, kinds RESTART IDENTITY CASCADE`,
		`SELECT pg_logical_emit_message(true, 'rowtide.ddl', 'in'); SELECT pg_logical_emit_message(false, 'other', 'out')`,
	} {
		r.db.Exec(t, sql)
	}
	var out bytes.Buffer
	for _, f := range r.frames(t) {
		fmt.Fprintf(&out, "%x\n", []byte(f))
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", "postgres15"+goldenFrames), out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
