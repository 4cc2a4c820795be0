package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func nowhere(*testing.T) *world { return newWorld() }

func theCommandLine() section {
	return section{title: "The command line", world: nowhere, mistakes: []mistake{
		{name: "A command that does not exist", args: "server", exit: 2},
		{name: "A command that is only the beginning of one", args: "migrate", exit: 2},
		{name: "A flag that is misspelt", args: "serve --databse-url postgres://rowtide@127.0.0.1/app", exit: 2},
		{name: "A flag without its value", args: "serve --database-url", exit: 2},
		{name: "Flags that are missing", args: "setup", exit: 2},
		{name: "A value that is none of the possible ones", args: "serve --log-format xml", exit: 2},
		{name: "A duration without a unit", args: "serve --retain 5", exit: 2},
		{name: "A number that is none", args: "serve --max-snapshot-rows many", exit: 2},
		{name: "A size without a unit", args: "serve --spill-quota 16", exit: 2},
		{name: "An argument too many", args: "serve postgres://rowtide@127.0.0.1/app", exit: 2},
		{name: "No subscription to follow", args: "subscribe", exit: 2},
		{name: "An environment variable that cannot be read", args: "serve", env: "ROWTIDE_RETAIN=soon", exit: 2},
	}}
}

// theFile has mistakes in a file of settings.
func theFile() section {
	config := func(text string) func(t *testing.T, w *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			path := filepath.Join(t.TempDir(), "rowtide.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			w.word("file", path, "rowtide.yaml")
		}
	}
	return section{title: "The file of settings", world: nowhere, mistakes: []mistake{
		{name: "A file that is not there", before: func(_ *testing.T, w *world) { w.words["file"] = "/nowhere/rowtide.yaml" }, args: "serve --config $file", exit: 2},
		{name: "A setting that is misspelt", before: config("roles: [web_user]\ndatabse_url: postgres://rowtide:secretword@127.0.0.1/app\n"), args: "serve --config $file", exit: 2},
		{name: "A setting that there is not", before: config("cache: redis\n"), args: "serve --config $file", exit: 2},
		{name: "A setting that stands there twice", before: config("retain: 5m\nlisten: 127.0.0.1:0\nretain: 6m\n"), args: "serve --config $file", exit: 2},
		{name: "A setting without a value", before: config("retain:\n"), args: "serve --config $file", exit: 2},
		{name: "A value that is none of the possible ones, in the file", before: config("log-format: xml\n"), args: "serve --config $file", exit: 2},
		{name: "A duration without a unit, in the file", before: config("# how long\nretain: 5\n"), args: "serve --config $file", exit: 2},
		{name: "A list where there is one value", before: config("slot: [a, b]\n"), args: "serve --config $file", exit: 2},
		{name: "Settings below settings", before: config("roles:\n  anon: web_user\n"), args: "serve --config $file", exit: 2},
		{name: "A file that is no YAML", before: config("retain: 5m\n\tlisten: {\n"), args: "serve --config $file", exit: 2},
		{name: "A file that is something else", before: config("just words\n"), args: "serve --config $file", exit: 2},
		{name: "A secret in a file that is not there", args: "serve", env: "ROWTIDE_CURSOR_SECRET_FILE=/nowhere/secret", exit: 2},
		{name: "A secret in a file, and one beside it", args: "serve", env: "ROWTIDE_JWT_SECRET_FILE=/nowhere/secret", exit: 2},
		{name: "Completion for another shell", args: "completion tcsh", exit: 2},
	}}
}

func theConfiguration() section {
	const url = "--database-url postgres://rowtide:secretword@127.0.0.1:1/app "
	begin := func(*testing.T) *world {
		w := newWorld()
		w.words["spaced"] = "postgres://rowtide:secretword %@127.0.0.1/app"
		return w
	}
	return section{title: "The configuration", world: begin, mistakes: []mistake{
		{name: "No database", args: "serve"},
		{name: "A folder for large transactions that is not there", args: "serve --database-url postgres://rowtide@127.0.0.1/app --anon-role web_anon --spill-dir /nowhere"},
		{name: "A URL of something else", args: "serve --database-url mysql://rowtide:secretword@127.0.0.1/app"},
		{name: "A URL with a port that is none", args: "serve --database-url postgres://rowtide:secretword@127.0.0.1:54x2/app"},
		{name: "A URL with a space in the password", args: "serve --database-url $spaced"},
		{name: "A URL without a host", args: "serve --roles web_user --database-url postgres:secretword"},
		{name: "A wrong admin URL", args: "serve --roles web_user --admin-url postgres//127.0.0.1/app " + url},
		{name: "A wrong parameter in the URL", args: "serve --roles web_user --database-url postgres://rowtide:secretword@127.0.0.1/app?sslmode=maybe"},
		{name: "setup with a wrong URL", args: "setup --roles web_user --admin-url postgres://postgres:secretword@127.0.0.1:54x2/app"},
		{name: "migrate with a wrong URL", args: "migrate up --admin-url 127.0.0.1:5432"},
		{name: "schema with a wrong URL", args: "schema --role web_user --database-url 127.0.0.1:5432"},
		{name: "No roles", args: "serve " + url},
		{name: "No way to know clients", args: "serve --roles web_user --jwt-secret= " + url},
		{name: "A secret that can be guessed", args: "serve --roles web_user --jwt-secret opensesame " + url},
		{name: "A claim setting without a claim", args: "serve --roles web_user --claim-setting app.tenant " + url},
		{name: "A claim setting that Postgres would not take", args: "serve --roles web_user --claim-setting tenant=tenant.id " + url},
		{name: "A role claim that is no path", args: "serve --roles web_user --role-claim a..b " + url},
		{name: "A slot name that Postgres would not take", args: "serve --roles web_user --slot My-Slot " + url},
		{name: "A slot name that Postgres would not take, at setup", args: "setup --roles web_user --slot My-Slot --admin-url postgres://postgres@127.0.0.1:1/app"},
		{name: "A time that lies in the past", args: "serve --roles web_user --retain=-5m " + url},
		{name: "--dev with a database elsewhere", args: "serve --dev --database-url postgres://postgres:secretword@db.example.com/app"},
		{name: "--dev with a database elsewhere, behind one that is here", args: "serve --dev --database-url postgres://postgres@localhost,db.example.com/app"},
		{name: "--dev with a database elsewhere, by a parameter", args: "serve --dev --database-url postgres://postgres@localhost/app?host=db.example.com"},
		{name: "--dev with a database elsewhere, by the environment", args: "serve --dev --database-url postgres:///app", env: "PGHOST=db.example.com"},
		{name: "A port that is in use", before: takePort, args: "serve --roles web_user --listen $taken " + url},
		{name: "A port that is in use, in the demo", before: takePort, args: "demo --listen $taken"},
		{name: "An address without a port", args: "serve --roles web_user --listen localhost " + url},
		{name: "An origin that is none", args: "serve --roles web_user --allow-origin app.example.com/ " + url},
		{name: "A limit of something else", args: "serve --roles web_user --limit sockets.address=5 " + url},
		{name: "A limit of evaluation for whom it is not counted", args: "serve --roles web_user --limit evaluation.address=5 " + url},
		{name: "A limit that is no number", args: "serve --roles web_user --limit connections.address=many " + url},
		{name: "A proxy that is no network", args: "serve --roles web_user --trusted-proxies proxy.example.com " + url},
		{name: "A host with a scheme", args: "serve --roles web_user --allow-host https://api.example.com " + url},
		{name: "A certificate without its key", args: "serve --roles web_user --tls-cert cert.pem " + url},
		{name: "A certificate that is not there", args: "serve --roles web_user --tls-cert /nowhere/cert.pem --tls-key /nowhere/key.pem " + url},
		{name: "A public key that is not there", args: "serve --roles web_user --jwt-public-key /nowhere/key.pem " + url},
		{name: "Keys from afar without TLS", args: "serve --roles web_user --jwks-url http://issuer.example.com/keys " + url},
		{name: "An audit log that cannot be written", args: "serve --roles web_user --audit-log /nowhere/audit.log " + url},
		{name: "An admin token that can be guessed", args: "serve --roles web_user --admin-token opensesame " + url},
		{name: "An admin port that is in use", before: takePort, args: "serve --roles web_user --admin-listen $taken " + url},
		{name: "Admins from everywhere without a token", args: "serve --roles web_user --listen 127.0.0.1:0 --admin-listen 0.0.0.0:0 " + url},
		{name: "A token signed with a short secret", args: "token --role web_user --jwt-secret opensesame"},
		{name: "A token with claims that are no JSON", args: "token --role web_user --claims sub:ana"},
		{name: "A demo without Postgres", args: "demo --listen 127.0.0.1:0", env: "ROWTIDE_TEST_PG_BINDIR=/nowhere", partly: true},
	}}
}

// takePort takes a port until the test ends.
func takePort(t *testing.T, w *world) {
	t.Helper()
	w.word("taken", listen(t, ""), "127.0.0.1:8080")
}

// listen takes connections until the test ends, says one thing to each, and gives the address.
func listen(t *testing.T, hello string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(hello))
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return l.Addr().String()
}

// theServer has a database on a server of its own, which wants passwords.
func theServer() section {
	begin := func(t *testing.T) *world {
		t.Helper()
		w := withDatabaseOn(t, pgtest.On(t, pgtest.Cluster(t, testcontainers.Config{Password: "for tests"})))
		w.show("for%20tests@", "…@")
		w.show(w.db.Name+"_not", "not_there")
		w.words["gone"] = freePort(t)
		w.show(w.words["gone"], "127.0.0.1:5432")
		w.words["host"] = address(w.db.Admin)
		w.word("silent", listen(t, ""), "127.0.0.1:5432")
		w.word("ssh", listen(t, "SSH-2.0-OpenSSH_9.2p1\r\n"), "127.0.0.1:22")
		w.words["db"] = w.db.Name
		return w
	}
	return section{title: "The server", world: begin, mistakes: []mistake{
		{name: "Nothing runs there", args: "serve --roles $role --database-url postgres://rowtide:secretword@$gone/app"},
		{name: "Nothing runs there, at setup", args: "setup --roles $role --admin-url postgres://postgres@$gone/app"},
		{name: "Nothing runs there, for migrate", args: "migrate status --admin-url postgres://postgres@$gone/app"},
		{name: "Nothing runs there, for schema", args: "schema --role $role --database-url postgres://rowtide@$gone/app"},
		{name: "Nothing runs there, with --dev", args: "serve --dev --database-url postgres://postgres@$gone/app"},
		{name: "Nothing runs there under either address", args: "serve --roles $role --database-url postgres://rowtide:secretword@localhost:1/app"},
		{name: "A host that does not exist", args: "serve --roles $role --database-url postgres://rowtide@db.invalid/app?sslmode=verify-full"},
		{name: "A server elsewhere, and perhaps no TLS", args: "serve --roles $role --database-url postgres://rowtide@db.invalid/app"},
		{name: "Something else runs there", args: "serve --roles $role --database-url postgres://rowtide@$ssh/app?sslmode=disable"},
		{name: "Nobody answers there", args: "serve --roles $role --database-url postgres://rowtide@$silent/app?connect_timeout=1"},
		{name: "A server without TLS", args: "serve --roles $role --database-url postgres://rowtide@$host/$db?sslmode=require"},
		{name: "A wrong password", args: "serve --roles $role --database-url postgres://postgres:secretword@$host/$db"},
		{name: "A wrong password, at setup", args: "setup --roles $role --admin-url postgres://postgres:secretword@$host/$db"},
		{name: "A login that does not exist", args: "serve --roles $role --database-url postgres://nobody:secretword@$host/$db"},
		{name: "No password", args: "serve --roles $role --database-url postgres://postgres@$host/$db"},
		{name: "A wrong database", args: "serve --roles $role --database-url postgres://postgres:for%20tests@$host/${db}_not"},
		{name: "A wrong database, at setup", args: "setup --roles $role --admin-url postgres://postgres:for%20tests@$host/${db}_not"},
		{name: "A wrong database, for schema", args: "schema --role $role --database-url postgres://postgres:for%20tests@$host/${db}_not"},
	}}
}

// freePort is an address at which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
