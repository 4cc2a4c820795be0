package fanout

import (
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

func keyed(columns ...schema.ColumnDef) *schema.Table {
	t := &schema.Table{}
	for i := range columns {
		t.Columns = append(t.Columns, &schema.Column{Def: &columns[i]})
		t.Key = append(t.Key, i)
	}
	return t
}

func ofType(oid uint32, bytes bool) schema.ColumnDef {
	return schema.ColumnDef{Type: &schema.Type{OID: oid}, CollationC: bytes}
}

func texts(values ...string) cdc.Row {
	var r cdc.Row
	for _, v := range values {
		r = append(r, cdc.TextValue(v))
	}
	return r
}

// TestKeysAreOrderedAsPostgresOrdersThem, or not at all.
func TestKeysAreOrderedAsPostgresOrdersThem(t *testing.T) {
	t.Parallel()
	const oidTimestamptz = 1184
	for name, c := range map[string]struct {
		table *schema.Table
		a, b  cdc.Row // a before b
	}{
		"numbers":            {keyed(ofType(oidInt8, false)), texts("9"), texts("10")},
		"negative numbers":   {keyed(ofType(oidInt4, false)), texts("-10"), texts("-9")},
		"text by bytes":      {keyed(ofType(oidText, true)), texts("B"), texts("a")},
		"uuid":               {keyed(ofType(oidUUID, false)), texts("00000000-0000-0000-0000-00000000000a"), texts("0000000a-0000-0000-0000-000000000000")},
		"the second decides": {keyed(ofType(oidInt4, false), ofType(oidText, true)), texts("7", "a"), texts("7", "b")},
		"the first decides":  {keyed(ofType(oidInt4, false), ofType(oidText, true)), texts("7", "z"), texts("8", "a")},
		"text by a language": {keyed(ofType(oidText, false)), nil, nil},
		"one of two unknown": {keyed(ofType(oidInt4, false), ofType(oidTimestamptz, false)), nil, nil},
	} {
		order := keyOrder(c.table)
		switch {
		case c.a == nil && order != nil:
			t.Errorf("%s: has an order", name)
		case c.a != nil && (order == nil || order(c.a, c.b) >= 0 || order(c.b, c.a) <= 0 || order(c.a, c.a) != 0):
			t.Errorf("%s: wrong order", name)
		}
	}
}

// TestACoverKnowsWhatItsPortionsSaw asks for transaction 105, which the second portion alone saw.
func TestACoverKnowsWhatItsPortionsSaw(t *testing.T) {
	t.Parallel()
	c := &cover{compare: keyOrder(keyed(ofType(oidInt4, false)))}
	c.add(portion{seen: cdc.Snapshot{Xmin: 100, Xmax: 100}, upTo: texts("5")})
	c.add(portion{seen: cdc.Snapshot{Xmin: 100, Xmax: 100}, upTo: texts("10")})
	c.add(portion{seen: cdc.Snapshot{Xmin: 110, Xmax: 110}, upTo: texts("20")})
	if len(c.portions) != 2 {
		t.Errorf("%d portions, want those of one snapshot to be one", len(c.portions))
	}
	if every, some := c.saw(99, 1); every || !some {
		t.Errorf("before all is read: every %v, some %v", every, some)
	}
	if c.sawFrame(&frame{image: texts("21"), xid: 99}) {
		t.Error("a key that was not read yet was seen")
	}
	c.add(portion{seen: cdc.Snapshot{Xmin: 110, Xmax: 110}})
	for xid, want := range map[uint32][2]bool{99: {true, true}, 105: {false, true}, 111: {false, false}} {
		if every, some := c.saw(xid, 1); every != want[0] || some != want[1] {
			t.Errorf("transaction %d: every %v, some %v", xid, every, some)
		}
	}
	for key, want := range map[string]bool{"-3": false, "10": false, "11": true, "20": true, "99": true} {
		if got := c.sawFrame(&frame{image: texts(key), xid: 105}); got != want {
			t.Errorf("key %s: seen %v", key, got)
		}
	}
}

// TestPortionsAreSharedByWhoMayUseThem: a portion has every transaction up to its base, so whoever
// starts behind that needs another.
func TestPortionsAreSharedByWhoMayUseThem(t *testing.T) {
	t.Parallel()
	var p portions
	done := p.use()
	key := portionKey{role: "r"}
	at := func(lsn cdc.LSN) cdc.Position { return cdc.Position{Commit: lsn, Seq: cdc.EndOfTransaction} }
	first, mine := p.join(key, at(5))
	if !mine {
		t.Fatal("nobody reads it yet")
	}
	if c, mine := p.join(key, at(7)); mine || c != first {
		t.Error("whoever comes before it begins joins")
	}
	p.begin(first, at(8))
	if c, mine := p.join(key, at(8)); mine || c != first {
		t.Error("whoever starts at its base joins")
	}
	if _, mine := p.join(portionKey{role: "s"}, at(8)); !mine {
		t.Error("another role reads by itself")
	}
	later, mine := p.join(key, at(9))
	if !mine {
		t.Fatal("whoever starts behind its base reads anew")
	}
	first.bytes = 1
	p.end(first)
	p.begin(later, at(9))
	later.bytes = keptPortions
	p.end(later)
	if p.bytes > keptPortions || p.reading[key] != later {
		t.Errorf("%d bytes are kept", p.bytes)
	}
	done()
	if len(p.reading) != 0 || p.bytes != 0 {
		t.Error("nobody needs them any more, and they are kept")
	}
}

// TestAnIDThatIsGivenAnewWasNotSeen: after a crash PostgreSQL gives the ids of transactions anew
// that left no trace in the WAL. A snapshot from before takes them for those it saw end.
//
// Covers C42.
func TestAnIDThatIsGivenAnewWasNotSeen(t *testing.T) {
	t.Parallel()
	c := &cover{}
	c.add(portion{seen: cdc.Snapshot{Xmin: 100, Xmax: 100, End: 5000}})
	for commit, want := range map[cdc.LSN]bool{4999: true, 5000: false, 6000: false} {
		if every, _ := c.saw(99, commit); every != want {
			t.Errorf("committed at %d: seen %v", commit, every)
		}
		if this := c.sawFrame(&frame{xid: 99, pos: cdc.Position{Commit: commit}}); this != want {
			t.Errorf("a frame committed at %d: seen %v", commit, this)
		}
	}
	if c.past(99, 4999) || !c.past(99, 5000) {
		t.Error("what was seen ends where the WAL ended")
	}
}
