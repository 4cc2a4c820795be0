package rls

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// ErrNoRow says that there is no row with a key.
var ErrNoRow = errors.New("there is no such row")

// lookupTimeout bounds a Lookup.
const lookupTimeout = 10 * time.Second

// Lookup reads one row as the stream would give it, and a transaction that every later session
// sees. Key has the texts of the key's columns, in its order. The login at the URL must see the
// row whatever the policies say: a superuser, or an owner whom they do not bind.
//
// Its errors are ErrNoRow, and those of the connection and of Postgres.
func Lookup(ctx context.Context, url string, t *schema.Table, key []string) (cdc.Row, uint32, error) {
	c, err := sessionConfig(url, "rowtide explain", searchPath(nil), lookupTimeout, lookupTimeout)
	if err != nil {
		return nil, 0, err
	}
	c.RuntimeParams["row_security"] = "off" // an error where policies would hide the row
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, 0, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	sql, params := lookupSQL(t, key)
	r := conn.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, 0, r.Err
	}
	if len(r.Rows) == 0 {
		return nil, 0, ErrNoRow
	}
	snapshot, err := cdc.ParseSnapshot(string(r.Rows[0][0]))
	if err != nil {
		return nil, 0, err
	}
	image := make(cdc.Row, len(t.Columns))
	for i, v := range r.Rows[0][1:] {
		switch {
		case t.Columns[i].Def.Generated != 0:
			image[i] = cdc.AbsentValue()
		case v != nil:
			image[i] = cdc.TextValue(string(v))
		}
	}
	return image, uint32(snapshot.Xmin - 1), nil //nolint:gosec // the stream's transaction ids have 32 bits
}

func lookupSQL(t *schema.Table, key []string) (string, [][]byte) {
	columns := []string{"pg_catalog.pg_current_snapshot()::pg_catalog.text"}
	for _, c := range t.Columns {
		columns = append(columns, ident(c.Def.Name))
	}
	var conditions []string
	var params [][]byte
	for i, k := range t.Key {
		condition := "%s = $%d"
		if t.Columns[k].Def.Type.Schema != "pg_catalog" { // whose operators are not found, nor used by an index then
			condition = "%s::pg_catalog.text = $%d::pg_catalog.text"
		}
		conditions = append(conditions, fmt.Sprintf(condition, ident(t.Columns[k].Def.Name), i+1))
		params = append(params, []byte(key[i]))
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + ident(t.Def.Schema) + "." + ident(t.Def.Name) +
		" WHERE " + strings.Join(conditions, " AND "), params
}
