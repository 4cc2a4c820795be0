package pgoutput_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/pgoutput"
)

// A frame is a message being written, as src/backend/replication/logical/proto.c writes it.
type frame []byte

func (f frame) u8(b byte) frame    { return append(f, b) }
func (f frame) u16(n int) frame    { return binary.BigEndian.AppendUint16(f, uint16(n)) }
func (f frame) u32(n uint32) frame { return binary.BigEndian.AppendUint32(f, n) }
func (f frame) u64(n uint64) frame { return binary.BigEndian.AppendUint64(f, n) }
func (f frame) str(s string) frame { return append(append(f, s...), 0) }

func begin(xid uint32, commit cdc.LSN, us int64) frame {
	return frame{'B'}.u64(uint64(commit)).u64(uint64(us)).u32(xid)
}

func commit(at, end cdc.LSN, us int64) frame {
	return frame{'C', 0}.u64(uint64(at)).u64(uint64(end)).u64(uint64(us))
}

func origin(at cdc.LSN, name string) frame { return frame{'O'}.u64(uint64(at)).str(name) }

func logical(flags byte, at cdc.LSN, prefix, content string) frame {
	return append(frame{'M', flags}.u64(uint64(at)).str(prefix).u32(uint32(len(content))), content...)
}

func relation(r *cdc.Relation) frame {
	schema := r.Schema
	if schema == "pg_catalog" {
		schema = ""
	}
	f := frame{'R'}.u32(r.OID).str(schema).str(r.Name).u8(byte(r.Identity)).u16(len(r.Columns))
	for _, c := range r.Columns {
		var flags byte
		if c.Identity {
			flags = 1
		}
		f = f.u8(flags).str(c.Name).u32(c.Type).u32(uint32(c.Modifier))
	}
	return f
}

func truncate(options byte, oids ...uint32) frame {
	f := frame{'T'}.u32(uint32(len(oids))).u8(options)
	for _, oid := range oids {
		f = f.u32(oid)
	}
	return f
}

// An image is a tuple on the wire and what it is introduced with: N, O or K.
type image struct {
	kind byte
	row  cdc.Row
}

// change writes an insert, update or delete. An Absent value goes out as NULL, as the server
// does it in key-only images.
func change(op byte, oid uint32, images ...image) frame {
	f := frame{op}.u32(oid)
	for _, im := range images {
		f = f.u8(im.kind).u16(len(im.row))
		for _, v := range im.row {
			switch v.Kind() {
			case cdc.Null, cdc.Absent:
				f = f.u8('n')
			case cdc.Unchanged:
				f = f.u8('u')
			case cdc.Text:
				f = append(f.u8('t').u32(uint32(len(v.Text()))), v.Text()...)
			}
		}
	}
	return f
}

func text(s string) cdc.Value { return cdc.TextValue(s) }

func row(vs ...cdc.Value) cdc.Row { return vs }

// users is a table with a key and three other columns.
func users(identity cdc.Identity) *cdc.Relation {
	r := &cdc.Relation{OID: 16385, Schema: "public", Name: "users", Identity: identity, Columns: []cdc.Column{
		{Name: "id", Type: 20, Modifier: -1, Identity: true},
		{Name: "name", Type: 25, Modifier: -1},
		{Name: "bio", Type: 25, Modifier: -1},
		{Name: "price", Type: 1700, Modifier: 655366},
	}}
	if identity == cdc.IdentityFull {
		for i := range r.Columns {
			r.Columns[i].Identity = true
		}
	}
	return r
}

// decoder gives a decoder that has followed frames.
func decoder(t testing.TB, frames ...frame) *pgoutput.Decoder {
	t.Helper()
	d := pgoutput.NewDecoder()
	for _, f := range frames {
		decode(t, d, f)
	}
	return d
}

// decode decodes one frame and then overwrites its bytes, so that whatever still points into
// them is seen to be wrong.
func decode(t testing.TB, d *pgoutput.Decoder, f frame) pgoutput.Message {
	t.Helper()
	data := append([]byte(nil), f...)
	m, err := d.Decode(data)
	for i := range data {
		data[i] = 0xA5
	}
	if err != nil {
		t.Fatalf("decode %q: %v", []byte(f), err)
	}
	return kept(m)
}

// kept is a message that outlives the next call of Decode.
func kept(m pgoutput.Message) pgoutput.Message {
	if c, ok := m.(*pgoutput.Change); ok {
		return &pgoutput.Change{Event: c.Event}
	}
	return m
}

// instant is the time of us microseconds after PostgreSQL's epoch.
func instant(us int64) time.Time {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(us) * time.Microsecond)
}
