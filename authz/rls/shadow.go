package rls

import "github.com/rowtide/rowtide/authz"

// Stats are counts since the start.
type Stats struct {
	// Differences are the images on which Postgres and a faster way disagreed (Config.Shadow).
	Differences uint64
	// Suspended are the roles' policies, and principals, that are not evaluated for a while
	// because they failed; at present.
	Suspended int
	// Sets is of the tables that policies ask.
	Sets SetStats
}

// Stats gives the counts.
func (g *Postgres) Stats() Stats {
	return Stats{Differences: g.differ.Load(), Suspended: g.breakers.suspensions(), Sets: g.keeps.stats()}
}

// reconcile compares what Postgres decided with what was decided in process. An image on which
// they differ is shown to nobody; where Postgres could not tell, it was not needed.
func (g *Postgres) reconcile(j *judgement, t *task) {
	shown, hidden := 0, 0
	for _, i := range t.images {
		fast, asked := t.fast[i], t.out[i]
		switch {
		case fast == authz.Undecided || fast == asked:
			continue
		case asked == authz.Undecided:
			t.out[i] = fast
			continue
		case fast == authz.Visible:
			shown++
		default:
			hidden++
		}
		t.out[i] = authz.Hidden
	}
	for reason, n := range map[string]int{"shadow_in_process_visible": shown, "shadow_postgres_visible": hidden} {
		if n > 0 {
			g.differ.Add(uint64(n))
			j.audit.add(t, authz.EventDeny, reason, "", n)
		}
	}
}
