package rowtide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/fold"
	"github.com/rowtide/rowtide/cdc/pgoutput"
	"github.com/rowtide/rowtide/cdc/replication"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/schema"
)

// A feed carries committed transactions from the bytes of the WAL to the bus: decode, fold,
// publish, and only then let the slot move. It has no goroutine of its own: the consumer's
// calls it.
type feed struct {
	bus      bus.Bus
	progress *replication.Progress
	catalog  *atomic.Pointer[schema.Catalog]
	verify   func(content []byte, xid uint32) bool // of a logical message in our prefix

	decoder *pgoutput.Decoder
	folder  *fold.Folder
	xid     uint32
	log     *slog.Logger
	// unsettled are transactions that were open at the start, and where they were found to have
	// ended, 0 while they have not. Guarded by mu.
	unsettled map[uint32]cdc.LSN
	// promised is when a position was last published while nothing happened.
	promised time.Time

	mu   sync.Mutex
	last published
}

// A published is how far a feed has come.
type published struct {
	commit       cdc.LSN
	delay        time.Duration // from the commit to its publication, by two clocks
	transactions uint64
}

func (f *feed) published() published {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// messagePrefix is the prefix of Rowtide's own logical messages. Any login can write one, so
// each is verified.
const messagePrefix = "rowtide"

func newFeed(cfg Config, b bus.Bus, p *replication.Progress, catalog *atomic.Pointer[schema.Catalog], verify func([]byte, uint32) bool, asked func() []uint32) (*feed, error) {
	f := &feed{bus: b, progress: p, catalog: catalog, verify: verify, decoder: pgoutput.NewDecoder(), log: cfg.Logger}
	var err error
	f.folder, err = fold.New(fold.Config{Key: f.key, Ahead: asked, SpillDir: cfg.SpillDir, SpillBytes: cfg.SpillBytes})
	if err != nil {
		return nil, fmt.Errorf("--spill-dir: %w", err)
	}
	return f, nil
}

// close frees the files of a transaction that was cut off.
func (f *feed) close() { f.folder.Close() }

// Reset forgets the relations, which the server describes anew. An unfinished transaction is
// forgotten at the next Begin.
//
// The first start is made known to the bus, so that there is a position, and with it a cursor,
// before anything is written. It lies one byte before the place where the stream goes on: the
// next record may be the commit of a transaction that had begun before, at that very place.
func (f *feed) Reset(start cdc.LSN) {
	f.decoder = pgoutput.NewDecoder()
	if _, newest := f.bus.Window(); !newest.IsZero() {
		return
	}
	at := start - 1
	// The bus is empty, so this waits for nobody.
	err := f.bus.Publish(context.Background(), &cdc.Batch{Transaction: cdc.Transaction{Commit: at, End: start}, Last: true})
	if err != nil {
		f.log.Error("the start of the stream is not on the bus", "error", err)
	}
}

// Lost tells of a hole in the window in front of at: cursors from before it start over.
func (f *feed) Lost(ctx context.Context, at cdc.LSN) error {
	if _, newest := f.bus.Window(); newest.Commit >= at-1 {
		return nil // it has come so far
	}
	return f.gap(ctx, at, "retention")
}

// Handle takes one message of the stream. When it returns from a commit, the bus holds the
// transaction.
func (f *feed) Handle(ctx context.Context, data []byte) error {
	m, err := f.decoder.Decode(data)
	if err != nil {
		return fmt.Errorf("decode change stream: %w", err)
	}
	switch m := m.(type) {
	case *pgoutput.Begin:
		f.xid = m.XID
		f.began(m.XID)
		f.folder.Begin()
	case *pgoutput.Change:
		f.folder.Add(m.Event)
		return f.folder.Err()
	case *pgoutput.Truncate:
		f.folder.Truncate(m.Relations...)
	case *pgoutput.Logical:
		if m.Transactional && m.Prefix == messagePrefix && f.verify(m.Content, f.xid) {
			f.folder.Message(cdc.Message{Prefix: m.Prefix, Content: m.Content})
		}
	case *pgoutput.Commit:
		return f.commit(ctx, m)
	}
	return nil
}

func (f *feed) commit(ctx context.Context, c *pgoutput.Commit) error {
	tx := cdc.Transaction{XID: f.xid, Commit: c.Commit, End: c.End, Time: c.Time}
	err := f.folder.Finish(ctx, tx, func(b *cdc.Batch) error { return f.bus.Publish(ctx, b) })
	if errors.Is(err, bus.ErrOrder) {
		// A transaction whose first part is on the bus does not come again: the server that
		// goes on never had it.
		err = f.gap(ctx, c.Commit+1, reasonTimeline)
	}
	if err != nil {
		return fmt.Errorf("publish transaction at %s: %w", c.Commit, err)
	}
	f.progress.Held(c.End)
	f.mu.Lock()
	f.last = published{c.Commit, time.Since(c.Time), f.last.transactions + 1}
	f.mu.Unlock()
	f.log.Debug("published", "commit", c.Commit, "xid", f.xid)
	return nil
}

// key tells the fold the key columns of a relation, or nil for one that is not served.
func (f *feed) key(rel *cdc.Relation) []int {
	t := f.catalog.Load().Table(rel.OID)
	if t == nil {
		return nil
	}
	key := make([]int, 0, len(t.Key))
	for _, i := range t.Key {
		c := rel.Column(t.Columns[i].Def.Name)
		if c < 0 {
			return nil
		}
		key = append(key, c)
	}
	return key
}
