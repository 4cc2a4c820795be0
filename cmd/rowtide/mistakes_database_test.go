package main

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// serve is the command line of a service that is in order.
const serve = "serve --database-url $service --roles $role"

func theLogin() section {
	with := func(attributes string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			w.otherLogin(t, "reporting", attributes)
		}
	}
	const other = "serve --database-url $other --roles $role"
	return section{title: "The login of the service", world: ready, mistakes: []mistake{
		{name: "A superuser", args: "serve --database-url $admin --roles $role"},
		{name: "One that no policy binds", before: with("BYPASSRLS"), args: other},
		{name: "The owner of the tables", before: func(t *testing.T, w *world) {
			t.Helper()
			w.otherLogin(t, "app_owner", "CONNECTION LIMIT -1")
			w.db.Exec(t, "ALTER TABLE tasks OWNER TO "+w.words["name"]+"; GRANT USAGE ON SCHEMA rowtide TO "+w.words["name"]+
				"; GRANT SELECT ON rowtide.installation TO "+w.words["name"])
		}, args: other},
		{name: "One that may not stream", before: with("NOREPLICATION"), args: other},
		{name: "One that inherits the rights of the roles", before: with("INHERIT"), args: other},
		{name: "One that makes roles", before: with("CREATEROLE"), args: other},
		{name: "One that may not act as a role", before: func(t *testing.T, w *world) {
			t.Helper()
			w.otherLogin(t, "reporting", "CONNECTION LIMIT -1")
			w.db.Exec(t, "REVOKE "+w.words["role"]+" FROM "+w.words["name"])
		}, args: other},
		{name: "One that setup did not make", before: with("CONNECTION LIMIT -1"), args: other},
	}}
}

func theRoles() section {
	begin := func(t *testing.T) *world {
		t.Helper()
		w := ready(t)
		boss := w.db.Role(t, "boss")
		w.db.Exec(t, "ALTER ROLE "+boss+" SUPERUSER; GRANT "+boss+" TO "+w.login())
		w.word("boss", boss, "boss")
		return w
	}
	return section{title: "The allow-list of roles", world: begin, mistakes: []mistake{
		{name: "A role that does not exist", args: "serve --database-url $service --roles $role,web_usr"},
		{name: "An anonymous role that does not exist", args: serve + " --anon-role web_anom"},
		{name: "A role that is a superuser", args: "serve --database-url $service --roles $role,$boss"},
		{name: "A role that does not exist, at setup", args: "setup --admin-url $admin --roles web_usr"},
		{name: "A role that is a superuser, at setup", args: "setup --admin-url $admin --roles $role,$boss"},
		{name: "The login among the roles", args: "setup --admin-url $admin --roles $login"},
		{name: "A role that does not exist, for schema", args: "schema --database-url $service --role web_usr"},
	}}
}

func theDatabase() section {
	begin := func(t *testing.T) *world {
		t.Helper()
		w := withDatabase(t)
		w.otherLogin(t, "service", "CONNECTION LIMIT -1")
		return w
	}
	return section{title: "The database", world: begin, mistakes: []mistake{
		{name: "It is not set up", args: "serve --database-url $other --roles $role"},
		{name: "It is not set up, for sync", args: "sync --admin-url $admin"},
		{name: "--dev, and no role may read anything", before: func(t *testing.T, w *world) {
			t.Helper()
			w.db.Exec(t, "REVOKE SELECT ON tasks FROM "+w.words["role"])
		}, args: "serve --dev --database-url $admin"},
		{name: "A schema of the name rowtide that is somebody else's", before: func(t *testing.T, w *world) {
			t.Helper()
			w.db.Exec(t, "CREATE SCHEMA rowtide")
		}, args: "setup --admin-url $admin --roles $role"},
	}}
}

func theSlot() section {
	slot := func(sql string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			w.db.Exec(t, strings.ReplaceAll(sql, "$slot", w.slot()))
		}
	}
	drop := func(t *testing.T, w *world) {
		t.Helper()
		w.db.Exec(t, "SELECT pg_drop_replication_slot($1)", w.slot())
	}
	elsewhere := func(t *testing.T, w *world) {
		t.Helper()
		other := pgtest.New(t)
		other.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", w.slot())
		w.show(other.Name, "other")
	}
	return section{title: "The slot and the publication", world: ready, mistakes: []mistake{
		{name: "A slot of another plugin", before: slot("SELECT pg_create_logical_replication_slot('$slot', 'test_decoding')"), args: serve, after: drop},
		{name: "A slot of a standby", before: slot("SELECT pg_create_physical_replication_slot('$slot')"), args: serve, after: drop},
		{name: "A slot of another database", before: elsewhere, args: serve},
		{name: "No publication", before: func(t *testing.T, w *world) {
			t.Helper()
			w.db.Exec(t, "DROP PUBLICATION rowtide")
		}, args: serve},
		{name: "Another publication", args: serve + " --publication other"},
	}}
}

// theAdministrator has a database whose owner may not do all that setup does.
func theAdministrator() section {
	begin := func(t *testing.T) *world {
		t.Helper()
		w := withDatabase(t)
		w.otherLogin(t, "clerk", "CONNECTION LIMIT -1")
		w.word("clerk", w.words["name"], "clerk")
		w.words["host"], w.words["db"] = address(w.db.Admin), w.db.Name
		return w
	}
	grant := func(t *testing.T, w *world) {
		t.Helper()
		w.db.Exec(t, "GRANT CREATE ON DATABASE "+w.db.Name+" TO "+w.words["clerk"])
	}
	return section{title: "The rights of the administrator", world: begin, mistakes: []mistake{
		{name: "setup by somebody who may make nothing", args: "setup --admin-url $other --roles $role"},
		{name: "migrate by somebody who may make nothing", args: "migrate up --admin-url $other"},
		{name: "--dev with an ordinary login", args: "serve --dev --database-url $other --roles $role"},
		{name: "setup by somebody who may not make logins", before: grant, args: "setup --admin-url $other --roles $role"},
		{name: "A dry run by the same", args: "setup --dry-run --admin-url $other --roles $role"},
		{name: "setup by somebody who does not own the tables, with a login that was made before", before: func(t *testing.T, w *world) {
			t.Helper()
			w.db.Exec(t, "CREATE ROLE "+w.login()+" LOGIN REPLICATION NOINHERIT; GRANT "+w.words["role"]+" TO "+w.login()+
				"; GRANT "+w.words["role"]+" TO "+w.words["clerk"]+" WITH ADMIN OPTION")
		}, args: "setup --admin-url postgres://$clerk@$host/$db --roles $role", partly: true, after: func(t *testing.T, w *world) {
			t.Helper()
			dropLogin(t, w.db)
		}},
		{name: "A login that is somebody's", before: func(t *testing.T, w *world) {
			t.Helper()
			w.otherLogin(t, "somebody", "SUPERUSER")
		}, args: "setup --admin-url $admin --roles $role --login $name"},
	}}
}
