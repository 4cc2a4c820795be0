package rowtide

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/audit"
	"github.com/rowtide/rowtide/fanout"
)

// A guard is what stands between clients and the service, and outlives a pipeline.
type guard struct {
	limiter *authz.Limiter
	proxies fanout.Proxies
	revoked *authz.Revocations
	audit   *audit.Log
	table   *audit.Table // the audit log's, nil without
	hosts   *hosts
	certs   *certificates // nil without TLS
	// operations is how many one connection may have at once.
	operations int
}

func newGuard(cfg Config) (*guard, error) {
	limits, err := authz.ParseLimits(cfg.Limits)
	if err != nil {
		return nil, err
	}
	g := &guard{
		limiter: authz.NewLimiter(limits), operations: limits[authz.Subscriptions][authz.PerConnection],
		revoked: &authz.Revocations{},
	}
	if g.operations == 0 {
		g.operations = math.MaxInt
	}
	if g.proxies, err = parseProxies(cfg.TrustedProxies); err != nil {
		return nil, err
	}
	g.hosts = newHosts(cfg.AllowHosts, cfg.AllowOrigins)
	if cfg.TLSCert != "" {
		if g.certs, err = openCertificates(cfg.TLSCert, cfg.TLSKey, cfg.Logger); err != nil {
			return nil, err
		}
	}
	return g, g.openAudit(cfg)
}

// openAudit opens the audit log's file, for appending and for its owner alone. It stays open as
// long as the process.
func (g *guard) openAudit(cfg Config) error {
	ac := audit.Config{Logger: cfg.Logger}
	switch cfg.AuditLog {
	case "":
	case "-":
		ac.Sinks = append(ac.Sinks, audit.NewLines(os.Stdout))
	default:
		f, err := os.OpenFile(cfg.AuditLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("--audit-log: %w: name a file that this user may write", err)
		}
		ac.Sinks = append(ac.Sinks, audit.NewLines(f))
	}
	if cfg.AuditTable {
		g.table = audit.NewTable()
		ac.Sinks = append(ac.Sinks, g.table)
	}
	g.audit = audit.New(ac)
	return nil
}

// openTable tells the audit log where its table is, and refuses a database that has none.
func (g *guard) openTable(ctx context.Context, pool *pgxpool.Pool, url string) error {
	if g.table == nil {
		return nil
	}
	var may bool
	err := pool.QueryRow(ctx, `SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('rowtide.audit'), 'INSERT'), false)`).Scan(&may)
	if err != nil {
		return fmt.Errorf("look for the audit table: %w", err)
	}
	if !may {
		return errors.New("--audit-table: there is no table rowtide.audit that this login may insert into: run rowtide setup again")
	}
	g.table.Open(url)
	return nil
}

// runAudit keeps the audit log until ctx ends.
func (g *guard) runAudit(ctx context.Context) {
	_ = g.audit.Run(ctx)
	if g.table != nil {
		_ = g.table.Close(context.WithoutCancel(ctx))
	}
}

// tls is the configuration of a listener, nil without TLS.
func (g *guard) tls() *tls.Config {
	if g.certs == nil {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: g.certs.get}
}

func parseProxies(networks []string) (fanout.Proxies, error) {
	var out fanout.Proxies
	for _, n := range networks {
		if !strings.Contains(n, "/") {
			if a, err := netip.ParseAddr(n); err == nil {
				n = fmt.Sprintf("%s/%d", n, a.BitLen())
			}
		}
		p, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies %q is no network: write addresses such as 10.0.0.7, or networks with the length of their mask behind a slash", n)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func (c Config) checkGuard() error {
	if _, err := authz.ParseLimits(c.Limits); err != nil {
		return fmt.Errorf("--%w", err)
	}
	if _, err := parseProxies(c.TrustedProxies); err != nil {
		return err
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return fmt.Errorf("--tls-cert and --tls-key belong together: set both, or neither")
	case c.AdminToken != "" && len(c.AdminToken) < minSecret:
		return fmt.Errorf("--admin-token has %d bytes: give it at least %d, such as the output of: openssl rand -hex 32", len(c.AdminToken), minSecret)
	case slices.ContainsFunc(c.AllowHosts, func(h string) bool { return h == "" || strings.ContainsAny(h, "/: ") }):
		return fmt.Errorf("--allow-host %q: write names alone, without scheme and port, such as api.example.com", c.AllowHosts)
	}
	return nil
}
