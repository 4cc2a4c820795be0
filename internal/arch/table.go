package arch

// module is the path of our module.
const module = "github.com/rowtide/rowtide"

// A rule says what one package may import.
type rule struct {
	// pkg is the package, without the module's path; "." is the root.
	pkg string
	// ours are the packages of this module that it may import: where it says "*", all of them
	// that the binary may contain.
	ours []string
	// tests are what its test files may import besides, and besides testOnly.
	tests []string
	// outside are the modules of others that it may import, any where nil. Test files are free.
	outside []string
	// linked says that the service's binary may contain it. What is not linked is for tests.
	linked bool
}

// testOnly may be imported by every test file, and by no program.
var testOnly = []string{"testcontainers", "testcontainers/pgtest", "internal/feedtest"}

// none is an empty list of modules: the standard library alone.
var none = []string{}

// table has every package of the module, from the values to the wiring: a package imports from
// above its own line. DESIGN: siblings never meet; parents never import their subpackages, but
// fanout imports fanout/bus; the root and cmd wire.
var table = []rule{
	{pkg: "cdc", outside: none, linked: true},
	{pkg: "cdc/pgoutput", ours: []string{"cdc"}, linked: true},
	{pkg: "cdc/replication", ours: []string{"cdc"}, linked: true},
	{pkg: "cdc/fold", ours: []string{"cdc"}, outside: none, linked: true},

	{pkg: "schema", ours: []string{"cdc"}, linked: true},
	{pkg: "schema/annotation", ours: []string{"schema", "cdc"}, linked: true},
	{pkg: "schema/introspect", ours: []string{"schema", "cdc"}, linked: true},

	{pkg: "authz", ours: []string{"schema", "cdc"}, linked: true},
	{pkg: "authz/audit", ours: []string{"authz"}, outside: []string{"github.com/jackc/pgx/v5"}, linked: true},
	{pkg: "authz/jwt", ours: []string{"authz", "schema", "cdc"}, linked: true},
	{pkg: "authz/rls", ours: []string{"authz", "schema", "cdc"}, tests: []string{"schema/introspect", "cdc/pgoutput", "cdc/fold"}, linked: true},

	{pkg: "fanout/bus", ours: []string{"cdc"}, outside: none, linked: true},
	{pkg: "fanout/bus/bustest", ours: []string{"fanout/bus", "cdc"}},
	{pkg: "fanout/bus/membus", ours: []string{"fanout/bus", "cdc"}, tests: []string{"fanout/bus/bustest"}, linked: true},
	{pkg: "fanout", ours: []string{"fanout/bus", "authz", "schema", "cdc"}, tests: []string{"fanout/bus/membus"}, linked: true},
	{pkg: "fanout/graphqlws", ours: []string{"fanout", "authz", "schema", "cdc"}, tests: []string{"fanout/bus", "fanout/bus/membus"}, linked: true},
	{pkg: "fanout/graphqlhttp", ours: []string{"fanout", "authz", "schema", "cdc"}, tests: []string{"fanout/bus", "fanout/bus/membus"}, linked: true},

	{pkg: "migrations", ours: []string{"cdc", "schema"}, outside: []string{"github.com/jackc/pgx/v5", "github.com/jackc/pgerrcode", "github.com/golang-migrate/migrate/v4"}, linked: true},
	{pkg: "internal/doctor", ours: []string{"migrations", "authz/rls", "authz", "schema", "schema/annotation", "schema/introspect", "cdc"}, linked: true},
	{pkg: "internal/explain", ours: []string{"fanout", "authz", "authz/rls", "schema", "cdc"}, linked: true},
	{pkg: "testcontainers", outside: none, linked: true},
	{pkg: "internal/client", linked: true},
	{pkg: "internal/progress", outside: []string{"golang.org/x/term"}, linked: true},
	{pkg: "internal/livetable", outside: []string{"golang.org/x/text"}, linked: true},
	{pkg: "console", outside: none, tests: []string{"*"}, linked: true},

	{pkg: ".", ours: []string{
		"cdc", "cdc/pgoutput", "cdc/replication", "cdc/fold",
		"schema", "schema/annotation", "schema/introspect", "authz", "authz/audit", "authz/jwt", "authz/rls",
		"fanout", "fanout/bus", "fanout/bus/membus", "fanout/graphqlws", "fanout/graphqlhttp", "migrations", "internal/doctor", "internal/explain", "console",
	}, tests: []string{"*"}, linked: true},
	{pkg: "bench", ours: []string{".", "authz/jwt", "internal/client", "testcontainers"}, tests: []string{"*"}, linked: true},
	{pkg: "internal/demo", ours: []string{".", "authz/jwt", "internal/progress", "testcontainers"}, tests: []string{"*"}, linked: true},
	{pkg: "cmd/rowtide", ours: []string{"*"}, tests: []string{"*"}, linked: true},

	{pkg: "testcontainers/pgtest", ours: []string{"testcontainers"}},
	{pkg: "internal/feedtest", ours: []string{"cdc", "schema", "testcontainers/pgtest"}},
	{pkg: "internal/findpg", ours: []string{"testcontainers"}, outside: none},
	{pkg: "internal/arch", outside: none},
}

// exceptions are the arrows from a parent to its subpackage that DESIGN allows.
var exceptions = map[[2]string]bool{{"fanout", "fanout/bus"}: true}
