package rls_test

import (
	"fmt"
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
)

// BenchmarkJudge tells judgements a second by the number of images and principals of a
// question, for an attribute and for a membership policy.
func BenchmarkJudge(b *testing.B) {
	w := newWorld(b, 1, `CREATE TABLE own (id int PRIMARY KEY, owner text, body text); ALTER TABLE own ENABLE ROW LEVEL SECURITY; GRANT SELECT ON own TO {0};
		CREATE POLICY p ON own USING (`+me+`);
		CREATE TABLE member (team int, who text, PRIMARY KEY (who, team)); INSERT INTO member SELECT g % 100, 'u' || g % 1000 FROM generate_series(1, 10000) g ON CONFLICT DO NOTHING; GRANT SELECT ON member TO {0};
		CREATE TABLE team (id int PRIMARY KEY, team int, body text); ALTER TABLE team ENABLE ROW LEVEL SECURITY; GRANT SELECT ON team TO {0};
		CREATE POLICY p ON team USING (team IN (SELECT m.team FROM member m WHERE m.who = (current_setting('request.jwt.claims', true)::json ->> 'sub')))`)
	xid := w.settled(b)
	compiler := w.newJudge(b, func(c *rls.Config) { c.Compile = true })
	for _, name := range []string{"own", "team"} {
		tab := w.table(b, name)
		for _, size := range [][2]int{{1, 1}, {1, 20}, {10, 20}, {100, 20}, {1000, 20}, {10, 1000}} {
			q := authz.Question{XID: xid, Table: tab}
			for i := range size[0] {
				second := fmt.Sprintf("u%d", i%20)
				if name == "team" {
					second = fmt.Sprint(i % 100)
				}
				q.Images = append(q.Images, []cdc.Row{texts(fmt.Sprint(i), second, "some text of a usual length, with a few words")}...)
			}
			for i := range size[1] {
				q.Principals = append(q.Principals, w.as(0, fmt.Sprintf(`{"sub":"u%d"}`, i)))
			}
			for way, judge := range map[string]*rls.Postgres{"postgres": w.judge, "compiled": compiler} {
				if name == "team" && way == "compiled" {
					continue
				}
				b.Run(fmt.Sprintf("%s/%s/images=%d/principals=%d", name, way, size[0], size[1]), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := judge.Judge(b.Context(), q); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.N*size[0]*size[1])/b.Elapsed().Seconds(), "judgements/s")
				})
			}
		}
	}
}
