package rowtide

import "testing"

func TestAURLOfSeveralServersMeansThePrimary(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://a:1/db":                                    "postgres://a:1/db",
		"postgres://a:1/db?sslmode=prefer":                     "postgres://a:1/db?sslmode=prefer",
		"postgres://a:1,b:2/db":                                "postgres://a:1,b:2/db?target_session_attrs=primary",
		"postgres://a:1,b:2/db?sslmode=disable":                "postgres://a:1,b:2/db?sslmode=disable&target_session_attrs=primary",
		"postgres://a:1,b:2/db?target_session_attrs=any":       "postgres://a:1,b:2/db?target_session_attrs=any",
		"postgres://a:1,b:2/db?target_session_attrs=read-only": "postgres://a:1,b:2/db?target_session_attrs=read-only",
		"host=a,b dbname=db":                                   "host=a,b dbname=db target_session_attrs=primary",
		"no URL at all://":                                     "no URL at all://",
	} {
		if got := onPrimary(dsn); got != want {
			t.Errorf("%s becomes %s, want %s", dsn, got, want)
		}
	}
}
