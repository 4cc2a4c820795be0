package migrations

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A failure is one line for people, and what it was concluded from for programs.
type failure struct {
	line string
	err  error
}

func (f *failure) Error() string { return f.line }
func (f *failure) Unwrap() error { return f.err }

// ParseURL reads the connection string that a flag gives. Its errors do not repeat the string: it
// may hold a password.
func ParseURL(flag, s string) (*pgx.ConnConfig, error) {
	const form = "write postgres://login:password@host:5432/database"
	scheme, _, isURL := strings.Cut(s, "://")
	switch {
	case s == "":
		return nil, fmt.Errorf("%s is empty: %s", flag, form)
	case isURL && scheme != "postgres" && scheme != "postgresql":
		return nil, fmt.Errorf("%s begins with %s:// and not with postgres://: %s", flag, scheme, form)
	}
	cfg, err := pgx.ParseConfig(s)
	if detail := parseDetail(err); detail != "" {
		return nil, fmt.Errorf("%s cannot be read: correct a parameter of it: %s", flag, detail)
	}
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %s, with what is special in a password as %%XX", flag, form)
	}
	return cfg, nil
}

// parseDetail is what pgx says of the TLS parameters of a connection string, the one detail that
// tells nothing else of it; "" where it is of something else.
func parseDetail(err error) string {
	var inURL *url.Error
	var unread *pgconn.ParseConfigError
	if !errors.As(err, &unread) || errors.As(err, &inURL) {
		return ""
	}
	if inner := errors.Unwrap(unread); inner != nil && strings.Contains(inner.Error(), "ssl") {
		return oneLine(inner)
	}
	return ""
}

// connectTimeout bounds an attempt to connect where the connection string does not.
const connectTimeout = 10 * time.Second

// connect opens a connection whose search_path nobody else controls, to a server and not to a
// pooler: locks and settings of a session mean nothing there.
func connect(ctx context.Context, url, flag, application string) (*pgx.Conn, error) {
	cfg, err := ParseURL(flag, url)
	if err != nil {
		return nil, err
	}
	if err := checkPooled(flag, cfg); err != nil {
		return nil, err
	}
	const searchPath = "pg_catalog, pg_temp"
	cfg.RuntimeParams["search_path"] = searchPath
	cfg.RuntimeParams["application_name"] = application
	cfg.RuntimeParams["client_min_messages"] = "error"
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(flag, &cfg.Config, err)
	}
	var got string
	err = conn.QueryRow(ctx, `SELECT current_setting('search_path')`, pgx.QueryExecModeSimpleProtocol).Scan(&got)
	if err == nil && got != searchPath {
		err = &failure{where(&cfg.Config) + ": " + poolerFix(flag), nil}
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // it was never used
		return nil, err
	}
	return conn, nil
}

// Reach connects to the server that a flag's connection string names, and tells what is in the
// way.
func Reach(ctx context.Context, flag, url string) error {
	conn, err := connect(ctx, url, flag, "rowtide")
	if err != nil {
		return err
	}
	return conn.Close(context.WithoutCancel(ctx))
}

func where(cfg *pgconn.Config) string {
	address := cfg.Host
	if !strings.HasPrefix(cfg.Host, "/") {
		address = net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port))
	}
	return fmt.Sprintf("connect to %s as %s", address, cfg.User)
}

func poolerFix(flag string) string {
	return "this is a connection pooler and not PostgreSQL itself: put the server's own address into " + flag
}

// connectError says why there is no connection, and what to do.
func connectError(flag string, cfg *pgconn.Config, err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return &failure{where(cfg) + ": " + serverFix(flag, pe), err}
	}
	return &failure{where(cfg) + ": " + networkFix(flag, cfg, last(err)), err}
}

// serverFix is about a server that refuses the connection.
func serverFix(flag string, e *pgconn.PgError) string {
	switch {
	case e.Code == pgerrcode.InvalidPassword || e.Code == pgerrcode.InvalidAuthorizationSpecification:
		printed := ""
		if flag == "--database-url" {
			printed = " (rowtide setup prints it)"
		}
		return e.Message + ": check the login and its password in " + flag + printed + ", and pg_hba.conf"
	case e.Code == pgerrcode.InvalidCatalogName:
		return e.Message + ": check the database in " + flag
	case e.Code == pgerrcode.TooManyConnections && strings.Contains(e.Message, "max_wal_senders"):
		return "no WAL sender is left: raise max_wal_senders and restart the server, or end what uses them up (SELECT * FROM pg_stat_replication)"
	case e.Code == pgerrcode.TooManyConnections:
		return "no connection is left (" + e.Message + "): raise max_connections and restart the server, or end what uses them up (SELECT * FROM pg_stat_activity)"
	case e.Code == pgerrcode.CannotConnectNow:
		return e.Message + ": wait until the server is up"
	case e.Code == pgerrcode.ProtocolViolation, e.Code == pgerrcode.SyntaxError:
		return poolerFix(flag)
	}
	return e.Message + ": check " + flag
}

// networkFix is about a server that is not reached.
func networkFix(flag string, cfg *pgconn.Config, err error) string {
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("the name of host %s cannot be resolved: check it in %s", dns.Name, flag)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there: check that PostgreSQL runs, and the address in " + flag
	case errors.As(err, &certificate):
		return "the server's certificate is not good (" + oneLine(certificate.Err) + "): name its issuer with sslrootcert=FILE in " + flag
	case strings.HasSuffix(err.Error(), "server refused TLS connection"):
		return "the server has no TLS: switch ssl on there, or write sslmode=disable into " + flag + " where the network is safe"
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %s: check that PostgreSQL runs, that no firewall is between, and the address in %s", cfg.ConnectTimeout, flag)
	}
	return "PostgreSQL does not answer there as it should (" + oneLine(innermost(err)) + "): check the address in " + flag
}

// last is the last of several attempts: pgx makes one with TLS and then one without, and one for
// each address of a host.
func last(err error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if all, ok := e.(interface{ Unwrap() []error }); ok {
			if list := all.Unwrap(); len(list) > 0 {
				return list[len(list)-1]
			}
		}
	}
	return err
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
