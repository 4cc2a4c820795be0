package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A rawConsumer is the baseline: pglogrepl and nothing else. It acknowledges nothing, since its
// slot is temporary.
type rawConsumer struct {
	conn *pgconn.PgConn
}

func newRawConsumer(ctx context.Context, url string) (*rawConsumer, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	const slot = "bench_raw"
	_, err = pglogrepl.CreateReplicationSlot(ctx, conn, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Temporary: true})
	if err != nil {
		return nil, fmt.Errorf("create baseline slot: %w", err)
	}
	err = pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'rowtide'"},
	})
	if err != nil {
		return nil, fmt.Errorf("start baseline replication: %w", err)
	}
	return &rawConsumer{conn: conn}, nil
}

// wait reads until the insert of the row with that id, the first column, has come.
func (r *rawConsumer) wait(ctx context.Context, id int) (time.Time, error) {
	want := strconv.Itoa(id)
	for {
		msg, err := r.conn.ReceiveMessage(ctx)
		if err != nil {
			return time.Time{}, err
		}
		data, ok := msg.(*pgproto3.CopyData)
		if !ok || data.Data[0] != pglogrepl.XLogDataByteID {
			continue
		}
		x, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			return time.Time{}, err
		}
		m, err := pglogrepl.Parse(x.WALData)
		if err != nil {
			return time.Time{}, err
		}
		if ins, ok := m.(*pglogrepl.InsertMessage); ok && string(ins.Tuple.Columns[0].Data) == want {
			return time.Now(), nil
		}
	}
}

func (r *rawConsumer) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = r.conn.Close(ctx)
}
