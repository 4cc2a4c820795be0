package migrations

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// CheckTransport looks at how a connection string protects what goes over the network: passwords,
// and every row that is served. It refuses a server elsewhere for which the string leaves it to
// whoever is in between (sslmode prefer, which is the default, and allow), and warns, where it
// says to do without, or with a server that anybody could be.
func CheckTransport(flag string, cfg *pgconn.Config) (warning string, err error) {
	plain, encrypted, anybody := false, false, false
	look := func(host string, plainText, unverified bool) {
		if Local(host) {
			return
		}
		plain, encrypted, anybody = plain || plainText, encrypted || !plainText, anybody || unverified
	}
	look(cfg.Host, cfg.TLSConfig == nil, unverified(cfg))
	for _, f := range cfg.Fallbacks {
		look(f.Host, f.TLSConfig == nil, unverified(&pgconn.Config{TLSConfig: f.TLSConfig}))
	}
	switch {
	case plain && encrypted:
		return "", fmt.Errorf("%s does without TLS where somebody in between says that %s has none: add sslmode=verify-full to it, or sslmode=disable where the network is yours alone", flag, cfg.Host)
	case plain:
		return fmt.Sprintf("%s says sslmode=disable: passwords and rows cross the network to %s in plain text", flag, cfg.Host), nil
	case anybody:
		return fmt.Sprintf("%s does not check who answers as %s: set sslmode=verify-full, with sslrootcert where its authority is not a public one", flag, cfg.Host), nil
	}
	return "", nil
}

// unverified tells that any certificate will do (sslmode require).
func unverified(c *pgconn.Config) bool {
	return c.TLSConfig != nil && c.TLSConfig.InsecureSkipVerify && c.TLSConfig.VerifyPeerCertificate == nil && c.TLSConfig.VerifyConnection == nil
}

// Local tells whether a host is this machine: nothing crosses a network to it.
func Local(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || err == nil && a.IsLoopback()
}
