package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A LoginConfig says what the service login must be fit for.
type LoginConfig struct {
	// URL is the service login's.
	URL string
	// Roles is the allow-list.
	Roles []string
	// Tables are the served tables, none of which the login may own.
	Tables []Table
	// Slot is the slot that will be used. Where it is set, the server is checked too, as by
	// Preflight. Defaults to none.
	Slot string
	// PrivilegedRoles allows superusers and roles with BYPASSRLS or REPLICATION in Roles.
	// Defaults to refusing them.
	PrivilegedRoles bool
}

// An UnfitError tells why a login cannot be the service's: policies would not bind it, or it
// cannot do what the service does.
type UnfitError struct {
	Login    string
	Problems []string
	// Fix is the command that makes a fit one.
	Fix string
}

// Error is one line.
func (e *UnfitError) Error() string {
	return fmt.Sprintf("login %s is not fit to serve: %s; make a fit one: %s", e.Login, strings.Join(e.Problems, "; "), e.Fix)
}

// CheckLogin checks that a login is fit: it can stream, it can take on the roles of the allow-list,
// and it has no right beside those. A policy can make the session its login again (S50), so
// whatever the login may do, somebody who writes policies may do. The error is an *UnfitError
// unless the server could not be asked.
func CheckLogin(ctx context.Context, cfg LoginConfig) error {
	conn, err := connect(ctx, cfg.URL, "--database-url", "rowtide check")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var login string
	if err := conn.QueryRow(ctx, `SELECT session_user::text`).Scan(&login); err != nil {
		return fmt.Errorf("read login: %w", err)
	}
	if err := checkRoles(ctx, conn, cfg); err != nil {
		return err
	}
	if err := checkRights(ctx, conn, login, cfg); err != nil {
		return err
	}
	if cfg.Slot != "" {
		if _, err := Preflight(ctx, conn, cfg.Slot); err != nil {
			return err
		}
	}
	return checkReplication(ctx, cfg.URL)
}

// CheckOwner is the part of CheckLogin about cfg.Tables, for a caller that does not know them
// before. It asks over a connection of the login.
func CheckOwner(ctx context.Context, db Querier, cfg LoginConfig) error {
	var login string
	if err := db.QueryRow(ctx, `SELECT session_user::text`).Scan(&login); err != nil {
		return fmt.Errorf("read login: %w", err)
	}
	owned, err := ownedTables(ctx, db, login, cfg)
	if err != nil || owned == nil {
		return err
	}
	return &UnfitError{Login: login, Problems: owned, Fix: setupCommand(cfg.Roles)}
}

// checkRoles refuses an allow-list with a role that no policy would bind, or that is not there.
func checkRoles(ctx context.Context, db Querier, cfg LoginConfig) error {
	for _, role := range cfg.Roles {
		a, err := readRole(ctx, db, role)
		switch {
		case err != nil:
			return err
		case a == nil:
			return fmt.Errorf("role %s does not exist: check its spelling, or CREATE ROLE %s NOLOGIN and run: %s",
				role, ident(role), setupCommand(cfg.Roles))
		case a.privilege() != "" && !cfg.PrivilegedRoles:
			return fmt.Errorf("role %s %s: serve another role to clients", role, a.privilege())
		}
	}
	return nil
}

func setupCommand(roles []string) string {
	return "rowtide setup --admin-url URL --roles " + strings.Join(roles, ",")
}

// checkRights refuses a login that has other rights than the service needs.
func checkRights(ctx context.Context, db Querier, login string, cfg LoginConfig) error {
	a, err := readRole(ctx, db, login)
	if err != nil {
		return err
	}
	if a == nil {
		return fmt.Errorf("read login %s: it does not exist", login)
	}
	fix := setupCommand(cfg.Roles)
	if a.Super { // has every other right too
		return &UnfitError{Login: login, Problems: []string{"it is a superuser, whom no policy binds"}, Fix: fix + " (or, to try it out on this machine: serve --dev)"}
	}
	a.Inherit = false // counts by what is inherited
	problems := a.unfit()
	lacking, inherited, err := memberships(ctx, db, login, cfg.Roles)
	if err != nil {
		return err
	}
	owned, err := ownedTables(ctx, db, login, cfg)
	if err != nil {
		return err
	}
	problems = append(append(problems, inherited...), owned...)
	if problems == nil && lacking != nil && login != DefaultLogin {
		fix += " --login " + login // it needs no more than that
	}
	if problems = append(problems, lacking...); problems == nil {
		return nil
	}
	return &UnfitError{Login: login, Problems: problems, Fix: fix}
}

// memberships tells which roles the login cannot take on, and of which it has the rights without.
func memberships(ctx context.Context, db Querier, login string, roles []string) (lacking, inherited []string, err error) {
	for _, role := range roles {
		var set, inherits bool
		// 'SET' came with version 16; before, every member may.
		err = db.QueryRow(ctx, `SELECT pg_has_role($1::name, $2::name, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END),
			pg_has_role($1::name, $2::name, 'USAGE')`, login, role).Scan(&set, &inherits)
		if err != nil {
			return nil, nil, fmt.Errorf("read membership in %s: %w", role, err)
		}
		if !set {
			lacking = append(lacking, "it may not act as "+role)
		}
		if inherits {
			inherited = append(inherited, "it inherits the rights of "+role)
		}
	}
	return lacking, inherited, nil
}

// ownedTables are those that the login owns, itself or through a role that it can take on.
func ownedTables(ctx context.Context, db Querier, login string, cfg LoginConfig) ([]string, error) {
	var out []string
	for _, t := range cfg.Tables {
		var owner string
		var owns bool
		err := db.QueryRow(ctx, `SELECT pg_get_userbyid(c.relowner)::text, pg_has_role($1::name, c.relowner, 'MEMBER')
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $2 AND c.relname = $3`,
			login, t.Schema, t.Name).Scan(&owner, &owns)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return nil, fmt.Errorf("read owner of %s: %w", t, err)
		case owner == login:
			out = append(out, "it owns table "+t.String())
		case owns && !slices.Contains(cfg.Roles, owner):
			out = append(out, "it may act as "+owner+", the owner of table "+t.String())
		}
	}
	return out, nil
}

// checkReplication opens a replication connection, which no query can stand for: poolers and
// pg_hba.conf have their own ideas about it.
func checkReplication(ctx context.Context, url string) error {
	const flag = "--database-url"
	cfg, err := ParseURL(flag, url)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["replication"] = "database"
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return connectError(flag, &cfg.Config, err)
	}
	// A pooler may swallow the parameter: what it passes the command on to knows none such.
	_, err = conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return connectError(flag, &cfg.Config, err)
	}
	return nil
}
