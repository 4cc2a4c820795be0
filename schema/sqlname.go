package schema

import "strings"

// reservedWords are the words that PostgreSQL reserves (R in appendix C of its manual), or that
// only functions and types may bear.
const reservedWords = ` all analyse analyze and any array as asc asymmetric authorization binary both case cast
 check collate collation column concurrently constraint create cross current_catalog current_date
 current_role current_schema current_time current_timestamp current_user default deferrable desc
 distinct do else end except false fetch for foreign freeze from full grant group having ilike in
 initially inner intersect into is isnull join lateral leading left like limit localtime
 localtimestamp natural not notnull null offset on only or order outer overlaps placing primary
 references returning right select session_user similar some symmetric system_user table
 tablesample then to trailing true union unique user using variadic verbose when where window
 with `

// QuoteName writes names as SQL has them, with dots between and in quotation marks where needed.
func QuoteName(names ...string) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteByte('.')
		}
		if isPlainName(n) {
			b.WriteString(n)
			continue
		}
		b.WriteByte('"')
		b.WriteString(strings.ReplaceAll(n, `"`, `""`))
		b.WriteByte('"')
	}
	return b.String()
}

func isPlainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && !strings.Contains(strings.ReplaceAll(reservedWords, "\n", " "), " "+s+" ")
}

// SQLName is the table's name in SQL.
func (d *TableDef) SQLName() string { return QuoteName(d.Schema, d.Name) }

func (d *TableDef) object() string { return "table " + d.SQLName() }

func (d *TableDef) columnObject(c *ColumnDef) string {
	return "column " + QuoteName(d.Schema, d.Name, c.Name)
}
