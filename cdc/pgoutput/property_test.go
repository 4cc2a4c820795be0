package pgoutput_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/pgoutput"
)

// A script is a random stream that a server could send, and what it means.
type script struct {
	frames []frame
	want   []pgoutput.Message

	relations map[uint32]*cdc.Relation
	lsn       cdc.LSN
}

func (s *script) add(f frame, m pgoutput.Message) {
	s.frames = append(s.frames, f)
	s.want = append(s.want, m)
}

func drawScript(t *rapid.T) *script {
	s := &script{want: []pgoutput.Message{}, relations: map[uint32]*cdc.Relation{}, lsn: cdc.LSN(rapid.Uint64Range(1, 1<<63).Draw(t, "lsn"))}
	for range rapid.IntRange(0, 4).Draw(t, "transactions") {
		s.transaction(t)
	}
	return s
}

func (s *script) transaction(t *rapid.T) {
	s.lsn += cdc.LSN(rapid.Uint32Range(1, 1<<20).Draw(t, "step"))
	at, xid, us := s.lsn, rapid.Uint32().Draw(t, "xid"), rapid.Int64Range(-1e14, 1e14).Draw(t, "time")
	s.add(begin(xid, at, us), &pgoutput.Begin{XID: xid, Commit: at, Time: instant(us)})
	for range rapid.IntRange(0, 8).Draw(t, "messages") {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			s.describe(t)
		case 1:
			s.truncate(t)
		case 2:
			prefix, content := rapid.StringMatching(`[a-z./]*`).Draw(t, "prefix"), rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "content")
			flags := byte(rapid.IntRange(0, 1).Draw(t, "flags"))
			s.add(logical(flags, at, prefix, string(content)), &pgoutput.Logical{Transactional: flags == 1, LSN: at, Prefix: prefix, Content: append([]byte{}, content...)})
		default:
			s.change(t)
		}
	}
	end := at + cdc.LSN(rapid.Uint32Range(1, 100).Draw(t, "length"))
	s.add(commit(at, end, us), &pgoutput.Commit{Commit: at, End: end, Time: instant(us)})
	s.lsn = end
}

func (s *script) describe(t *rapid.T) {
	r := &cdc.Relation{
		OID:      rapid.Uint32Range(1, 5).Draw(t, "oid"),
		Schema:   rapid.SampledFrom([]string{"public", "pg_catalog", `o"dd`}).Draw(t, "schema"),
		Name:     rapid.StringMatching(`[a-z_é]{1,5}`).Draw(t, "name"),
		Identity: rapid.SampledFrom([]cdc.Identity{'d', 'n', 'f', 'i'}).Draw(t, "identity"),
		Columns:  []cdc.Column{},
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "columns") {
		r.Columns = append(r.Columns, cdc.Column{
			Name: fmt.Sprintf("c%d", i), Type: rapid.Uint32().Draw(t, "type"), Modifier: rapid.Int32().Draw(t, "modifier"),
			Identity: r.Identity == 'f' || rapid.Bool().Draw(t, "key"),
		})
	}
	s.relations[r.OID] = r
	s.add(relation(r), &pgoutput.Relation{Relation: r})
}

func (s *script) truncate(t *rapid.T) {
	if len(s.relations) == 0 {
		return
	}
	oids := slices.Sorted(maps.Keys(s.relations))
	want := &pgoutput.Truncate{}
	for _, oid := range oids {
		want.Relations = append(want.Relations, s.relations[oid])
	}
	options := byte(rapid.IntRange(0, 3).Draw(t, "options"))
	want.Cascade, want.RestartIdentity = options&1 != 0, options&2 != 0
	s.add(truncate(options, oids...), want)
}

// change writes what the server would for a row that had some value before and has another
// after, and expects what a reader who knew both would say of it.
func (s *script) change(t *rapid.T) {
	if len(s.relations) == 0 {
		s.describe(t)
	}
	r := s.relations[rapid.SampledFrom(slices.Sorted(maps.Keys(s.relations))).Draw(t, "table")]
	before, after := drawRow(t, r), drawRow(t, r)
	wire := slices.Clone(after)
	var known cdc.Row // what the stream says of the row before
	var images []image
	switch rapid.SampledFrom([]byte("-KO")).Draw(t, "old") {
	case 'K':
		known = slices.Clone(before)
		for i := range known {
			if !r.Columns[i].Identity {
				known[i] = cdc.AbsentValue()
			}
		}
		images = append(images, image{'K', known})
	case 'O':
		known = before
		images = append(images, image{'O', known})
	}
	switch op := rapid.SampledFrom([]cdc.Op{cdc.Insert, cdc.Update, cdc.Delete}).Draw(t, "op"); {
	case op == cdc.Delete && known != nil:
		s.add(change('D', r.OID, images[0]), &pgoutput.Change{Event: cdc.Event{Op: op, Relation: r, Old: known}})
	case op == cdc.Update:
		for i := range after {
			if rapid.IntRange(0, 3).Draw(t, "unchanged") > 0 {
				continue
			}
			wire[i], after[i] = cdc.UnchangedValue(), cdc.UnchangedValue()
			if known != nil && known[i].Known() {
				after[i] = before[i]
			}
		}
		s.add(change('U', r.OID, append(images, image{'N', wire})...), &pgoutput.Change{Event: cdc.Event{Op: op, Relation: r, Old: known, New: after}})
	default:
		s.add(change('I', r.OID, image{'N', wire}), &pgoutput.Change{Event: cdc.Event{Op: cdc.Insert, Relation: r, New: after}})
	}
}

func drawRow(t *rapid.T, r *cdc.Relation) cdc.Row {
	out := make(cdc.Row, len(r.Columns))
	for i := range out {
		if rapid.IntRange(0, 3).Draw(t, "null") > 0 {
			out[i] = cdc.TextValue(string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "text")))
		}
	}
	return out
}

// Covers C45, C47, C48, C52.
func TestAnyStreamDecodesToWhatWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		d := pgoutput.NewDecoder()
		got := make([]pgoutput.Message, 0, len(s.frames))
		for _, f := range s.frames {
			data := slices.Clone(f)
			m, err := d.Decode(data)
			if err != nil {
				t.Fatalf("decode %q: %v", []byte(f), err)
			}
			clear(data) // nothing may point into it
			got = append(got, kept(m))
		}
		if diff := cmp.Diff(s.want, got, equalValues()); diff != "" {
			t.Fatalf("stream differs (-want +got):\n%s", diff)
		}
	})
}

// Covers C70.
func TestDamagedStreamIsAnErrorOrAMessageButNoPanic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawScript(t)
		if len(s.frames) == 0 {
			return
		}
		hit := rapid.IntRange(0, len(s.frames)-1).Draw(t, "frame")
		f := slices.Clone(s.frames[hit])
		whole := len(f)
		switch at := rapid.IntRange(0, len(f)-1).Draw(t, "at"); rapid.IntRange(0, 2).Draw(t, "damage") {
		case 0:
			f = f[:at]
		case 1:
			f[at] ^= rapid.ByteRange(1, 255).Draw(t, "flip")
		case 2:
			f = slices.Insert(f, at, rapid.Byte().Draw(t, "extra"))
		}
		d := pgoutput.NewDecoder()
		for i := range hit {
			if _, err := d.Decode(s.frames[i]); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := d.Decode(f); err == nil && len(f) < whole {
			t.Fatalf("a cut-off frame %q was decoded as %#v", []byte(f), m)
		}
	})
}
