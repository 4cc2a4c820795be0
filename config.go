package rowtide

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema/annotation"
)

// A Config says what to serve and to whom. Fields left at their zero value take the default
// that their comment names.
type Config struct {
	// DatabaseURL is the service login's: LOGIN REPLICATION NOINHERIT, member of Roles, owner
	// of nothing. `rowtide setup` makes one. Required.
	DatabaseURL string
	// AdminURL, of a superuser or the tables' owner, lets the service do setup's steps by
	// itself, at the start and when annotations change. Defaults to none.
	AdminURL string
	// Schemas are the served schemas; tables outside the first carry their schema in their
	// names. Defaults to public.
	Schemas []string
	// Roles is the allow-list of Postgres roles that a token may name. Required, but with Dev.
	Roles []string
	// AnonRole is the role of clients without a token. Defaults to none: they are refused.
	AnonRole string
	// JWTSecret verifies tokens (HS256, HS384, HS512), at least 32 bytes. Required, but with
	// Dev, when every client is anonymous, or beside JWTPublicKey and JWKSURL.
	JWTSecret string
	// JWTIssuer and JWTAudience must be matched by tokens where set. Default to none.
	JWTIssuer   string
	JWTAudience string
	// JWTPublicKey is a file of public keys or certificates, in PEM, that verify tokens (RS, PS,
	// ES in 256, 384, 512, EdDSA). Defaults to none.
	JWTPublicKey string
	// JWKSURL is where the issuer publishes its keys, by https; they are read anew as they
	// rotate. Defaults to none.
	JWKSURL string
	// JWKSPrivate lets the name in JWKSURL lead to a private address. Defaults to refusing it.
	JWKSPrivate bool
	// RoleClaim is the path of the claim that names the role, with dots. Defaults to role.
	RoleClaim string
	// ClaimSettings maps settings that policies read to claims: "app.tenant=tenant.id".
	// Defaults to none; request.jwt.claims is always set.
	ClaimSettings []string
	// NoSets asks Postgres about what policies ask of other tables, as of now. Defaults to keeping
	// that in the process, so that membership is judged as of each transaction, and changes of it
	// take effect: tables that policies ask are published too, with full replica identity. Where
	// they are not, Postgres is asked.
	NoSets bool
	// Slot is the replication slot. Defaults to rowtide.
	Slot string
	// Publication is the publication; tables that only insert are in Publication + "_insert".
	// Defaults to rowtide.
	Publication string
	// Annotations is a file of COMMENT ON statements; objects named there ignore their comments
	// in the database. It is read at the start. Defaults to none.
	Annotations string
	// Retain is how long changes are held for clients that resume. Defaults to 5 minutes.
	Retain time.Duration
	// RetainWAL bounds the WAL, in bytes, that the server keeps so that cursors hold over a
	// restart as well; where it is not enough for Retain they hold for less. Defaults to 256 MiB.
	RetainWAL int64
	// RetainBytes bounds the memory of what is held for clients that resume. Defaults to 48 MiB.
	RetainBytes int
	// SpillDir is the folder for transactions too large for memory. Their files have no name in
	// it, so nothing is left there. Defaults to TMPDIR, and without it to /var/tmp, which unlike
	// /tmp is on disk everywhere.
	SpillDir string
	// SpillBytes bounds the disk that a transaction takes, about twice its size. Over it the
	// subscribers of its tables resync. Defaults to 16 GiB.
	SpillBytes int64
	// CursorSecret encrypts cursors. Defaults to the installation's, in schema rowtide.
	CursorSecret string
	// AllowOrigins are the origins (scheme, host, port) whose pages may connect. Clients that
	// are no browsers send none and are always let in. Defaults to none.
	AllowOrigins []string
	// NoIntrospection refuses introspection queries. Defaults to answering them: a role's
	// schema holds nothing that the role may not read.
	NoIntrospection bool
	// ShadowPolicies asks Postgres about every row image that is judged in a faster way too.
	// Where they differ the image is hidden, counted in the metrics and audited. It costs what
	// asking always would. Defaults to false.
	ShadowPolicies bool
	// ExposePositions adds xid and commitLsn to ChangeTransaction. They tell how much others
	// write. Defaults to false.
	ExposePositions bool
	// MaxSnapshotRows ends a snapshot that is larger. Defaults to 100,000.
	MaxSnapshotRows int
	// QueueBytes bounds what waits to be sent on one connection; a client that falls further
	// behind is closed with 1013 and resumes by cursor. Defaults to 1 MiB.
	QueueBytes int
	// AllowHosts are the names, without port, under which clients may ask for the service, "*"
	// for any; addresses are always allowed. Defaults to localhost and the hosts of
	// AllowOrigins where Serve listens on this machine alone, where a page of any name could be
	// led by its name server (DNS rebinding), and otherwise to any.
	AllowHosts []string
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is believed, such as
	// 10.0.0.0/8. Defaults to none: a client's address is that of its connection.
	TrustedProxies []string
	// Limits are settings such as "connections.address=50" over authz.DefaultLimits:
	// connections, pending, subscriptions at once; connects, operations, messages, received and replayed
	// (bytes), evaluation (milliseconds) a second; each per connection, address, principal, role
	// or in all, evaluation per principal or role alone. 0 is no limit.
	Limits []string
	// TLSCert and TLSKey are files of a certificate chain and its key, in PEM, which Serve
	// reads anew when they change. Default to none: no TLS.
	TLSCert, TLSKey string
	// AuditLog is a file to which the audit log is appended, a line of JSON each; "-" is
	// standard output. Defaults to none: denials of rows go to Logger.
	AuditLog string
	// AuditTable keeps the audit log in the table rowtide.audit too, which setup makes: the login
	// may insert there and nothing else. Defaults to false.
	AuditTable bool
	// AdminToken is what callers of AdminHandler must bring, at least 32 bytes. Defaults to
	// none: then ServeAdmin listens on this machine alone.
	AdminToken string
	// Dev takes one URL of a superuser or owner for everything, on loopback only, does setup
	// by itself and makes a JWTSecret where none is given. Never for data that matters.
	Dev bool
	// Logger gets what operators should read. Defaults to slog.Default().
	Logger *slog.Logger
}

// minSecret is the shortest JWT secret taken: RFC 7518, 3.2, wants as many bits as the hash has.
const minSecret = 32

func (c Config) withDefaults() Config {
	if len(c.Schemas) == 0 {
		c.Schemas = []string{"public"}
	}
	if c.RoleClaim == "" {
		c.RoleClaim = "role"
	}
	if c.Slot == "" {
		c.Slot = "rowtide"
	}
	if c.Publication == "" {
		c.Publication = "rowtide"
	}
	if c.Retain == 0 {
		c.Retain = 5 * time.Minute
	}
	if c.RetainWAL == 0 {
		c.RetainWAL = 256 << 20
	}
	if c.RetainBytes == 0 {
		c.RetainBytes = 48 << 20
	}
	if c.SpillDir == "" {
		c.SpillDir = spillDir()
	}
	if c.MaxSnapshotRows == 0 {
		c.MaxSnapshotRows = 100_000
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// spillDir is the default of SpillDir.
func spillDir() string {
	if info, err := os.Stat("/var/tmp"); os.Getenv("TMPDIR") == "" && err == nil && info.IsDir() {
		return "/var/tmp"
	}
	return os.TempDir()
}

// check finds what no server has to be asked for.
func (c Config) check() error {
	if c.DatabaseURL == "" {
		return errors.New("no database: set --database-url (or ROWTIDE_DATABASE_URL) to postgres://login:password@host:5432/database")
	}
	for _, check := range []func() error{c.checkURLs, c.checkClients, c.checkNames, c.checkLimits, c.checkGuard} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkURLs() error {
	parsed, err := migrations.ParseURL("--database-url", c.DatabaseURL)
	if err != nil {
		return err
	}
	if c.Dev {
		return checkLoopback(&parsed.Config)
	}
	if err := c.checkTransport("--database-url", parsed); err != nil || c.AdminURL == "" {
		return err
	}
	if parsed, err = migrations.ParseURL("--admin-url", c.AdminURL); err != nil {
		return err
	}
	return c.checkTransport("--admin-url", parsed)
}

func (c Config) checkTransport(flag string, parsed *pgx.ConnConfig) error {
	warning, err := migrations.CheckTransport(flag, &parsed.Config)
	if warning != "" {
		c.Logger.Warn("the connection to Postgres is not protected", "why", warning)
	}
	return err
}

// checkLoopback looks at what will be connected to: parameters of the URL and PGHOST count.
func checkLoopback(c *pgconn.Config) error {
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, host := range hosts {
		if !migrations.Local(host) {
			return fmt.Errorf("--dev works with a database on this machine only, not on %s: run `rowtide setup` there instead", host)
		}
	}
	return nil
}

// checkClients is about who may connect.
func (c Config) checkClients() error {
	for _, o := range c.AllowOrigins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || o != u.Scheme+"://"+u.Host {
			return fmt.Errorf("--allow-origin %q is no origin: write scheme, host and port alone, such as https://app.example.com", o)
		}
	}
	if c.Dev && len(c.roles()) == 0 {
		c.Roles = []string{"found later"}
	}
	if len(c.roles()) == 0 {
		return errors.New("no roles: set --roles to the Postgres roles that tokens may name, such as --roles web_user")
	}
	if c.JWTSecret == "" && c.JWTPublicKey == "" && c.JWKSURL == "" && c.AnonRole == "" && !c.Dev {
		return errors.New("no way to know clients: set --jwt-secret, --jwt-public-key or --jwks-url to verify their tokens, or --anon-role to serve them without")
	}
	_, err := c.verifier()
	return err
}

func (c Config) checkNames() error {
	if _, err := annotation.ReadFile(c.Annotations); err != nil {
		return err
	}
	if info, err := os.Stat(c.SpillDir); err != nil || !info.IsDir() {
		return fmt.Errorf("--spill-dir %q is no folder: make it, or name one on a disk with room for large transactions", c.SpillDir)
	}
	if c.Publication == "" || len(migrations.InsertPublication(c.Publication)) > 63 { // NAMEDATALEN - 1
		return fmt.Errorf("--publication %q: use 1 to 56 bytes", c.Publication)
	}
	return checkSlot(c.Slot)
}

// checkSlot holds a slot's name to ReplicationSlotValidateName, with room for what the names of
// window slots have behind it.
func checkSlot(name string) error {
	if !regexp.MustCompile(`^[a-z0-9_]{1,53}$`).MatchString(name) {
		return fmt.Errorf("--slot %q is no name for a replication slot: use a-z, 0-9 and _, up to 53 of them", name)
	}
	return nil
}

func (c Config) checkLimits() error {
	switch {
	case c.Retain < 0:
		return fmt.Errorf("--retain %s is negative: write how long changes are held, such as 5m", c.Retain)
	case c.MaxSnapshotRows < 0:
		return fmt.Errorf("--max-snapshot-rows %d is negative: write how many rows a snapshot may have", c.MaxSnapshotRows)
	case c.RetainWAL < 0:
		return fmt.Errorf("--retain-wal %d is negative: write how much WAL the server may keep for clients that resume, such as 256MB", c.RetainWAL)
	case c.RetainBytes < 0 || c.QueueBytes < 0 || c.SpillBytes < 0:
		return errors.New("RetainBytes, QueueBytes and SpillBytes are sizes: they cannot be negative")
	case c.CursorSecret != "" && len(c.CursorSecret) < minSecret:
		return fmt.Errorf("--cursor-secret has %d bytes: give it at least %d, such as the output of: openssl rand -hex 32", len(c.CursorSecret), minSecret)
	}
	return nil
}

// loopbackAddr tells whether a listen address takes connections from this machine alone.
func loopbackAddr(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// roles is the allow-list with the anonymous role in it.
func (c Config) roles() []string {
	out := append([]string(nil), c.Roles...)
	if c.AnonRole == "" {
		return out
	}
	for _, r := range out {
		if r == c.AnonRole {
			return out
		}
	}
	return append(out, c.AnonRole)
}
