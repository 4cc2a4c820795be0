package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Covers S32, S50.
func TestAnUnfitLoginIsRefusedWithTheCommandThatMakesAFitOne(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ sql, want string }{
		"superuser":       {`ALTER ROLE %[1]s SUPERUSER`, "it is a superuser"},
		"bypassrls":       {`ALTER ROLE %[1]s BYPASSRLS`, "it has BYPASSRLS"},
		"createrole":      {`ALTER ROLE %[1]s CREATEROLE`, "it has CREATEROLE"},
		"no replication":  {`ALTER ROLE %[1]s NOREPLICATION`, "it lacks REPLICATION"},
		"owner":           {`ALTER TABLE tasks OWNER TO %[1]s`, `it owns table "public"."tasks"`},
		"member of owner": {`GRANT %[3]s TO %[1]s; ALTER TABLE tasks OWNER TO %[3]s`, `the owner of table "public"."tasks"`},
		"inherits":        {`REVOKE %[2]s FROM %[1]s; ALTER ROLE %[1]s INHERIT; GRANT %[2]s TO %[1]s`, "it inherits the rights of %[2]s"},
		"not a member":    {`REVOKE %[2]s FROM %[1]s`, "it may not act as %[2]s"},
	} {
		db := pgtest.New(t, `CREATE TABLE tasks (id int PRIMARY KEY)`)
		role, other := db.Role(t, "web_user"), db.Role(t, "other")
		login := db.Login(t, "svc", role)
		cfg := migrations.LoginConfig{URL: db.URL(login), Roles: []string{role}, Tables: []migrations.Table{full("tasks")}}
		if err := migrations.CheckLogin(t.Context(), cfg); err != nil {
			t.Fatalf("a fit login: %v", err)
		}
		db.Exec(t, fmt.Sprintf(c.sql+"-- %[1]s%[2]s%[3]s", login, role, other))
		err := migrations.CheckLogin(t.Context(), cfg)
		var unfit *migrations.UnfitError
		if !errors.As(err, &unfit) || !strings.Contains(err.Error(), fmt.Sprintf(c.want+"%.0[1]s%.0[2]s", login, role)) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if !strings.Contains(err.Error(), "rowtide setup --admin-url URL --roles "+role) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Covers S32.
func TestARoleOfTheAllowListThatNoPolicyBindsIsRefused(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		`ALTER ROLE %s SUPERUSER`:           "role %s is a superuser",
		`ALTER ROLE %s BYPASSRLS`:           "role %s has BYPASSRLS",
		`ALTER ROLE %s REPLICATION`:         "role %s has REPLICATION",
		`ALTER ROLE %s RENAME TO %[1]s_was`: "role %s does not exist",
	} {
		db := pgtest.New(t)
		role := db.Role(t, "web_user")
		login := db.Login(t, "svc", role)
		db.Exec(t, fmt.Sprintf(sql, role))
		err := migrations.CheckLogin(t.Context(), migrations.LoginConfig{URL: db.URL(login), Roles: []string{role}})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf(want, role)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", fmt.Sprintf(sql, role), err)
		}
		if strings.Contains(sql, "RENAME") {
			db.Exec(t, fmt.Sprintf(`ALTER ROLE %s_was RENAME TO %[1]s`, role))
		}
	}
}

// A role of the allow-list may own tables: then it sees what an owner sees.
func TestARoleOfTheAllowListMayOwnATable(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE tasks (id int PRIMARY KEY)`)
	role := db.Role(t, "web_user")
	db.Exec(t, `ALTER TABLE tasks OWNER TO `+role)
	err := migrations.CheckLogin(t.Context(), migrations.LoginConfig{
		URL: db.URL(db.Login(t, "svc", role)), Roles: []string{role}, Tables: []migrations.Table{full("tasks")},
	})
	if err != nil {
		t.Error(err)
	}
}

// Covers C39.
func TestAPoolerInsteadOfTheServerIsNamed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	cfg := migrations.LoginConfig{URL: db.URL(db.Login(t, "svc", role)), Roles: []string{role}}
	direct := hostOf(t, cfg.URL)
	for _, parameter := range []string{"replication", "search_path"} {
		via := cfg
		via.URL = strings.Replace(cfg.URL, direct, pooler(t, db, parameter), 1)
		err := migrations.CheckLogin(t.Context(), via)
		if err == nil || !strings.Contains(err.Error(), "the server's own address") || strings.Contains(err.Error(), "\n") {
			t.Errorf("refusing %s: %v", parameter, err)
		}
	}
}

func hostOf(t *testing.T, url string) string {
	t.Helper()
	_, rest, ok := strings.Cut(url, "@")
	if !ok {
		t.Fatal(url)
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// pooler passes connections on but for those with one startup parameter, which it refuses in
// PgBouncer's words.
func pooler(t *testing.T, db *pgtest.DB, parameter string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	server := hostOf(t, db.Admin)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pool(t.Context(), c, server, parameter)
		}
	}()
	return l.Addr().String()
}

func pool(ctx context.Context, client net.Conn, server, parameter string) {
	defer client.Close()
	b := pgproto3.NewBackend(client, client)
	m, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	start, ok := m.(*pgproto3.StartupMessage)
	if !ok {
		return
	}
	if _, ok := start.Parameters[parameter]; ok {
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: " + parameter})
		b.Flush()
		return
	}
	s, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
	if err != nil {
		return
	}
	defer s.Close()
	raw, err := start.Encode(nil)
	if err != nil {
		return
	}
	if _, err := s.Write(raw); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, s}, {s, client}} {
		go func() {
			io.Copy(pair[0], pair[1]) //nolint:errcheck // an end is an end
			done <- struct{}{}
		}()
	}
	<-done
}
