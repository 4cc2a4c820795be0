package replication

import (
	"context"
	"encoding/binary"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowtide/rowtide/cdc"
)

// A scripted server speaks just enough of the protocol to do what no PostgreSQL of the version at
// hand does: be a pooler, be too old, or skip a publication as PostgreSQL 18 does.
type scripted struct {
	t   *testing.T
	url string
	// refuse, where set, is the answer to the startup message.
	refuse *pgproto3.ErrorResponse
	// pooler: replication commands are syntax errors.
	pooler bool
	// settings beat those of a good server.
	settings map[string]string
	// slot beats columns of what is said of the slot.
	slot map[int]string
	// create, where set, answers the making of the slot, which else is there.
	create func(ctx context.Context, b *pgproto3.Backend)
	// cancelled gets a token for each request to cancel, dropped for each slot that is dropped.
	cancelled, dropped chan struct{}
	// stream plays the server's part once START_REPLICATION was answered; nil hangs up.
	stream func(ctx context.Context, b *pgproto3.Backend)
}

func (s *scripted) serve() {
	s.t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(s.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.url = "postgres://u@" + l.Addr().String() + "/d?sslmode=disable"
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	s.t.Cleanup(func() {
		stop()
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				s.session(ctx, conn)
			})
		}
	})
}

func (s *scripted) session(ctx context.Context, conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	startup, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if _, ok := startup.(*pgproto3.CancelRequest); ok {
		s.cancelled <- struct{}{}
		return
	}
	if s.refuse != nil {
		b.Send(s.refuse)
		_ = b.Flush()
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		q, ok := m.(*pgproto3.Query)
		if !ok {
			continue
		}
		if strings.HasPrefix(q.String, "START_REPLICATION") {
			b.Send(&pgproto3.CopyBothResponse{})
			if b.Flush() == nil && s.stream != nil {
				s.stream(ctx, b)
			}
			return
		}
		if strings.HasPrefix(q.String, "CREATE_REPLICATION_SLOT") {
			s.create(ctx, b)
		}
		s.answer(b, q.String)
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

func (s *scripted) answer(b *pgproto3.Backend, sql string) {
	switch {
	case strings.HasPrefix(sql, "IDENTIFY_SYSTEM") && s.pooler:
		b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: `syntax error at or near "IDENTIFY_SYSTEM"`})
	case strings.HasPrefix(sql, "IDENTIFY_SYSTEM"):
		rows(b, []string{"7", "1", "0/2000", "d"})
	case strings.Contains(sql, "pg_settings"):
		settings := map[string]string{"server_version_num": "180000", "wal_level": "logical", "wal_sender_timeout": "60000", "in_recovery": "false"}
		for name, value := range pinned() {
			settings[strings.ToLower(name)] = value
		}
		maps.Copy(settings, s.settings)
		var all [][]string
		for name, value := range settings {
			all = append(all, []string{name, value})
		}
		rows(b, all...)
	case strings.Contains(sql, "pg_current_wal_insert_lsn"), strings.Contains(sql, "pg_current_xact_id"):
		rows(b, []string{"0/2000"})
	case strings.Contains(sql, "pg_publication"):
		rows(b, []string{publication})
	case strings.HasPrefix(sql, "DROP_REPLICATION_SLOT"):
		s.dropped <- struct{}{}
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("DROP_REPLICATION_SLOT")})
	case strings.Contains(sql, "pg_replication_slots") && (s.create != nil || strings.Contains(sql, windowMark)):
		rows(b)
	case strings.Contains(sql, "pg_replication_slots"):
		row := []string{"logical", "pgoutput", "d", "d", "f", "reserved", "0/1000", "0/1000", "", "", "f"}
		for column, value := range s.slot {
			row[column] = value
		}
		rows(b, row)
	}
}

func rows(b *pgproto3.Backend, rows ...[]string) {
	var fields []pgproto3.FieldDescription
	if len(rows) > 0 {
		fields = make([]pgproto3.FieldDescription, len(rows[0]))
	}
	for i := range fields {
		fields[i] = pgproto3.FieldDescription{Name: []byte("c"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}
	}
	b.Send(&pgproto3.RowDescription{Fields: fields})
	for _, r := range rows {
		var values [][]byte
		for _, v := range r {
			values = append(values, []byte(v))
		}
		b.Send(&pgproto3.DataRow{Values: values})
	}
	b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

func sendKeepalive(b *pgproto3.Backend, end cdc.LSN, wantReply byte) error {
	data := binary.BigEndian.AppendUint64([]byte{kindKeepalive}, uint64(end))
	data = append(data, 0, 0, 0, 0, 0, 0, 0, 0, wantReply)
	b.Send(&pgproto3.CopyData{Data: data})
	return b.Flush()
}

func sendData(b *pgproto3.Backend, payload []byte) {
	b.Send(&pgproto3.CopyData{Data: append(append([]byte{kindData}, make([]byte, dataHeader-1)...), payload...)})
}

func (s *scripted) config() Config {
	f := newFeed()
	return Config{URL: s.url, Slot: "s", Publications: []string{publication}, Handler: f, Progress: f.progress}
}
