package pgoutput_test

import (
	"encoding/binary"
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/pgoutput"
)

// FuzzDecode feeds whole streams: frames with a length of two bytes before each. The decoder
// must survive them all, and what it accepts must be what the relations allow.
//
// Covers C70.
func FuzzDecode(f *testing.F) {
	for _, stream := range goldenStreams(f) {
		f.Add(join(stream))
	}
	rel := users(cdc.IdentityFull)
	f.Add(join([]frame{
		begin(7, 900, 1), relation(rel), origin(5, "o"), logical(1, 2, "p", "c"),
		change('U', rel.OID, image{'O', row(text("1"), text("a"), text("b"), text("c"))}, image{'N', row(text("1"), cdc.Value{}, cdc.UnchangedValue(), text("d"))}),
		truncate(3, rel.OID), commit(900, 930, 1),
		{'A', 0, 0, 0, 1, 0, 0, 0, 1},
	}))
	// Lengths and counts that go past the end of their frame.
	for _, damaged := range []frame{
		frame{'M', 0}.u64(5).str("p").u32(1 << 31),
		frame{'I'}.u32(rel.OID).u8('N').u16(4).u8('t').u32(1 << 31),
		frame{'I'}.u32(rel.OID).u8('N').u16(4).u8('t'),
		frame{'R'}.u32(1).str("s").u8('t'),
		frame{'T'}.u32(1 << 31).u8(0).u32(rel.OID),
		begin(7, 900, 1)[:5],
	} {
		f.Add(join([]frame{begin(7, 900, 1), relation(rel), damaged}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := pgoutput.NewDecoder()
		for _, frame := range split(data) {
			m, err := d.Decode(frame)
			if err != nil {
				if m != nil {
					t.Fatalf("an error and a message: %v, %#v", err, m)
				}
				_ = err.Error()
				return
			}
			checkShape(t, m)
		}
	})
}

// checkShape holds what every consumer relies on.
func checkShape(t *testing.T, m pgoutput.Message) {
	t.Helper()
	switch m := m.(type) {
	case *pgoutput.Change:
		if m.Relation == nil {
			t.Fatal("change without a relation")
		}
		for _, image := range []cdc.Row{m.Old, m.New} {
			if image != nil && len(image) != len(m.Relation.Columns) {
				t.Fatalf("image of %d columns for a relation of %d", len(image), len(m.Relation.Columns))
			}
		}
		hasOld, hasNew := m.Old != nil, m.New != nil
		switch m.Op {
		case cdc.Insert:
			if hasOld || !hasNew {
				t.Fatalf("insert with old %t, new %t", hasOld, hasNew)
			}
		case cdc.Update:
			if !hasNew {
				t.Fatal("update without a new image")
			}
		case cdc.Delete:
			if !hasOld || hasNew {
				t.Fatalf("delete with old %t, new %t", hasOld, hasNew)
			}
		case cdc.Truncate, cdc.Gap:
			t.Fatalf("change of kind %s", m.Op)
		}
	case *pgoutput.Truncate:
		for _, r := range m.Relations {
			if r == nil {
				t.Fatal("truncate of no relation")
			}
		}
	}
}

func join(stream []frame) []byte {
	var out []byte
	for _, f := range stream {
		if len(f) <= 0xFFFF {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(f))), f...)
		}
	}
	return out
}

func split(data []byte) [][]byte {
	var out [][]byte
	for len(data) >= 2 {
		n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
		out = append(out, data[2:2+n])
		data = data[2+n:]
	}
	return out
}
