package pgoutput_test

import (
	"errors"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/pgoutput"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// equalValues lets cmp look into rows.
func equalValues() cmp.Option {
	return cmp.Comparer(func(a, b cdc.Value) bool { return a == b })
}

// Covers C73, C75, C58.
func TestEveryMessageIsDecodedWhole(t *testing.T) {
	t.Parallel()
	rel := users(cdc.IdentityDefault)
	far := &cdc.Relation{OID: 1, Schema: "pg_catalog", Name: "far", Identity: cdc.IdentityNothing, Columns: []cdc.Column{}}
	opening := []frame{begin(7, 900, 1), relation(rel), relation(far)}
	tests := []struct {
		name   string
		before []frame
		frame  frame
		want   pgoutput.Message
	}{
		{"begin", nil, begin(math.MaxUint32, 0xFFFFFFFF_00000001, 5), &pgoutput.Begin{XID: math.MaxUint32, Commit: 0xFFFFFFFF_00000001, Time: instant(5)}},
		{"begin before the epoch", nil, begin(1, 2, -1), &pgoutput.Begin{XID: 1, Commit: 2, Time: instant(-1)}},
		{"commit of an empty transaction", []frame{begin(7, 900, 1)}, commit(900, 930, 2), &pgoutput.Commit{Commit: 900, End: 930, Time: instant(2)}},
		{"origin", opening, origin(77, "node_a"), &pgoutput.Origin{LSN: 77, Name: "node_a"}},
		{"type", nil, frame{'Y'}.u32(99).str("app").str("mood"), &pgoutput.Type{OID: 99, Schema: "app", Name: "mood"}},
		{"type of pg_catalog", nil, frame{'Y'}.u32(99).str("").str("mood"), &pgoutput.Type{OID: 99, Schema: "pg_catalog", Name: "mood"}},
		{"relation", nil, relation(rel), &pgoutput.Relation{Relation: rel}},
		{"relation of pg_catalog without columns", nil, relation(far), &pgoutput.Relation{Relation: far}},
		{"truncate", opening, truncate(0, 16385), &pgoutput.Truncate{Relations: []*cdc.Relation{rel}}},
		{"truncate of two, cascade, restart", opening, truncate(3, 1, 16385), &pgoutput.Truncate{Relations: []*cdc.Relation{far, rel}, Cascade: true, RestartIdentity: true}},
		{"truncate, restart", opening, truncate(2, 1), &pgoutput.Truncate{Relations: []*cdc.Relation{far}, RestartIdentity: true}},
		{"message outside", nil, logical(0, 5, "app", "\x00\xff"), &pgoutput.Logical{LSN: 5, Prefix: "app", Content: []byte("\x00\xff")}},
		{"message inside", opening, logical(1, 5, "", ""), &pgoutput.Logical{Transactional: true, LSN: 5, Content: []byte{}}},
		{"message inside that has nothing to do with it", opening, logical(0, 5, "p", "c"), &pgoutput.Logical{LSN: 5, Prefix: "p", Content: []byte("c")}},
		{
			"insert", opening, change('I', 16385, image{'N', row(text("1"), text(""), cdc.Value{}, text("1.50"))}),
			&pgoutput.Change{Event: cdc.Event{Op: cdc.Insert, Relation: rel, New: row(text("1"), text(""), cdc.Value{}, text("1.50"))}},
		},
		{
			"insert without columns", opening, change('I', 1, image{'N', cdc.Row{}}),
			&pgoutput.Change{Event: cdc.Event{Op: cdc.Insert, Relation: far, New: cdc.Row{}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := decode(t, decoder(t, tt.before...), tt.frame)
			if diff := cmp.Diff(tt.want, got, equalValues()); diff != "" {
				t.Errorf("message differs (-want +got):\n%s", diff)
			}
		})
	}
}

// Covers C45, C46, C47, C48.
func TestImagesSayOnlyWhatTheStreamSaid(t *testing.T) {
	t.Parallel()
	null, unchanged, absent := cdc.Value{}, cdc.UnchangedValue(), cdc.AbsentValue()
	tests := []struct {
		name     string
		identity cdc.Identity
		frame    frame
		op       cdc.Op
		old, new cdc.Row
	}{
		{
			"update of no key has no old image", cdc.IdentityDefault,
			change('U', 16385, image{'N', row(text("1"), text("b"), unchanged, null)}),
			cdc.Update, nil, row(text("1"), text("b"), unchanged, null),
		},
		{
			"update of the key has the old key alone", cdc.IdentityDefault,
			change('U', 16385, image{'K', row(text("1"), null, null, null)}, image{'N', row(text("2"), text("b"), unchanged, null)}),
			cdc.Update, row(text("1"), absent, absent, absent), row(text("2"), text("b"), unchanged, null),
		},
		{
			"unchanged value of the identity is filled from the old key", cdc.IdentityIndex,
			change('U', 16385, image{'K', row(text("1"), null, null, null)}, image{'N', row(unchanged, text("b"), null, null)}),
			cdc.Update, row(text("1"), absent, absent, absent), row(text("1"), text("b"), null, null),
		},
		{
			"unchanged values are filled under full identity", cdc.IdentityFull,
			change('U', 16385, image{'O', row(text("1"), text("a"), text("{long}"), null)}, image{'N', row(text("1"), null, unchanged, unchanged)}),
			cdc.Update, row(text("1"), text("a"), text("{long}"), null), row(text("1"), null, text("{long}"), null),
		},
		{
			"unchanged stays unchanged where the old image does not know either", cdc.IdentityFull,
			change('U', 16385, image{'O', row(text("1"), text("a"), unchanged, null)}, image{'N', row(text("1"), null, unchanged, text("2"))}),
			cdc.Update, row(text("1"), text("a"), unchanged, null), row(text("1"), null, unchanged, text("2")),
		},
		{
			"delete under full identity has the whole row", cdc.IdentityFull,
			change('D', 16385, image{'O', row(text("1"), null, text(""), text("3"))}),
			cdc.Delete, row(text("1"), null, text(""), text("3")), nil,
		},
		{
			"delete under default identity has the key alone", cdc.IdentityDefault,
			change('D', 16385, image{'K', row(text("1"), null, null, null)}),
			cdc.Delete, row(text("1"), absent, absent, absent), nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rel := users(tt.identity)
			got := decode(t, decoder(t, begin(7, 900, 1), relation(rel)), tt.frame)
			want := &pgoutput.Change{Event: cdc.Event{Op: tt.op, Relation: rel, Old: tt.old, New: tt.new}}
			if diff := cmp.Diff(pgoutput.Message(want), got, equalValues()); diff != "" {
				t.Errorf("message differs (-want +got):\n%s", diff)
			}
		})
	}
}

// Covers C64, C70, C71, C72.
func TestWhatCannotBeAStreamIsRefused(t *testing.T) {
	t.Parallel()
	opening := []frame{begin(7, 900, 1), relation(users(cdc.IdentityFull))}
	one := row(text("1"), text("a"), text("b"), text("c"))
	tests := []struct {
		name   string
		before []frame
		frame  frame
		want   string
	}{
		{"nothing", nil, frame{}, "empty message"},
		{"unknown type", nil, frame{'Z', 1, 2}, "unknown message type"},
		{"stream start, never asked for", nil, frame{'S'}.u32(1).u8(1), "unknown message type"},
		{"prepare, never asked for", nil, frame{'P', 0}, "unknown message type"},
		{"bytes behind the end", nil, append(begin(7, 900, 1), 0), "1 bytes too many"},
		{"unknown commit flags", opening, frame{'C', 1}.u64(900).u64(930).u64(0), "unknown commit flags 0x1"},
		{"begin inside", opening, begin(8, 901, 1), "begin of transaction 8 inside a transaction"},
		{"commit outside", nil, commit(900, 930, 1), "commit outside of a transaction"},
		{"commit of another transaction", opening, commit(901, 930, 1), "commit at 0/385 of a transaction that was to commit at 0/384"},
		{"commit that ends before it", opening, commit(900, 900, 1), "before it"},
		{"change outside", []frame{relation(users(cdc.IdentityFull))}, change('I', 16385, image{'N', one}), "outside of a transaction"},
		{"origin outside", nil, origin(1, "a"), "outside of a transaction"},
		{"truncate outside", []frame{relation(users(cdc.IdentityFull))}, truncate(0, 16385), "outside of a transaction"},
		{"transactional message outside", nil, logical(1, 5, "p", "c"), "transactional message outside"},
		{"unknown message flags", nil, logical(2, 5, "p", "c"), "unknown message flags 0x2"},
		{"message that is cut off", nil, logical(0, 5, "p", "c")[:14], "bytes wanted"},
		{"message longer than its frame", nil, frame{'M', 0}.u64(5).str("p").u32(math.MaxUint32), "4294967295 bytes wanted, 0 left"},
		{"relation not described", opening, change('I', 5, image{'N', one}), "relation 5 was not described before"},
		{"truncate of a relation not described", opening, truncate(0, 5), "relation 5 was not described before"},
		{"truncate of more than its frame", opening, frame{'T'}.u32(math.MaxUint32).u8(0).u32(16385), "entries announced"},
		{"unknown truncate options", opening, truncate(4, 16385), "unknown truncate options 0x4"},
		{"relation with more columns than its frame", nil, frame{'R'}.u32(1).str("s").str("t").u8('d').u16(65535), "65535 entries announced, 0 bytes left"},
		{"relation with a name without end", nil, frame{'R'}.u32(1).str("s").u8('t'), "name without an end"},
		{"unknown replica identity", nil, frame{'R'}.u32(1).str("s").str("t").u8('x').u16(0), "unknown replica identity 'x'"},
		{"unknown column flags", nil, frame{'R'}.u32(1).str("s").str("t").u8('d').u16(1).u8(2).str("c").u32(25).u32(0), "unknown column flags 0x2"},
		{"too few columns", opening, change('I', 16385, image{'N', one[:3]}), "3 columns for relation public.users with 4"},
		{"too many columns", opening, change('I', 16385, image{'N', append(one[:4:4], text("x"))}), "5 columns for relation public.users with 4"},
		{"tuple that is cut off", opening, change('I', 16385, image{'N', one})[:20], "bytes wanted"},
		{"value longer than its frame", opening, frame{'I'}.u32(16385).u8('N').u16(4).u8('t').u32(math.MaxUint32), "4294967295 bytes wanted, 0 left"},
		{"binary value", opening, frame{'I'}.u32(16385).u8('N').u16(4).u8('b').u32(0), "unknown kind of column 'b'"},
		{"insert of an old image", opening, change('I', 16385, image{'O', one}), `image 'O', want N`},
		{"update without a new image", opening, change('U', 16385, image{'O', one}), "1 bytes wanted, 0 left"},
		{"update with two old images", opening, change('U', 16385, image{'O', one}, image{'K', one}), `image 'K', want N`},
		{"delete of a new image", opening, change('D', 16385, image{'N', one}), `image 'N', want K or O`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := decoder(t, tt.before...).Decode(tt.frame)
			if err == nil {
				t.Fatalf("decoded as %#v", m)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to say %q", err, tt.want)
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("error %q is more than a line", err)
			}
		})
	}
}

// Covers C70.
func TestErrorNamesThePlaceInTheStream(t *testing.T) {
	t.Parallel()
	_, err := decoder(t, begin(7, 0x1_00000900, 1)).Decode(frame{'I'}.u32(9).u8('N'))
	var de *pgoutput.DecodeError
	if !errors.As(err, &de) {
		t.Fatalf("error is a %T", err)
	}
	if de.Type != 'I' || de.XID != 7 || de.Commit != 0x1_00000900 || !de.Terminal() {
		t.Errorf("error holds %+v", de)
	}
	const want = `decode pgoutput message 'I' at byte 5 in transaction 7, commit 1/900: relation 9 was not described before`
	if err.Error() != want {
		t.Errorf("error is\n%s, want\n%s", err, want)
	}
}

// An unsolicited stream abort drops what was never streamed: it must neither stop the stream
// nor touch the open transaction.
//
// Covers C64.
func TestUnsolicitedStreamAbortChangesNothing(t *testing.T) {
	t.Parallel()
	d := decoder(t, begin(7, 900, 1))
	m := decode(t, d, frame{'A'}.u32(7).u32(8))
	if diff := cmp.Diff(pgoutput.Message(&pgoutput.StreamAbort{XID: 7, SubXID: 8}), m); diff != "" {
		t.Error(diff)
	}
	decode(t, d, commit(900, 930, 1))
}

// Covers C51, C52.
func TestEventKeepsTheRelationThatWasInForce(t *testing.T) {
	t.Parallel()
	first := users(cdc.IdentityDefault)
	second := users(cdc.IdentityFull)
	second.Columns = second.Columns[:2]
	d := decoder(t, begin(7, 900, 1), relation(first))
	before := decode(t, d, change('D', first.OID, image{'K', row(text("1"), cdc.Value{}, cdc.Value{}, cdc.Value{})})).(*pgoutput.Change)
	decode(t, d, relation(second))
	after := decode(t, d, change('D', first.OID, image{'O', row(text("2"), text("b"))})).(*pgoutput.Change)
	if diff := cmp.Diff(first, before.Relation); diff != "" {
		t.Errorf("relation of the earlier event changed:\n%s", diff)
	}
	if diff := cmp.Diff(second, after.Relation); diff != "" {
		t.Errorf("relation of the later event:\n%s", diff)
	}
}

func TestRelationDescribedAgainKeepsItsAddress(t *testing.T) {
	t.Parallel()
	d := pgoutput.NewDecoder()
	at := func(r *cdc.Relation) *cdc.Relation {
		return decode(t, d, relation(r)).(*pgoutput.Relation).Relation
	}
	first := at(users(cdc.IdentityFull))
	if at(users(cdc.IdentityFull)) != first {
		t.Error("the same description gave another relation")
	}
	changed := users(cdc.IdentityFull)
	changed.Columns[3].Modifier++
	if at(changed) == first {
		t.Error("another description gave the same relation")
	}
	other := users(cdc.IdentityFull)
	other.OID++
	if at(other) == first {
		t.Error("another table gave the same relation")
	}
}

// Covers C70, C71.
func TestDecodeAllocatesInProportionToTheFrame(t *testing.T) {
	opening := []frame{begin(7, 900, 1), relation(users(cdc.IdentityFull))}
	for name, f := range map[string]frame{
		"columns of a relation": frame{'R'}.u32(1).str("s").str("t").u8('d').u16(65535),
		"relations":             frame{'T'}.u32(1 << 31).u8(0).u32(16385),
		"bytes of a value":      frame{'I'}.u32(16385).u8('N').u16(4).u8('t').u32(1 << 31),
		"bytes of a message":    frame{'M', 0}.u64(5).str("p").u32(1 << 31),
		"columns of a tuple":    frame{'I'}.u32(16385).u8('N').u16(65535),
	} {
		d := decoder(t, opening...)
		const rounds = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if _, err := d.Decode(f); err == nil {
				t.Errorf("%s: decoded", name)
			}
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / rounds; n > 4096 {
			t.Errorf("%s: %d bytes allocated for a frame of %d", name, n, len(f))
		}
	}
}
