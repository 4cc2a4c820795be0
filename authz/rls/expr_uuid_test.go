package rls

import (
	"testing"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Whoever has a subject in another form than the usual one is no stranger: what Postgres takes for a UUID is read,
// as the same, and nothing else is.
func TestUUIDsAreReadAsPostgresReadsThem(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t).Pool(t)
	for _, text := range []string{
		"00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000A", "{00000000-0000-4000-8000-00000000000a}", "0000000000004000800000000000000a", "{0000000000004000800000000000000a}",
		"0000-0000-0000-4000-8000-0000-0000-000a", "00000000-0000-4000-80000000-0000000a", "0000-000000004000800000000000000a",
		"", "{}", "{", "-", "00000000-0000-4000-8000-00000000000", "00000000-0000-4000-8000-00000000000a0", "00000000-0000-4000-8000-00000000000g", "00000000--0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000a-",
		"-00000000-0000-4000-8000-00000000000a", "000000-000000-4000-8000-00000000000a", "{00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000a}", " 00000000-0000-4000-8000-00000000000a",
		"{{00000000-0000-4000-8000-00000000000a}}", "{00000000-0000-4000-8000-00000000000a}-", "0000000-0-0000-4000-8000-00000000000a",
	} {
		var want string
		err := pool.QueryRow(t.Context(), "SELECT ($1::text)::uuid::text", text).Scan(&want)
		var e evaluation
		if d := readUUID(&e, text); e.refused != (err != nil) || !e.refused && d.s != want {
			t.Errorf("%q: read as %q, refused %t; Postgres reads %q (%v)", text, d.s, e.refused, want, err)
		}
	}
}
