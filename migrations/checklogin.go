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
	problems, err := loginProblems(ctx, conn, login, cfg)
	if err != nil {
		return err
	}
	if problems != nil {
		return &UnfitError{
			Login: login, Problems: problems,
			Fix: "rowtide setup --admin-url URL --roles " + strings.Join(cfg.Roles, ","),
		}
	}
	return checkReplication(ctx, cfg.URL)
}

func loginProblems(ctx context.Context, conn *pgx.Conn, login string, cfg LoginConfig) ([]string, error) {
	a, err := readRole(ctx, conn, login)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, fmt.Errorf("read login %s: it does not exist", login)
	}
	a.Inherit = false // counts by what is inherited
	problems := a.unfit()
	roles, err := roleProblems(ctx, conn, login, cfg)
	if err != nil {
		return nil, err
	}
	owned, err := ownedTables(ctx, conn, login, cfg)
	return append(append(problems, roles...), owned...), err
}

// roleProblems asks whether the login can take each role on, and has nothing of it otherwise.
func roleProblems(ctx context.Context, conn *pgx.Conn, login string, cfg LoginConfig) ([]string, error) {
	var out []string
	for _, role := range cfg.Roles {
		a, err := readRole(ctx, conn, role)
		if err != nil {
			return nil, err
		}
		if a == nil {
			out = append(out, "role "+role+" does not exist")
			continue
		}
		if why := a.privilege(); why != "" && !cfg.PrivilegedRoles {
			out = append(out, "role "+role+" "+why)
		}
		var set, inherits bool
		// 'SET' came with version 16; before, every member may.
		err = conn.QueryRow(ctx, `SELECT pg_has_role($1::name, $2::name, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END),
			pg_has_role($1::name, $2::name, 'USAGE')`, login, role).Scan(&set, &inherits)
		if err != nil {
			return nil, fmt.Errorf("read membership in %s: %w", role, err)
		}
		if !set {
			out = append(out, "it may not act as "+role)
		}
		if inherits {
			out = append(out, "it inherits the rights of "+role)
		}
	}
	return out, nil
}

// ownedTables are those that the login owns, itself or through a role that it can take on.
func ownedTables(ctx context.Context, conn *pgx.Conn, login string, cfg LoginConfig) ([]string, error) {
	var out []string
	for _, t := range cfg.Tables {
		var owner string
		var owns bool
		err := conn.QueryRow(ctx, `SELECT pg_get_userbyid(c.relowner)::text, pg_has_role($1::name, c.relowner, 'MEMBER')
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
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("read --database-url: %s", oneLine(err))
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("open a replication connection: %s: if --database-url is of a pooler, use the server's own address", oneLine(err))
	}
	_, err = conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return fmt.Errorf("open a replication connection: %s: if --database-url is of a pooler, use the server's own address", oneLine(err))
	}
	return nil
}
