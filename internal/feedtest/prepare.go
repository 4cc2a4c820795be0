package feedtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
)

// Prepare makes the slot and the publication, and copies the rows that there are to the target,
// as of the very point where the slot begins. What commits on the source after it, Run sees.
func (r *Reference) Prepare(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return fmt.Errorf("prepare reference: %w", err)
	}
	return nil
}

func (r *Reference) prepare(ctx context.Context) error {
	source, err := connect(ctx, r.Source, nil)
	if err != nil {
		return err
	}
	defer source.Close(context.WithoutCancel(ctx))
	if r.Name == "" {
		r.Name = "feedtest_" + source.Config().Database
		r.Name = r.Name[:min(len(r.Name), 63)] // NAMEDATALEN
	}
	names := make([]string, len(r.Tables))
	for i, t := range r.Tables {
		names[i] = t.sql()
	}
	if _, err := source.Exec(ctx, "CREATE PUBLICATION "+quote(r.Name)+" FOR TABLE "+strings.Join(names, ", ")); err != nil {
		return err
	}
	// The snapshot is there until the connection that made the slot does something else.
	maker, err := connect(ctx, r.Source, map[string]string{"replication": "database"})
	if err != nil {
		return err
	}
	defer maker.Close(context.WithoutCancel(ctx))
	slot, err := pglogrepl.CreateReplicationSlot(ctx, maker.PgConn(), r.Name, "pgoutput", pglogrepl.CreateReplicationSlotOptions{SnapshotAction: "EXPORT_SNAPSHOT"})
	if err != nil {
		return fmt.Errorf("create slot %q: %w", r.Name, err)
	}
	if err := r.copy(ctx, source, slot.SnapshotName); err != nil {
		return err
	}
	return r.observe(ctx)
}

// copy copies the tables' rows as the snapshot has them.
func (r *Reference) copy(ctx context.Context, source *pgx.Conn, snapshot string) error {
	target, err := connect(ctx, r.Target, map[string]string{"session_replication_role": "replica"})
	if err != nil {
		return err
	}
	defer target.Close(context.WithoutCancel(ctx))
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, source, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+snapshot+"'"); err != nil {
			return err
		}
		for _, t := range r.Tables {
			names := make([]string, len(t.Columns))
			for i, c := range t.Columns {
				names[i] = quote(c.Name)
			}
			columns := strings.Join(names, ", ")
			var rows bytes.Buffer
			if _, err := source.PgConn().CopyTo(ctx, &rows, "COPY (SELECT "+columns+" FROM "+t.sql()+") TO STDOUT"); err != nil {
				return fmt.Errorf("copy table %s: %w", t.Name, err)
			}
			if _, err := target.PgConn().CopyFrom(ctx, &rows, "COPY "+t.sql()+" ("+columns+") FROM STDIN"); err != nil {
				return fmt.Errorf("copy table %s: %w", t.Name, err)
			}
		}
		return nil
	})
}

// observe notes the rows that the target begins with.
func (r *Reference) observe(ctx context.Context) error {
	r.initial = make(map[*Table]Rows)
	var eyes []*eye
	for _, t := range r.Tables {
		eyes = append(eyes, wholeTable(t))
		r.initial[t] = make(Rows)
	}
	root, err := openWitness(ctx, r.Target, nil, eyes)
	if err != nil {
		return err
	}
	defer func() { _ = root.conn.Close(context.WithoutCancel(ctx)) }()
	return root.look(ctx, nil, func(e *eye, key string, row [][]byte) error {
		r.initial[e.table][key] = e.image(row)
		return nil
	})
}
