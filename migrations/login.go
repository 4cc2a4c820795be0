package migrations

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// loginAttributes are what the service login is: it streams and takes the roles of the allow-list
// on, and has no right of its own (S50).
const (
	loginAttributes    = "LOGIN REPLICATION NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB"
	withoutReplication = "LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB"
)

// roles checks the allow-list: what exists must not be above row-level security (S32).
func (s *session) roles(ctx context.Context, cfg SetupConfig) error {
	for _, role := range cfg.Roles {
		a, err := readRole(ctx, s.conn, role)
		switch {
		case err != nil:
			return err
		case a == nil && !cfg.CreateRoles:
			return fmt.Errorf("role %s does not exist: check its spelling, or make it: CREATE ROLE %s NOLOGIN", role, ident(role))
		case a != nil && !cfg.PrivilegedRoles && a.privilege() != "":
			return fmt.Errorf("role %s %s: serve another role to clients", role, a.privilege())
		}
	}
	return nil
}

// createRoles makes those of the allow-list that do not exist.
func (s *session) createRoles(ctx context.Context, roles []string) error {
	for _, role := range roles {
		a, err := readRole(ctx, s.conn, role)
		if err != nil {
			return err
		}
		if a != nil {
			continue
		}
		if err := s.do(ctx, "role "+role, "CREATE ROLE "+ident(role)+" NOLOGIN", remember("role", role, "")); err != nil {
			return err
		}
	}
	return nil
}

// attributes are those of a role that matter here.
type attributes struct {
	Login, Super, Inherit, BypassRLS, Replication, CreateRole bool
}

// readRole gives nil for a role that does not exist.
func readRole(ctx context.Context, db Querier, role string) (*attributes, error) {
	var a attributes
	err := db.QueryRow(ctx, `SELECT rolcanlogin, rolsuper, rolinherit, rolbypassrls, `+MayReplicate+`, rolcreaterole
		FROM pg_catalog.pg_roles r WHERE rolname = $1`, role).Scan(&a.Login, &a.Super, &a.Inherit, &a.BypassRLS, &a.Replication, &a.CreateRole)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read role %s: %w", role, err)
	}
	return &a, nil
}

// privilege says what no role of the allow-list may be; "" for a fit one.
func (a *attributes) privilege() string {
	switch {
	case a.Super:
		return "is a superuser, whom no policy binds"
	case a.BypassRLS:
		return "has BYPASSRLS, so no policy binds it"
	case a.Replication:
		return "has REPLICATION, so it can read all changes"
	}
	return ""
}

// unfit says what keeps a login from being the service's.
func (a *attributes) unfit() []string {
	var out []string
	for _, c := range []struct {
		is   bool
		what string
	}{
		{a.Super, "it is a superuser"},
		{a.BypassRLS, "it has BYPASSRLS"},
		{a.CreateRole, "it has CREATEROLE"},
		{!a.Login, "it may not log in"},
		{!a.Replication, "it lacks REPLICATION"},
		{a.Inherit, "it has INHERIT"},
	} {
		if c.is {
			out = append(out, c.what)
		}
	}
	return out
}

// probe finds what is in the way of the login before anything is made. What the administrator may
// do differs between versions and hosts, so it is done, and taken back.
func (s *session) probe(ctx context.Context, cfg SetupConfig) error {
	a, err := readRole(ctx, s.conn, cfg.Login)
	if err != nil {
		return err
	}
	user, needs, err := s.needsReplication(ctx)
	if err != nil {
		return err
	}
	var sql []string
	if needs {
		sql = append(sql, takeReplication(user))
	}
	if a == nil {
		sql = append(sql, s.server.Host.loginSQL(cfg.Login, "", s.server.Version)...)
	} else if bad := a.unfit(); bad != nil {
		return fmt.Errorf("login %s exists and is unfit (%s): choose another --login, or ALTER ROLE %s %s, and %s",
			cfg.Login, strings.Join(bad, ", "), ident(cfg.Login), withoutReplication, s.server.Host.ReplicationSQL(cfg.Login))
	}
	for _, role := range cfg.Roles {
		a, err := readRole(ctx, s.conn, role)
		if err != nil {
			return err
		}
		if a == nil {
			sql = append(sql, "CREATE ROLE "+ident(role)+" NOLOGIN")
		}
		sql = append(sql, fmt.Sprintf("GRANT %s TO %s", ident(role), ident(cfg.Login)))
	}
	return explain("make login "+cfg.Login+", member of the roles", s.tryOut(ctx, sql))
}

// tryOut runs statements and takes them back.
func (s *session) tryOut(ctx context.Context, sql []string) error {
	tx, err := s.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // closing the connection does the same
	for _, q := range sql {
		if _, err := tx.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// login makes the service login, or gives it the password that was asked for.
func (s *session) login(ctx context.Context, cfg SetupConfig) error {
	what := "login " + cfg.Login
	there, err := readRole(ctx, s.conn, cfg.Login)
	if err != nil {
		return err
	}
	if there != nil && cfg.Password == "" {
		s.step(Already, what, "its password stays as it is")
		return nil
	}
	if there != nil && s.hasPassword(ctx, cfg.Login, cfg.Password) {
		s.already(what)
		return nil
	}
	password := cfg.Password
	if password == "" {
		password = rand.Text()
	}
	v, err := verifier(password)
	if err != nil {
		return err
	}
	if there != nil {
		return s.do(ctx, what+", its password", fmt.Sprintf("ALTER ROLE %s PASSWORD %s", ident(cfg.Login), literal(v)))
	}
	sql := append(s.server.Host.loginSQL(cfg.Login, "PASSWORD "+literal(v), s.server.Version), remember("login", cfg.Login, ""))
	err = s.do(ctx, what, sql...)
	if err == nil && cfg.Password == "" {
		s.report.Password = password
	}
	return err
}

// hasPassword tells whether the login has that password already, where that can be known: only a
// superuser may read the verifier.
func (s *session) hasPassword(ctx context.Context, login, password string) bool {
	var stored string
	err := s.conn.QueryRow(ctx, `SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1`, login).Scan(&stored)
	return err == nil && verifies(stored, password)
}
