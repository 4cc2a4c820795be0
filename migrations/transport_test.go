package migrations_test

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide/migrations"
)

// Covers S65.
func TestAServerElsewhereIsReachedAsTheOperatorSays(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://u:p@db.example.com/app":                            "refused",
		"postgres://u:p@db.example.com/app?sslmode=prefer":             "refused",
		"postgres://u:p@db.example.com/app?sslmode=allow":              "refused",
		"postgres://u:p@localhost,db.example.com/app":                  "refused",
		"postgres://u:p@localhost/app?host=10.0.0.1":                   "refused",
		"postgres://u:p@db.example.com/app?sslmode=disable":            "plain text",
		"postgres://u:p@db.example.com/app?sslmode=require":            "who answers",
		"postgres://u:p@db.example.com/app?sslmode=verify-full":        "",
		"postgres://u:p@localhost/app":                                 "",
		"postgres://u:p@127.0.0.2/app":                                 "",
		"postgres://u:p@[::1]/app":                                     "",
		"postgres:///app?host=/var/run/postgresql":                     "",
		"postgres://u:p@[::1],[2001:db8::1]/app?sslmode=verify-full":   "",
		"postgres://u:p@localhost,db.example.com/app?sslmode=disable":  "plain text",
		"host=db.example.com user=u password=p dbname=app":             "refused",
		"postgres://u:p@localhost.example.com/app?sslmode=verify-full": "",
	} {
		cfg, err := migrations.ParseURL("--database-url", url)
		if err != nil {
			t.Fatal(err)
		}
		warning, err := migrations.CheckTransport("--database-url", &cfg.Config)
		got := warning
		if err != nil {
			got = "refused"
			if strings.Contains(err.Error(), ":p@") {
				t.Errorf("%s: the password is in %v", url, err)
			}
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}
