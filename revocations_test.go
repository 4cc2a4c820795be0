package rowtide_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Covers S29.
func TestRevocationsOutliveTheProcessAndReachOthers(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, notesSchema)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	cfg := settings(t, db, role)
	beside := cfg
	beside.Slot = "beside_" + db.Name
	one, two := start(t, cfg), start(t, beside)
	admin := administer(t, one)

	claims := map[string]string{"sub": "ann", "jti": "t-1"}
	bob := map[string]string{"sub": "bob", "jti": "t-2"}
	issued := token(t, role, claims)
	there, other := live(t, two, role, claims), live(t, two, role, bob)
	began := time.Now()
	if status, text := call(t, http.MethodPost, admin+"/revocations", `{"subject":"ann"}`); status != http.StatusOK || !strings.Contains(text, `"kept": true`) {
		t.Fatalf("%d %s", status, text)
	}
	if code := closed(t, there); code != 4401 {
		t.Errorf("the other service closed with %d, want 4401", code)
	}
	t.Logf("a revocation was in force at the other service %v after the request", time.Since(began))
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ann', '')")
	if f := next(t, other); f.Kind != "INSERT" {
		t.Errorf("another subject got %s", f.Kind)
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	if status, text := call(t, http.MethodPost, admin+"/revocations", `{"jti":"t-9","expires":"`+soon+`"}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	one.stop()

	again := start(t, cfg)
	if _, err := client.Dial(t.Context(), again.url(), issued); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("after a restart: %v", err)
	}
	if _, text := call(t, http.MethodGet, administer(t, again)+"/revocations", ""); !strings.Contains(text, `"ann"`) || !strings.Contains(text, `"t-9"`) || !strings.Contains(text, soon) {
		t.Errorf("after a restart: %s", text)
	}
}

// TestARevocationIsKeptWhenPostgresTakesIt has the database refuse at first.
//
// Covers S29.
func TestARevocationIsKeptWhenPostgresTakesIt(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, notesSchema)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	cfg := settings(t, db, role)
	db.Exec(t, "ALTER FUNCTION rowtide.revoke RENAME TO revoke_later")
	s := start(t, cfg)
	admin := administer(t, s)
	ann := live(t, s, role, map[string]string{"sub": "ann"})
	if status, text := call(t, http.MethodPost, admin+"/revocations", `{"subject":"ann"}`); status != http.StatusOK || !strings.Contains(text, `"kept": false`) || !strings.Contains(text, `"ended": 1`) {
		t.Fatalf("%d %s", status, text)
	}
	if code := closed(t, ann); code != 4401 {
		t.Errorf("closed with %d, want 4401", code)
	}
	db.Exec(t, "ALTER FUNCTION rowtide.revoke_later RENAME TO revoke")
	eventually(t, "the revocation is kept", func() bool {
		return count(t, db, "SELECT count(*) FROM rowtide.revocations WHERE subject = 'ann'") == 1
	})
}

// TestWithoutAPlaceForRevocationsTheyLastAsLongAsTheProcess is a database that an older version set up.
func TestWithoutAPlaceForRevocationsTheyLastAsLongAsTheProcess(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, notesSchema)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	cfg := settings(t, db, role)
	db.Exec(t, "DROP FUNCTION rowtide.revoke")
	db.Exec(t, "DROP TABLE rowtide.revocations, rowtide.audit")
	s := start(t, cfg)
	ann := live(t, s, role, map[string]string{"sub": "ann"})
	if status, text := call(t, http.MethodPost, administer(t, s)+"/revocations", `{"subject":"ann"}`); status != http.StatusOK || !strings.Contains(text, `"kept": false`) {
		t.Fatalf("%d %s", status, text)
	}
	if code := closed(t, ann); code != 4401 {
		t.Errorf("closed with %d, want 4401", code)
	}
	cfg.AuditTable = true
	refused, err := rowtide.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "rowtide setup") {
		t.Errorf("an audit table that is not there: %v", err)
	}
}

func count(t *testing.T, db *pgtest.DB, sql string) (n int) {
	t.Helper()
	if err := db.Pool(t).QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
