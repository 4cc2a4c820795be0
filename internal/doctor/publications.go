package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema"
)

// publicationNames are the two: for tables that serve everything, and for those that serve INSERT.
func (e *exam) publicationNames() (full, insert string) {
	return e.cfg.Publication, migrations.InsertPublication(e.cfg.Publication)
}

// publications looks at the two and their options.
func (e *exam) publications(ctx context.Context) error {
	full, insert := e.publicationNames()
	var pub, version string
	var there, all, root, actions, generated bool
	var spaces []string
	return rows(ctx, e.conn, "publications", `
SELECT w.name, p.oid IS NOT NULL, coalesce(p.puballtables, false), coalesce(p.pubviaroot, false),
       coalesce(p.pubinsert AND p.pubtruncate AND p.pubupdate = (w.n = 1) AND p.pubdelete = (w.n = 1), false),
       coalesce(to_jsonb(p) ->> 'pubgencols', 's') = 's', current_setting('server_version_num'),
       ARRAY(SELECT n.nspname::text FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid ORDER BY 1)
FROM unnest($1::text[]) WITH ORDINALITY w(name, n) LEFT JOIN pg_publication p ON p.pubname = w.name ORDER BY w.n`,
		[]any{[]string{full, insert}}, []any{&pub, &there, &all, &root, &actions, &generated, &version, &spaces}, func() {
			object, sync := "publication "+name(pub), "rowtide sync --admin-url URL --publication "+full
			switch {
			case !there:
				e.tell(Fatal, "publication", object, "it does not exist, so nothing is streamed", sync)
				return
			case all:
				e.tell(Fatal, "publication", object, "it is FOR ALL TABLES: UPDATE and DELETE fail on each that has no replica identity",
					"DROP PUBLICATION "+name(pub), sync)
				return
			}
			for _, s := range spaces {
				e.tell(Warning, "publication", object, "it has all tables of schema "+s+": those that are not annotated are streamed for nothing",
					"ALTER PUBLICATION "+name(pub)+" DROP TABLES IN SCHEMA "+name(s))
			}
			if !root || !actions || !generated {
				e.tell(Fatal, "publication", object, "its options are not those that the service needs: changes are missing or come under other names",
					"ALTER PUBLICATION "+name(pub)+" SET ("+options(pub == insert, version >= "180000")+")")
			}
		})
}

func options(insertOnly, generated bool) string {
	o := "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
	if insertOnly {
		o = "publish = 'insert, truncate', publish_via_partition_root = true"
	}
	if generated {
		o += ", publish_generated_columns = stored"
	}
	return o
}

// A member is a table of one of the publications.
type member struct {
	publication string
	table       string // schema and name, quoted
	listed      bool   // with a column list or a row filter
	updates     bool   // UPDATE or DELETE is published
	helpless    bool   // and fails: there is no replica identity (C49)
}

// members compares the publications with the annotations.
func (e *exam) members(ctx context.Context) error {
	full, insert := e.publicationNames()
	var have []member
	var m member
	var space, table string
	err := rows(ctx, e.conn, "members of publications", `
SELECT p.pubname::text, n.nspname::text, c.relname::text, r.prattrs IS NOT NULL OR r.prqual IS NOT NULL, p.pubupdate OR p.pubdelete,
       c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname IN ($1, $2) ORDER BY 1, 2, 3`,
		[]any{full, insert}, []any{&m.publication, &space, &table, &m.listed, &m.updates, &m.helpless}, func() {
			m.table = name(space, table)
			have = append(have, m)
		})
	if err != nil {
		return err
	}
	for _, m := range have {
		e.member(m)
	}
	for _, t := range e.catalog.Wanted() {
		target := insert
		if t.NeedsFullIdentity() || e.isAsked(t.SQLName()) {
			target = full
		}
		if !slices.ContainsFunc(have, func(m member) bool { return m.publication == target && m.table == t.SQLName() }) {
			fix, err := e.fullIdentity(ctx, t)
			if err != nil {
				return err
			}
			e.tell(Fatal, "membership", "table "+t.SQLName(), "it is annotated but not in publication "+target+": its changes do not come",
				append(fix, "ALTER PUBLICATION "+name(target)+" ADD TABLE ONLY "+t.SQLName())...)
		}
	}
	return nil
}

// member looks at one that is there.
func (e *exam) member(m member) {
	full, insert := e.publicationNames()
	object := "table " + m.table
	drop := "ALTER PUBLICATION " + name(m.publication) + " DROP TABLE ONLY " + m.table
	if m.updates && m.helpless {
		e.tell(Fatal, "replica_identity", object, "it is in publication "+m.publication+" without a replica identity: the application's UPDATE and DELETE fail",
			"ALTER TABLE "+m.table+" REPLICA IDENTITY FULL")
	}
	at := slices.IndexFunc(e.catalog.Wanted(), func(t *schema.TableDef) bool { return t.SQLName() == m.table })
	asked := e.isAsked(m.table) && m.publication == full
	switch {
	case at < 0 && asked:
	case at < 0:
		e.tell(Warning, "membership", object, "it is in publication "+m.publication+" but not served: its changes are streamed for nothing", drop)
	case !asked && e.catalog.Wanted()[at].NeedsFullIdentity() != (m.publication == full):
		e.tell(Warning, "membership", object, fmt.Sprintf("it is in publication %s, but its annotation wants the other of %s and %s", m.publication, full, insert), drop)
	case m.listed:
		e.tell(Fatal, "membership", object, "publication "+m.publication+" has it with a column list or a WHERE: changes are missing, or come without values",
			drop, strings.Replace(drop, "DROP TABLE", "ADD TABLE", 1))
	}
}

// fullIdentity is the SQL that gives a table the replica identity that it needs; nil where it has
// it. Partitions count: rows are written to them.
func (e *exam) fullIdentity(ctx context.Context, t *schema.TableDef) ([]string, error) {
	if !t.NeedsFullIdentity() {
		return nil, nil
	}
	var fix []string
	var space, table string
	err := rows(ctx, e.conn, "replica identities", `
WITH RECURSIVE tree(oid) AS (
  SELECT $1::oid UNION
  SELECT i.inhrelid FROM tree JOIN pg_class p ON p.oid = tree.oid AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = tree.oid
)
SELECT n.nspname::text, c.relname::text FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relreplident <> 'f' ORDER BY c.relkind DESC, 1, 2`, []any{t.OID}, []any{&space, &table}, func() {
		fix = append(fix, "ALTER TABLE "+name(space, table)+" REPLICA IDENTITY FULL")
	})
	return fix, err
}

// identities looks at the replica identity of each annotated table.
func (e *exam) identities(ctx context.Context) error {
	for _, t := range e.catalog.Wanted() {
		fix, err := e.fullIdentity(ctx, t)
		if err != nil {
			return err
		}
		if fix != nil {
			e.tell(Warning, "replica_identity", "table "+t.SQLName(), "it has no full replica identity, so it is not served: nobody can say who saw the old row", fix...)
		}
	}
	return nil
}

// access looks at what the allow-list may read.
func (e *exam) access(context.Context) error {
	for _, t := range e.catalog.Wanted() {
		readers := 0
		for _, who := range e.database.Roles {
			a := t.Access[who]
			if !slices.Contains(a.Columns, true) {
				continue
			}
			readers++
			if !a.Usage {
				e.tell(Warning, "grant", "table "+t.SQLName(), who+" may read it, but not use its schema",
					"GRANT USAGE ON SCHEMA "+name(t.Schema)+" TO "+name(who))
			}
		}
		if readers == 0 && len(e.database.Roles) > 0 {
			e.tell(Warning, "grant", "table "+t.SQLName(), "no role of the allow-list may read it, so nobody can subscribe to it",
				"GRANT SELECT ON "+t.SQLName()+" TO "+name(e.database.Roles[0]))
		}
	}
	return nil
}
