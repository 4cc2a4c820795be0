package rowtide

import (
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// onPrimary has a URL of several servers mean whichever of them is the primary, so that after a
// promotion the service goes on there. It leaves alone what says something else, and what cannot
// be read.
func onPrimary(dsn string) string {
	c, err := pgconn.ParseConfig(dsn)
	if err != nil || c.ValidateConnect != nil {
		return dsn
	}
	others := false
	for _, f := range c.Fallbacks { // there is also one for each way of TLS
		others = others || f.Host != c.Host || f.Port != c.Port
	}
	if !others {
		return dsn
	}
	const setting = "target_session_attrs=primary"
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return dsn + " " + setting
	}
	at := strings.IndexByte(dsn, '?')
	if at < 0 {
		return dsn + "?" + setting
	}
	if q, err := url.ParseQuery(dsn[at+1:]); err != nil || q.Has("target_session_attrs") {
		return dsn // any, which is what pgx does by itself
	}
	return dsn + "&" + setting
}
