package migrations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A SetupConfig says what to set up.
type SetupConfig struct {
	// AdminURL is of a superuser, or of a role that owns the tables and may create roles.
	AdminURL string
	// Login is the service login to make. Defaults to DefaultLogin.
	Login string
	// Password of the service login. Defaults to a generated one where the login is new, and
	// to the one it has where it is not.
	Password string
	// Roles is the allow-list of roles that the service may act as. Required.
	Roles []string
	// CreateRoles makes those of Roles that do not exist, NOLOGIN. Defaults to refusing them.
	CreateRoles bool
	// PrivilegedRoles allows superusers and roles with BYPASSRLS or REPLICATION in Roles.
	// Defaults to refusing them.
	PrivilegedRoles bool
	// Schemas are the served schemas. Defaults to public.
	Schemas []string
	// Tables are the annotated tables, as for Sync. Defaults to none.
	Tables []Table
	// Publication is the name of the publication; see InsertPublication. Defaults to
	// DefaultPublication.
	Publication string
	// Slot is the name of the slot that the service will make. Defaults to DefaultSlot.
	Slot string
	// Yes accepts what makes updates of wide tables write much more WAL.
	Yes bool
	// LockTimeout bounds each wait for a lock. Defaults to 2 s.
	LockTimeout time.Duration
	// DryRun gets the SQL, and nothing is changed. Defaults to doing it.
	DryRun io.Writer
}

func (c SetupConfig) withDefaults() SetupConfig {
	if c.Login == "" {
		c.Login = DefaultLogin
	}
	if c.Publication == "" {
		c.Publication = DefaultPublication
	}
	if c.Slot == "" {
		c.Slot = DefaultSlot
	}
	if len(c.Schemas) == 0 {
		c.Schemas = []string{"public"}
	}
	return c
}

func (c SetupConfig) check() error {
	if len(c.Roles) == 0 {
		return errors.New("no roles: set --roles to the Postgres roles that tokens may name, such as --roles web_user")
	}
	if slices.Contains(c.Roles, c.Login) {
		return fmt.Errorf("the login %s cannot be one of --roles: choose another --login", c.Login)
	}
	return checkPassword(c.Password)
}

// Setup makes in the database everything that the service needs and that takes rights. The Report
// tells of all steps also where an error ends it early. The error is a *RefusedError where all was
// tried and some of it refused.
func Setup(ctx context.Context, cfg SetupConfig) (Report, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return Report{}, err
	}
	s, err := open(ctx, cfg.AdminURL, cfg.DryRun, cfg.LockTimeout)
	if err != nil {
		return Report{}, err
	}
	defer s.close(ctx)
	if err := s.setup(ctx, cfg); err != nil {
		return s.report, err
	}
	return s.report, s.report.refused()
}

func (s *session) setup(ctx context.Context, cfg SetupConfig) error {
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return s.preflight(ctx, cfg.Slot) },
		func(ctx context.Context) error { return s.roles(ctx, cfg) },
		func(ctx context.Context) error { return s.probe(ctx, cfg) },
		s.ownSchema,
		s.up,
		s.giveReplication,
		func(ctx context.Context) error { return s.createRoles(ctx, cfg.Roles) },
		func(ctx context.Context) error { return s.login(ctx, cfg) },
		func(ctx context.Context) error { return s.memberships(ctx, cfg.Login, cfg.Roles) },
		func(ctx context.Context) error { return s.grants(ctx, cfg.Login) },
		s.eventTriggers,
		func(ctx context.Context) error { return s.rememberSlot(ctx, cfg.Slot) },
		func(ctx context.Context) error {
			return s.sync(ctx, SyncConfig{
				Login: cfg.Login, Schemas: cfg.Schemas, Publication: cfg.Publication, Tables: cfg.Tables, Yes: cfg.Yes,
			})
		},
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.report.Login = cfg.Login
	s.report.DatabaseURL = serviceURL(cfg.AdminURL, s.conn.Config().Config, cfg.Login, s.password(cfg))
	return nil
}

func (s *session) password(cfg SetupConfig) string {
	if cfg.Password != "" {
		return cfg.Password
	}
	return s.report.Password
}

// serviceURL is the administrator's connection string with another user.
func serviceURL(admin string, parsed pgconn.Config, login, password string) string {
	user := url.User(login)
	if password != "" {
		user = url.UserPassword(login, password)
	}
	if u, err := url.Parse(admin); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		q := u.Query()
		q.Del("user")
		q.Del("password")
		u.User, u.RawQuery = user, q.Encode()
		return u.String()
	}
	u := url.URL{Scheme: "postgres", User: user, Path: "/" + parsed.Database}
	if strings.HasPrefix(parsed.Host, "/") {
		u.RawQuery = url.Values{"host": {parsed.Host}, "port": {fmt.Sprint(parsed.Port)}}.Encode()
	} else {
		u.Host = fmt.Sprintf("%s:%d", parsed.Host, parsed.Port)
	}
	return u.String()
}

// rememberSlot notes the slot that the service will make, for Down.
func (s *session) rememberSlot(ctx context.Context, slot string) error {
	known, err := s.isCreated(ctx, "slot", slot, "")
	if err != nil || known {
		return err
	}
	return s.do(ctx, "note that slot "+slot+" is Rowtide's", remember("slot", slot, ""))
}

// isCreated tells whether a row of rowtide.created is there.
func (s *session) isCreated(ctx context.Context, kind, name, detail string) (bool, error) {
	all, err := s.created(ctx)
	return slices.Contains(all, creation{kind, name, detail}), err
}
