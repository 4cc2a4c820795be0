package rls

import (
	"cmp"
	"slices"
	"sync"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// A tally gathers what a judgement has to audit, so that a thousand images that one policy
// fails on are one record.
type tally struct {
	to    authz.Auditor
	table string

	mu     sync.Mutex
	counts map[tallyKey]int
}

type tallyKey struct {
	role, subject    string
	event            authz.Event
	reason, sqlstate string
}

func newTally(to authz.Auditor, t *schema.Table) *tally {
	return &tally{to: to, table: tableName(t)}
}

func tableName(t *schema.Table) string { return t.Def.Schema + "." + t.Def.Name }

func (y *tally) add(t *task, event authz.Event, reason, sqlstate string, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.counts == nil {
		y.counts = map[tallyKey]int{}
	}
	p := t.as.principal
	y.counts[tallyKey{p.Role, p.Subject, event, reason, sqlstate}] += n
}

// flush writes the records, in an order that does not change from run to run.
func (y *tally) flush() {
	y.mu.Lock()
	defer y.mu.Unlock()
	records := make([]authz.Record, 0, len(y.counts))
	for k, n := range y.counts {
		records = append(records, authz.Record{
			Event: k.event, Role: k.role, Subject: k.subject, Table: y.table, Reason: k.reason, SQLState: k.sqlstate, Count: n,
		})
	}
	slices.SortFunc(records, func(a, b authz.Record) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.SQLState, b.SQLState))
	})
	for _, r := range records {
		y.to.Record(r)
	}
}
