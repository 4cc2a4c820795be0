package schema_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A likeCase is a text and a pattern, and what Postgres says of them as text and as bpchar.
type likeCase struct {
	text, pattern  string
	like, prefix   bool
	plike, pprefix bool
	ptext          string // the bpchar as the stream has it
}

func likeCases(t *testing.T, n int) []likeCase {
	t.Helper()
	random := rand.New(rand.NewPCG(5, 6))
	letters := []string{"a", "b", "ab", "ä", "a\u0308", "日", " ", "%", "_", `\`, "aaaa"}
	patterns := append([]string{"%", "%", "_", "_", `\%`, `\_`, `\\`, `\a`}, letters[:9]...)
	words := func(from []string, most int) string {
		var b strings.Builder
		for range random.IntN(most + 1) {
			b.WriteString(from[random.IntN(len(from))])
		}
		return b.String()
	}
	var texts, likes []string
	for range n {
		text := words(letters, 6)
		pattern := words(patterns, 6)
		if random.IntN(3) == 0 { // one that is near the text
			pattern = strings.NewReplacer("a", "_", "b", "%", `\`, "_").Replace(text)
		}
		texts, likes = append(texts, text), append(likes, pattern)
	}
	conn := connect(t, pgtest.New(t))
	rows, err := conn.Query(t.Context(), `
SELECT t, p, t LIKE p, starts_with(t, p), c LIKE p, starts_with(c::text, p), concat('', c)
FROM (SELECT t, p, t::char(7) AS c FROM unnest($1::text[], $2::text[]) x(t, p)) y`, texts, likes)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (likeCase, error) {
		var c likeCase
		err := r.Scan(&c.text, &c.pattern, &c.like, &c.prefix, &c.plike, &c.pprefix, &c.ptext)
		return c, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLikeAndStartsWithAnswerAsPostgresDoes(t *testing.T) {
	t.Parallel()
	c := catalog(t, table(1, "words", column("id", typ("int4")), column("text", typ("text")), column("padded", typ("bpchar"))))
	yes := 0
	for _, k := range likeCases(t, 5000) {
		image := row("1", "", "")
		image[1], image[2] = cdc.TextValue(k.text), cdc.TextValue(k.ptext)
		p, _ := json.Marshal(k.pattern)
		for _, x := range []struct {
			column, op string
			want       bool
		}{{"text", "like", k.like}, {"text", "startsWith", k.prefix}, {"padded", "like", k.plike}, {"padded", "startsWith", k.pprefix}} {
			op := compile(t, c, "subscription ($p: String) { words(where: {"+x.column+": {"+x.op+": $p}}) { kind } }", `{"p":`+string(p)+`}`)
			got, err := op.Where.Match(image, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got != x.want {
				t.Errorf("%s %q %s %q: got %v, want %v", x.column, k.text, x.op, k.pattern, got, x.want)
			}
			if got {
				yes++
			}
		}
	}
	if yes < 1000 {
		t.Errorf("only %d of the cases match: they say little", yes)
	}
}

// Covers S39.
func TestAPatternCostsTimeInProportionToTheText(t *testing.T) {
	t.Parallel()
	c := catalog(t, table(1, "words", column("id", typ("int4")), column("text", typ("text"))))
	// A matcher that backtracks needs 1e6 to the power of the percent signs here.
	image := row("1", strings.Repeat("a", 1_000_000))
	for _, pattern := range []string{
		strings.Repeat("%a", 400) + "%b", strings.Repeat("%_a_", 200) + "%b%", "%" + strings.Repeat("a_", 31) + "b%", strings.Repeat("_", 64) + "%b",
	} {
		op := compile(t, c, `subscription { words(where: {text: {like: "`+pattern+`"}}) { kind } }`, "")
		if ok, err := op.Where.Match(image, nil); ok || err != nil {
			t.Errorf("pattern %.20s…: %v, %v", pattern, ok, err)
		}
	}
}

func TestPatternsBearBytesThatAreNoText(t *testing.T) {
	t.Parallel()
	c := catalog(t, table(1, "words", column("id", typ("int4")), column("text", typ("text"))))
	op := compile(t, c, `subscription { words(where: {text: {like: "%_b_%_"}}) { kind } }`, "")
	for text, want := range map[string]bool{"\xffb\xff": false, "\xffb\xff\xfe": true, "b\xff": false} {
		if got, err := op.Where.Match(row("1", text), nil); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
