package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide"
)

type serveCmd struct {
	DatabaseURL     string        `help:"URL of the service login, as rowtide setup prints it." placeholder:"URL"`
	AdminURL        string        `help:"URL of a superuser or owner: serve then does setup's steps by itself." placeholder:"URL"`
	Listen          string        `help:"Address for clients." default:"127.0.0.1:8080"`
	AdminListen     string        `help:"Address for operators: /metrics and the admin API; \"off\" for none." default:"127.0.0.1:8081"`
	AdminToken      string        `help:"Token that operators must bring, at least 32 bytes; needed where --admin-listen is not on this machine alone."`
	Schemas         []string      `help:"Served schemas; tables behind the first carry their schema's name." default:"public"`
	Roles           []string      `help:"Postgres roles that tokens may name."`
	AnonRole        string        `help:"Role of clients without a token; without it they are refused."`
	JWTSecret       string        `name:"jwt-secret" help:"Secret that signs tokens, at least 32 bytes."`
	JWTPublicKey    string        `name:"jwt-public-key" help:"File of public keys or certificates, in PEM, that verify tokens." placeholder:"FILE.pem"`
	JWKSURL         string        `name:"jwks-url" help:"Where the issuer publishes the keys that verify tokens, by https." placeholder:"URL"`
	JWKSPrivate     bool          `name:"jwks-private" help:"Let --jwks-url lead to a private address."`
	JWTIssuer       string        `name:"jwt-issuer" help:"Issuer that tokens must name."`
	JWTAudience     string        `name:"jwt-audience" help:"Audience that tokens must name."`
	RoleClaim       string        `help:"Claim that names the role." default:"role"`
	ClaimSetting    []string      `help:"Setting that policies read, and the claim it takes: app.tenant=tenant.id. Repeatable." placeholder:"GUC=CLAIM"`
	Slot            string        `help:"Replication slot." default:"rowtide"`
	Publication     string        `help:"Publication." default:"rowtide"`
	Annotations     string        `help:"File of COMMENT ON statements that stand for the comments in the database." placeholder:"FILE.sql"`
	Retain          time.Duration `help:"How long changes are held for clients that resume." default:"5m"`
	RetainWAL       size          `name:"retain-wal" help:"WAL that the server keeps so that cursors hold over a restart." default:"256MB" placeholder:"SIZE"`
	RetainMemory    size          `help:"Memory for changes that are held for clients that resume." default:"48MB" placeholder:"SIZE"`
	SpillDir        string        `help:"Folder on disk for transactions too large for memory; by default that of temporary files." placeholder:"DIR"`
	SpillQuota      size          `help:"Most disk that one of them may take, twice its size; over it subscribers start over." default:"16GB" placeholder:"SIZE"`
	CursorSecret    string        `help:"Secret of cursors; by default the installation's."`
	AllowOrigin     []string      `help:"Origin whose pages may connect, such as https://app.example.com. Repeatable."`
	AllowHost       []string      `help:"Name under which clients may ask for the service, * for any. Repeatable."`
	TrustedProxies  []string      `help:"Networks of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8." placeholder:"NETWORK,..."`
	Limit           []string      `help:"Limit of connections, pending, subscriptions, or a second of connects, operations, messages, received, replayed, evaluation; per connection, address, principal, role or in all: connections.address=50; 0 for none. Repeatable." placeholder:"WHAT.WHOSE=N"`
	TLSCert         string        `name:"tls-cert" help:"Certificate chain in PEM, read anew when it changes." placeholder:"FILE.pem"`
	TLSKey          string        `name:"tls-key" help:"Key of the certificate, in PEM." placeholder:"FILE.pem"`
	AuditLog        string        `help:"File to which the audit log is appended, a line of JSON each; - for standard output." placeholder:"FILE"`
	AuditTable      bool          `help:"Keep the audit log in the table rowtide.audit too."`
	Introspection   string        `help:"Whether introspection queries are answered." enum:"on,off" default:"on"`
	ExposePositions bool          `help:"Add xid and commitLsn to ChangeTransaction."`
	ShadowPolicies  bool          `help:"Ask Postgres about policies that are evaluated in process too; where they differ, hide and count."`
	MaxSnapshotRows int           `help:"Most rows of one snapshot." default:"100000"`
	Dev             bool          `help:"One URL of a superuser or owner for everything; loopback only; prints a token per role."`
	logFlags
}

// Help is shown between the summary and the flags.
func (serveCmd) Help() string {
	return `To try it on this machine, with a superuser's URL for everything:

  rowtide serve --dev --database-url postgres://postgres@localhost/app

For good, with what rowtide setup printed:

  rowtide serve --database-url postgres://rowtide:…@db/app --roles web_user --jwt-secret …`
}

func (c serveCmd) config() rowtide.Config {
	return rowtide.Config{
		DatabaseURL: c.DatabaseURL, AdminURL: c.AdminURL,
		Schemas: c.Schemas, Roles: c.Roles, AnonRole: c.AnonRole,
		JWTSecret: c.JWTSecret, JWTPublicKey: c.JWTPublicKey, JWKSURL: c.JWKSURL, JWKSPrivate: c.JWKSPrivate, JWTIssuer: c.JWTIssuer, JWTAudience: c.JWTAudience,
		RoleClaim: c.RoleClaim, ClaimSettings: c.ClaimSetting,
		Slot: c.Slot, Publication: c.Publication, Annotations: c.Annotations,
		SpillDir: c.SpillDir, SpillBytes: int64(c.SpillQuota),
		Retain: c.Retain, RetainWAL: int64(c.RetainWAL), RetainBytes: int(c.RetainMemory), CursorSecret: c.CursorSecret,
		AllowHosts: c.AllowHost, TrustedProxies: c.TrustedProxies, Limits: c.Limit,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, AuditLog: c.AuditLog, AuditTable: c.AuditTable, AdminToken: c.AdminToken,
		AllowOrigins: c.AllowOrigin, NoIntrospection: c.Introspection == "off",
		ExposePositions: c.ExposePositions, ShadowPolicies: c.ShadowPolicies, MaxSnapshotRows: c.MaxSnapshotRows,
		Dev: c.Dev,
	}
}

func (c serveCmd) Run(ctx context.Context, s streams) error {
	cfg := c.config()
	cfg.Logger = c.logger(s.Err)
	server, err := rowtide.New(cfg)
	if err != nil {
		return err
	}
	admin, err := c.adminListener(ctx, server, cfg.Logger)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	// What ends the service ends the rest: a clean end of it is no error.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.Go(func() error {
		defer stop()
		return server.ListenAndServe(ctx, c.Listen)
	})
	if admin != nil {
		g.Go(func() error { return server.ServeAdmin(ctx, admin) })
	}
	if c.Dev {
		g.Go(func() error { return printTokens(ctx, server, s) })
	}
	return g.Wait()
}

// defaultAdmin is the default of --admin-listen. A second service on a machine finds it taken:
// that costs it the metrics, and no more.
const defaultAdmin = "127.0.0.1:8081"

// adminListener gives nil where there is to be none.
func (c serveCmd) adminListener(ctx context.Context, server *rowtide.Server, log *slog.Logger) (net.Listener, error) {
	if c.AdminListen == "off" || c.AdminListen == "" {
		return nil, nil //nolint:nilnil // none is what was asked for
	}
	l, err := server.ListenAdmin(ctx, c.AdminListen)
	if err != nil && c.AdminListen == defaultAdmin {
		log.Warn("there are no metrics and no admin API", "error", err)
		return nil, nil //nolint:nilnil // that was told
	}
	return l, err
}

func printTokens(ctx context.Context, server *rowtide.Server, s streams) error {
	tokens, err := server.DevTokens(ctx)
	if err != nil {
		return nil // the service says why it did not come to it
	}
	for _, role := range slices.Sorted(maps.Keys(tokens)) {
		if _, err := fmt.Fprintf(s.Out, "Token of %s:\n%s\n", role, tokens[role]); err != nil {
			return err
		}
	}
	return nil
}
