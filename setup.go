package rowtide

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
	"github.com/rowtide/rowtide/schema/introspect"
)

// A SetupConfig says what to prepare in a database, as somebody who may.
type SetupConfig struct {
	// AdminURL is of a superuser, or of a role that owns the tables and may create roles.
	// Required.
	AdminURL string
	// Roles is the allow-list. Required, but for Sync.
	Roles []string
	// Login is the service login. Defaults to rowtide; Password to a generated one where the
	// login is new.
	Login, Password string
	// Schemas, Publication and Slot are as in Config.
	Schemas     []string
	Publication string
	Slot        string
	// Annotations is as in Config.
	Annotations string
	// NoSets is as in Config.
	NoSets bool
	// Yes accepts that full replica identity makes updates of wide tables write much more WAL.
	Yes bool
	// DryRun gets the SQL, and nothing is changed. Defaults to doing it.
	DryRun io.Writer
}

// A SetupReport says what was done, and what is wrong with annotations.
type SetupReport struct {
	migrations.Report
	Problems []schema.Problem
}

// Setup makes in the database everything that the service needs and that takes rights. It may
// be repeated. The report tells of all steps also where an error ends it early.
func Setup(ctx context.Context, cfg SetupConfig) (SetupReport, error) {
	if cfg.Slot != "" {
		if err := checkSlot(cfg.Slot); err != nil {
			return SetupReport{}, err
		}
	}
	parsed, err := migrations.ParseURL("--admin-url", cfg.AdminURL)
	if err != nil {
		return SetupReport{}, err
	}
	if _, err := migrations.CheckTransport("--admin-url", &parsed.Config); err != nil {
		return SetupReport{}, err
	}
	tables, problems, err := annotated(ctx, cfg)
	if err != nil {
		return SetupReport{}, err
	}
	report, err := migrations.Setup(ctx, migrations.SetupConfig{
		AdminURL: cfg.AdminURL, Login: cfg.Login, Password: cfg.Password, Roles: cfg.Roles, Schemas: cfg.Schemas,
		Tables: tables, Publication: cfg.Publication, Slot: cfg.Slot, Yes: cfg.Yes, DryRun: cfg.DryRun,
	})
	return SetupReport{report, problems}, err
}

// Sync brings publication and replica identity in line with the annotations.
func Sync(ctx context.Context, cfg SetupConfig) (SetupReport, error) {
	tables, problems, err := annotated(ctx, cfg)
	if err != nil {
		return SetupReport{}, err
	}
	report, err := migrations.Sync(ctx, migrations.SyncConfig{
		AdminURL: cfg.AdminURL, Login: cfg.Login, Schemas: cfg.Schemas, Tables: tables,
		Publication: cfg.Publication, Yes: cfg.Yes, DryRun: cfg.DryRun,
	})
	return SetupReport{report, problems}, err
}

// annotated are the tables to publish: those that are served, or will be once published. The
// problems are those that publishing will not mend.
func annotated(ctx context.Context, cfg SetupConfig) ([]migrations.Table, []schema.Problem, error) {
	f, err := annotation.ReadFile(cfg.Annotations)
	if err != nil {
		return nil, nil, err
	}
	pool, err := openPool(ctx, "--admin-url", cfg.AdminURL)
	if err != nil {
		return nil, nil, err
	}
	defer pool.Close()
	schemas := Config{Schemas: cfg.Schemas}.withDefaults().Schemas
	read := introspect.Config{Schemas: schemas, All: f != nil}
	if read.Related = !cfg.NoSets; read.Related {
		if read.Roles, err = rolesOf(ctx, pool, cfg); err != nil {
			return nil, nil, err
		}
	}
	catalog, problems, err := readCatalog(ctx, pool, read, f, schema.Options{})
	if err != nil {
		return nil, nil, err
	}
	return toPublish(catalog, !cfg.NoSets, schemas), unpublished(catalog, problems), nil
}

// toPublish are the tables of a catalog to publish, and with sets those that their policies ask. One
// that is served for INSERT alone, and asked, is published with everything.
func toPublish(catalog *schema.Catalog, sets bool, schemas []string) []migrations.Table {
	var tables []migrations.Table
	wanted := catalog.Wanted()
	for _, t := range wanted {
		tables = append(tables, migrations.Table{Schema: t.Schema, Name: t.Name, Full: t.NeedsFullIdentity()})
	}
	if !sets {
		return tables
	}
	for _, d := range rls.Asked(wanted, schemas) {
		if i := slices.IndexFunc(tables, func(o migrations.Table) bool { return o.Schema == d.Schema && o.Name == d.Name }); i >= 0 {
			tables[i].Full = true
		} else {
			tables = append(tables, migrations.Table{Schema: d.Schema, Name: d.Name, Full: true, Asked: true})
		}
	}
	return tables
}

// rolesOf are the roles of the allow-list, or, where it is not given, those that the login may act
// as, and other logins that setup was run for: a table that is wanted for none of them is withdrawn.
func rolesOf(ctx context.Context, pool *pgxpool.Pool, cfg SetupConfig) ([]string, error) {
	if len(cfg.Roles) > 0 {
		return cfg.Roles, nil
	}
	logins, err := migrations.Logins(ctx, pool)
	if err != nil {
		return nil, err
	}
	rows, err := pool.Query(ctx, `SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_auth_members m
JOIN pg_catalog.pg_roles r ON r.oid = m.roleid JOIN pg_catalog.pg_roles l ON l.oid = m.member WHERE l.rolname = ANY($1) ORDER BY 1`,
		append(logins, cfg.Login))
	if err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	return roles, nil
}

// openPool makes a pool of connections to the server that a flag names.
func openPool(ctx context.Context, flag, url string) (*pgxpool.Pool, error) {
	if err := migrations.Reach(ctx, flag, url); err != nil {
		return nil, err
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect with %s: %w", flag, err)
	}
	return pool, nil
}

// prepare does what the configuration asks to be done in the database before the service
// starts, refuses a login that policies would not bind and a server that cannot stream, and
// gives the configuration to go on with.
func prepare(ctx context.Context, cfg Config) (Config, error) {
	if cfg.Dev {
		var err error
		if cfg, err = prepareDev(ctx, cfg); err != nil {
			return cfg, err
		}
	}
	if cfg.AdminURL != "" {
		if err := prepareAdmin(ctx, &cfg); err != nil {
			return cfg, err
		}
	}
	if err := migrations.CheckLogin(ctx, migrations.LoginConfig{URL: cfg.DatabaseURL, Roles: cfg.roles(), Slot: cfg.Slot}); err != nil {
		return cfg, err
	}
	return cfg, checkDatabase(ctx, cfg)
}

// prepareDev makes of one privileged URL what setup would: the service itself always works
// through a login of its own, so that policies bind it as they will elsewhere.
func prepareDev(ctx context.Context, cfg Config) (Config, error) {
	pool, err := openPool(ctx, "--database-url", cfg.DatabaseURL)
	if err != nil {
		return cfg, err
	}
	defer pool.Close()
	cfg.AdminURL, cfg.DatabaseURL = cfg.DatabaseURL, ""
	if len(cfg.Roles) == 0 {
		cfg.Roles, err = readerRoles(ctx, pool, cfg)
	}
	return cfg, err
}

// NewSecret makes a secret for JWTSecret.
func NewSecret() string {
	b := make([]byte, minSecret)
	_, _ = rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}

// prepareAdmin does setup's steps, with the login that DatabaseURL names or else one of its own.
func prepareAdmin(ctx context.Context, cfg *Config) error {
	sc := SetupConfig{
		AdminURL: cfg.AdminURL, Roles: cfg.roles(), Schemas: cfg.Schemas,
		Publication: cfg.Publication, Slot: cfg.Slot, Annotations: cfg.Annotations, NoSets: cfg.NoSets, Yes: cfg.Dev,
	}
	if cfg.DatabaseURL == "" {
		sc.Password = NewSecret()
	} else {
		parsed, err := migrations.ParseURL("--database-url", cfg.DatabaseURL)
		if err != nil {
			return err
		}
		sc.Login, sc.Password = parsed.User, parsed.Password
	}
	report, err := Setup(ctx, sc)
	for _, step := range report.Steps {
		switch step.State {
		case migrations.Done:
			cfg.Logger.Info("setup", "done", step.What)
		case migrations.Skipped:
			cfg.Logger.Info("setup", "skipped", step.What, "why", step.Why)
		case migrations.Already, migrations.Planned, migrations.Refused:
		}
	}
	var refused *migrations.RefusedError
	if errors.As(err, &refused) {
		for _, step := range refused.Steps {
			cfg.Logger.Warn("setup refused", "what", step.What, "why", step.Why)
		}
	} else if err != nil {
		return err
	}
	if cfg.DatabaseURL == "" {
		cfg.DatabaseURL = report.DatabaseURL
	}
	return nil
}

// syncAnnotations does sync while the service runs with an AdminURL.
func syncAnnotations(ctx context.Context, cfg Config) error {
	parsed, err := migrations.ParseURL("--database-url", cfg.DatabaseURL)
	if err != nil {
		return err
	}
	report, err := Sync(ctx, SetupConfig{
		AdminURL: cfg.AdminURL, Login: parsed.User, Roles: cfg.roles(), Schemas: cfg.Schemas,
		Publication: cfg.Publication, Annotations: cfg.Annotations, NoSets: cfg.NoSets, Yes: cfg.Dev,
	})
	for _, step := range report.Steps {
		if step.State == migrations.Done {
			cfg.Logger.Info("sync", "done", step.What)
		}
	}
	return err
}

// readerRoles are the roles that --dev takes where none are named: ordinary ones that may read
// an annotated table.
func readerRoles(ctx context.Context, pool *pgxpool.Pool, cfg Config) ([]string, error) {
	rows, err := pool.Query(ctx, `
SELECT r.rolname FROM pg_catalog.pg_roles r
WHERE NOT (r.rolsuper OR r.rolbypassrls OR r.rolreplication) AND r.rolname !~ '^pg_' AND NOT r.rolcanlogin AND EXISTS (
  SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p')
    AND ($2 OR pg_catalog.obj_description(c.oid, 'pg_class') LIKE '%@subscribe%')
    AND pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT'))
ORDER BY 1`, cfg.Schemas, cfg.Annotations != "")
	if err != nil {
		return nil, fmt.Errorf("find roles: %w", err)
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("find roles: %w", err)
	}
	if len(roles) == 0 {
		return nil, errors.New("no role may read an annotated table: GRANT SELECT on one to a role, or name --roles")
	}
	return roles, nil
}
