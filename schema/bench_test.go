package schema_test

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rowtide/rowtide/schema"
)

// thousand is a database of 1,000 annotated tables of 12 columns, for three roles.
func thousand() schema.Database {
	status := &schema.Type{OID: 20_000, Schema: "public", Name: "status", Kind: 'e', Labels: []string{"open", "done"}}
	out := schema.Database{Version: 150018, Roles: []string{"reader", "clerk", "visitor"}, Schemas: []string{"public"}}
	for n := range 1000 {
		d := table(uint32(1000+n), fmt.Sprintf("things_of_kind_%d", n),
			column("id", typ("int8")), column("title", typ("text")), column("is_done", typ("bool")), column("due", typ("timestamptz")),
			column("tags", array(typ("text"))), column("data", typ("jsonb")), column("price", typ("numeric")), column("status", status),
			column("owner_id", typ("uuid")), column("created_at", typ("timestamptz")), column("weight", typ("float8")), column("note", typ("text")))
		d.Comment, d.Directives.Description = "@subscribe", "One thing of its kind."
		for _, role := range out.Roles {
			d.Access[role] = d.Access["reader"]
		}
		out.Tables = append(out.Tables, d)
	}
	return out
}

// cpu is the CPU time of the process so far; it hardly depends on what else runs on the machine.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func reportCPU(b *testing.B, before time.Duration) {
	b.Helper()
	b.ReportMetric((cpu(b)-before).Seconds()*1000/float64(b.N), "CPU-ms/op")
}

func BenchmarkNewOfAThousandTables(b *testing.B) {
	b.ReportAllocs()
	defer reportCPU(b, cpu(b))
	for b.Loop() {
		if _, problems := schema.New(thousand(), schema.Options{}); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}

// What a change of one table costs: of its policies, or of its columns as one role sees them.
func BenchmarkChangeAmongAThousandTables(b *testing.B) {
	db := thousand()
	before, _ := schema.New(db, schema.Options{})
	for name, change := range map[string]func(d *schema.TableDef){
		"policy": func(d *schema.TableDef) { d.Policies = []schema.Policy{{Name: "p", Permissive: true, Using: "true"}} },
		"column": func(d *schema.TableDef) { d.Columns[1].Name = "heading" },
	} {
		b.Run(name, func(b *testing.B) {
			db := db
			db.Tables = slices.Clone(db.Tables)
			db.Tables[500].Columns = slices.Clone(db.Tables[500].Columns)
			change(&db.Tables[500])
			b.ReportAllocs()
			defer reportCPU(b, cpu(b))
			for b.Loop() {
				if _, problems := schema.New(db, schema.Options{Previous: before}); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}

// The memory that a catalog of 1,000 tables and three roles keeps.
func BenchmarkMemoryOfAThousandTables(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c, _ := schema.New(thousand(), schema.Options{})
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
		runtime.KeepAlive(c)
	}
}

func BenchmarkCompileAmongAThousandTables(b *testing.B) {
	c, _ := schema.New(thousand(), schema.Options{})
	role := c.Role("reader")
	req := schema.Request{Query: `subscription ($done: Boolean) { thingsOfKind7(where: {isDone: {eq: $done}, title: {like: "a%"}}, snapshot: true) {
		kind rowId cursor row { id title isDone due tags status } old { title } } }`, Variables: []byte(`{"done": false}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := role.Compile(req); err != nil {
			b.Fatal(err)
		}
	}
}
