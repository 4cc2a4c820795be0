package feedtest

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestWhatAWriterDoesFollowsFromTheSeed(t *testing.T) {
	t.Parallel()
	planned := func(seed uint64) []statement {
		p := newPlan(rand.New(rand.NewPCG(seed, 0)), 1000)
		p.transaction(true)
		return p.statements
	}
	all := cmp.AllowUnexported(statement{})
	if diff := cmp.Diff(planned(3), planned(3), all); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(planned(3), planned(4), all) {
		t.Error("two seeds give the same")
	}
}

// Many plans have everything that the Workload promises.
func TestTransactionsAreOfAllKindsAndSizes(t *testing.T) {
	t.Parallel()
	small, large, total := 0, 0, 0
	met := map[string]int{"TRUNCATE": 0, "ROLLBACK TO": 0, "RELEASE": 0, "DO UPDATE": 0, "SET id =": 0, "SET region =": 0, "title = title": 0, "secret =": 0, "body =": 0, "BETWEEN": 0}
	for i := range uint64(2000) {
		p := newPlan(rand.New(rand.NewPCG(5, i)), 1000)
		p.transaction(true)
		n := len(p.statements)
		total += n
		if n <= 3 {
			small++
		}
		if n > 500 {
			large++
		}
		for _, s := range p.statements {
			for what := range met {
				if strings.Contains(s.sql, what) {
					met[what]++
				}
			}
		}
	}
	for what, n := range met {
		if n == 0 {
			t.Errorf("nothing has %q", what)
		}
	}
	if small < 200 || large < 20 || total < 40_000 {
		t.Errorf("%d small and %d large ones, %d statements in all", small, large, total)
	}
}

// Values out of line are in the workload: an update of another column does not repeat them.
func TestTheWorkloadHasValuesOutOfLine(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	fx := NewFixture(db.Role(t, "web_user"), db.Role(t, "web_reader"))
	db.Exec(t, fx.DDL())
	w := Workload{URL: db.Admin, Seed: 3, Changes: 1500}
	if err := w.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	stats, err := w.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := pgtest.One[int](t, db, "SELECT count(DISTINCT chunk_id) FROM "+toast(t, db, "documents")); n == 0 {
		t.Error("no value is out of line")
	}
	if stats.Changes < 1500 {
		t.Errorf("it did %+v", stats)
	}
}

func toast(t *testing.T, db *pgtest.DB, table string) string {
	t.Helper()
	return pgtest.One[string](t, db, "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = $1::text::regclass", table)
}

func TestFinishIsTheLastFrameOfEverySubscription(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	from, err := b.fx.Finish(t.Context(), b.source.Admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range b.run(t, from-1) {
		if len(s.Frames) != 1 || s.Frames[0].Kind != Truncate || s.Frames[0].Commit <= from {
			t.Errorf("%s receives %v behind %s", s.Subscription.Name, s.Frames, from)
		}
	}
}
