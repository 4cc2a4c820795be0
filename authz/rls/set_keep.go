package rls

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// keeps are the tables that are kept for policies' sub-selects: read once, in a snapshot, and
// brought up to date from the stream. It implements fanout.Follower together with Postgres.
//
// A table is kept with its history since some place in the stream. What a snapshot saw and what
// the stream brings are joined by transaction ids, never by places: a transaction that the
// snapshot saw goes into the history, but not once more into the rows. So, once the stream has
// passed every transaction that the snapshot saw, the table as of the end of any transaction in
// the history is known. A message of our own, written after the snapshot, tells when that is.
type keeps struct {
	g     *Postgres
	bound int // in bytes, of all tables

	loads chan struct{} // has a token for each table that is being read

	// life gives a context that ends with the service; cancel ends it.
	life   func() (context.Context, context.CancelFunc)
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// mu guards what follows, and all that is kept. It is taken inside Postgres.mu.
	mu      sync.RWMutex
	related *schema.Related // of the catalog in force
	tables  map[uint32]*kept
	// building are the tables of a catalog on its way to be in force.
	building map[uint32]*kept
	// now is the transaction at hand, end the last that was followed to its end.
	now, end cdc.LSN
	// told are the tables of which the first batch of the transaction at hand has told everything.
	told []uint32
	// recent are transactions that were followed and that a snapshot may not see yet.
	recent []followed
	bytes  int
	// marks tell when the history was where, each a second or more after the one before.
	marks []timeMark
	still bool // nothing is followed: see Still
	// moved is closed, and made anew, when end moves or a phase changes.
	moved chan struct{}
}

// A followed is a transaction that was followed.
type followed struct {
	xid    uint32
	commit cdc.LSN
}

// A timeMark is where the stream was at a time.
type timeMark struct {
	at     time.Time
	commit cdc.LSN
}

// A phase is how far a table is on its way to be kept.
type phase uint8

const (
	phaseLoading phase = iota
	phaseRead          // the stream has not passed what the snapshot saw
	phaseKept
	phaseRefused // Postgres is asked
	phaseGone    // it is that of another catalog: nothing is decided by it
)

// A keeping is a table that is being kept. Generations of the catalog share it while it is the
// same for them.
type keeping struct {
	phase phase
	why   string // it is refused
	rows  *rowSet
	// floor is the transaction from whose end on the history is whole.
	floor cdc.LSN
	// recorded are changes since floor that wait for the snapshot.
	recording bool
	recorded  []recordedChange
	barrier   uint32       // the transaction behind all that the snapshot saw
	seen      cdc.Snapshot // what that was
	turned    cdc.LSN      // where the table was last found to be kept, or not to be any more
	since     time.Time    // its reading began that has not failed, or the first that took too long
	cancel    context.CancelFunc
	bindings  map[*cdc.Relation][]int
}

type recordedChange struct {
	row    cdc.Row
	commit cdc.LSN
	xid    uint32
	n      int
}

func newKeeps(g *Postgres, bound int) *keeps {
	s := &keeps{g: g, bound: bound, tables: map[uint32]*kept{}, moved: make(chan struct{}), loads: make(chan struct{}, loadsAtOnce)}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.life = func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	return s
}

func (s *keeps) close() {
	s.cancel()
	s.wg.Wait()
}

// asking gives what to compile the sub-selects of a table's policies with; nil where they are not.
func (s *keeps) asking(t *schema.TableDef) *asking {
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.related == nil || t.Related == nil {
		return nil
	}
	keep := s.keep
	if t.Related != s.related { // another catalog's: Postgres would tell what holds now, which is of another moment
		keep = func(t *schema.TableDef) *kept { return &kept{def: t, keeping: &keeping{phase: phaseGone}} }
	}
	return &asking{keep: keep, path: s.g.cfg.Schemas, related: t.Related, outer: t}
}

func (s *keeps) keep(t *schema.TableDef) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.building == nil {
		return s.tables[t.OID]
	}
	k := s.building[t.OID]
	if k == nil {
		k = &kept{def: t}
		s.building[t.OID] = k
	}
	return k
}

// Use implements fanout.Follower.
func (g *Postgres) Use(c *schema.Catalog) { g.use(c.Tables()) }

func (g *Postgres) use(tables []*schema.Table) {
	s := g.keeps
	if s == nil {
		return
	}
	var related *schema.Related
	if len(tables) > 0 {
		related = tables[0].Def.Related
	}
	s.mu.Lock()
	if s.related == related {
		s.mu.Unlock()
		return
	}
	s.building, s.related = map[uint32]*kept{}, related
	s.mu.Unlock()
	var needed []*kept
	for _, t := range tables {
		for _, role := range slices.Sorted(maps.Keys(t.Def.Access)) { // so that the same is kept in the same order
			if p := g.plan(t, role).predicate; p != nil {
				needed = append(needed, p.kept...)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adopt(needed)
	s.moveLocked()
}

// adopt goes on with the tables that are needed: with those that are kept already, where nothing
// about them has changed, and reads the others.
func (s *keeps) adopt(needed []*kept) {
	old := s.tables
	s.tables, s.building = map[uint32]*kept{}, nil
	for _, k := range needed {
		if k.frozen {
			continue
		}
		k.frozen = true
		s.tables[k.def.OID] = k
		if was := old[k.def.OID]; was != nil && was.same(k) {
			k.keeping = was.keeping
			delete(old, k.def.OID)
			continue
		}
		k.keeping = &keeping{}
		s.load(k)
	}
	for _, k := range old {
		k.cancel()
		s.forget(k)
		k.phase = phaseGone
	}
}

// same tells whether rows that are kept for one may be kept for the other. They may not where changes did not
// come for a while.
func (k *kept) same(other *kept) bool {
	if !slices.Equal(k.columns, other.columns) || k.def.Publication != other.def.Publication || len(k.indexes) != len(other.indexes) {
		return false
	}
	for i := range k.indexes {
		if !slices.Equal(k.indexes[i], other.indexes[i]) {
			return false
		}
	}
	// TRUNCATE and VACUUM FULL make the table anew, and leave its columns as they are.
	anew := k.def.Storage != other.def.Storage
	return slices.EqualFunc(k.def.Columns, other.def.Columns, func(a, b schema.ColumnDef) bool {
		return a.Name == b.Name && a.Type.OID == b.Type.OID && (!anew || a.Version == b.Version)
	})
}

func (k *kept) size() int {
	if k.rows == nil {
		return 0
	}
	return k.rows.bytes
}

func (s *keeps) moveLocked() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// standing is what a predicate can be evaluated by for a question.
type standing uint8

const (
	standsNot standing = iota + 1 // Postgres is asked
	standsLost
	standsFast
)

// stand tells how a predicate stands for images of a transaction. The caller holds mu.
func (s *keeps) stand(p *predicate, commit cdc.LSN) standing {
	lost := false
	for _, k := range p.kept {
		switch {
		case k.phase == phaseGone:
			return standsLost
		case commit == 0 || k.phase == phaseRefused:
			return standsNot
		case k.phase != phaseKept && time.Since(k.since) > awaitMost:
			return standsNot
		case k.phase != phaseKept: // what Postgres says now would be of another moment
			lost = true
		}
	}
	if lost {
		return standsLost
	}
	for _, k := range p.kept {
		if commit <= k.floor || commit > s.end {
			return standsLost
		}
	}
	return standsFast
}

// awaitMost bounds the wait for tables to be kept, in which nothing is decided that they matter to:
// Postgres is asked then, until they are.
const awaitMost = 10 * time.Second

// Await implements fanout.Follower.
func (g *Postgres) Await(ctx context.Context, t *schema.Table, role string) error {
	p := g.keptBy(t, role)
	if p == nil {
		return nil
	}
	timer := time.NewTimer(awaitMost)
	defer timer.Stop()
	for {
		ready, moved := g.keeps.settled(p)
		if ready {
			return nil
		}
		select {
		case <-moved:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *keeps) settled(p *predicate) (bool, <-chan struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range p.kept {
		if k.phase < phaseKept {
			return false, s.moved
		}
	}
	return true, s.moved
}

// keptBy gives the predicate of a table's policies where it asks tables that are kept, else nil.
func (g *Postgres) keptBy(t *schema.Table, role string) *predicate {
	if g.keeps == nil {
		return nil
	}
	if p := g.plan(t, role).predicate; p != nil && len(p.kept) > 0 {
		return p
	}
	return nil
}

// Covers implements fanout.Follower.
func (g *Postgres) Covers(ctx context.Context, t *schema.Table, role string, commit cdc.LSN) (bool, error) {
	p := g.keptBy(t, role)
	if p == nil {
		return true, nil
	}
	s := g.keeps
	for {
		s.mu.RLock()
		end, moved := s.end, s.moved
		how := s.stand(p, commit)
		s.mu.RUnlock()
		if end >= commit {
			return how != standsLost, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

func (p *predicate) evaluation(principal *authz.Principal, b *bound) evaluation {
	return evaluation{
		role: principal.Role, settings: principal.Settings, ofPrincipal: b.values,
		rows: make([]cdc.Row, p.slots), cells: make([]datum, p.cells),
	}
}
