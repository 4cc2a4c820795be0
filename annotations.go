package rowtide

import (
	"context"
	"fmt"
	"slices"

	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
	"github.com/rowtide/rowtide/schema/introspect"
)

// A ReadConfig says where to read annotations.
type ReadConfig struct {
	// URL is of any login of the database. Required.
	URL string
	// Schemas are the served schemas. Defaults to public.
	Schemas []string
	// Annotations is a file of COMMENT ON statements; objects named there ignore their comments
	// in the database. Defaults to none.
	Annotations string
}

// loadDatabase reads a database and its annotations. A file may annotate tables that bear no
// comment, so with one all tables are read.
func loadDatabase(ctx context.Context, db introspect.DB, cfg introspect.Config, f *annotation.File) (schema.Database, []schema.Problem, error) {
	database, err := introspect.Load(ctx, db, cfg)
	if err != nil {
		return schema.Database{}, nil, fmt.Errorf("read catalog: %w", err)
	}
	return database, annotation.ApplyFile(&database, f), nil
}

// unpublished leaves the problems that rowtide sync will not mend: it gives the tables that would
// be served their replica identity.
func unpublished(catalog *schema.Catalog, problems []schema.Problem) []schema.Problem {
	wanted := map[uint32]bool{}
	for _, t := range catalog.Wanted() {
		wanted[t.OID] = true
	}
	return slices.DeleteFunc(problems, func(p schema.Problem) bool { return wanted[p.Table] })
}

// A LintReport says what annotations there are and what is wrong with them.
type LintReport struct {
	// Problems are the mistakes and what is only worth knowing, in the order of the tables.
	Problems []schema.Problem
	// SQL are all annotations as COMMENT ON statements.
	SQL string
}

// Lint checks the annotations of a database. What setup and sync do is not missed.
func Lint(ctx context.Context, cfg ReadConfig) (LintReport, error) {
	catalog, database, problems, err := readOnce(ctx, cfg, nil)
	if err != nil {
		return LintReport{}, err
	}
	return LintReport{Problems: unpublished(catalog, problems), SQL: annotation.Dump(&database)}, nil
}

// SDL gives the GraphQL schema that a role sees, and what is wrong with annotations.
func SDL(ctx context.Context, cfg ReadConfig, role string) (string, []schema.Problem, error) {
	catalog, _, problems, err := readOnce(ctx, cfg, []string{role})
	if err != nil {
		return "", nil, err
	}
	r := catalog.Role(role)
	if r == nil {
		return "", problems, fmt.Errorf("role %s does not exist: name one that psql's \\du lists", role)
	}
	return r.SDL(), problems, nil
}

// readOnce is for commands that read the catalog and end.
func readOnce(ctx context.Context, cfg ReadConfig, roles []string) (*schema.Catalog, schema.Database, []schema.Problem, error) {
	f, err := annotation.ReadFile(cfg.Annotations)
	if err != nil {
		return nil, schema.Database{}, nil, err
	}
	pool, err := openPool(ctx, "--database-url", cfg.URL)
	if err != nil {
		return nil, schema.Database{}, nil, err
	}
	defer pool.Close()
	schemas := Config{Schemas: cfg.Schemas}.withDefaults().Schemas
	database, problems, err := loadDatabase(ctx, pool, introspect.Config{Schemas: schemas, Roles: roles, All: f != nil}, f)
	if err != nil {
		return nil, schema.Database{}, nil, err
	}
	catalog, more := schema.New(database, schema.Options{})
	return catalog, database, append(problems, more...), nil
}
