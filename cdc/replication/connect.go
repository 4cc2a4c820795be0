package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowtide/rowtide/cdc"
)

// pinned are the settings on which the text of values depends, and what else a role's or a
// database's own settings could spoil. They go into the startup message, which beats them.
func pinned() map[string]string {
	return map[string]string{
		"client_encoding":       "UTF8",
		"DateStyle":             "ISO, YMD",
		"IntervalStyle":         "postgres",
		"TimeZone":              "UTC",
		"extra_float_digits":    "3",
		"bytea_output":          "hex",
		"lc_monetary":           "C",
		"search_path":           "pg_catalog", // what reg* types leave out
		"quote_all_identifiers": "off",        // what reg* types put in quotes
		"client_min_messages":   "warning",    // PostgreSQL 18 says by a warning that it skips a publication
		"statement_timeout":     "0",
		"lock_timeout":          "0", // making a slot waits for locks
	}
}

// replicationConfig reads the connection string for a walsender connection.
func replicationConfig(url string) (*pgconn.Config, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, &Error{Reason: BadURL, What: "read the connection string", Err: err, Fix: "it has the form postgres://user:password@host:5432/database"}
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "rowtide"
	}
	ours := pinned()
	ours["replication"] = "database"
	for name := range ours {
		// Setting names ignore case; two spellings would be sent in any order.
		maps.DeleteFunc(cfg.RuntimeParams, func(k, _ string) bool { return strings.EqualFold(k, name) })
	}
	maps.Copy(cfg.RuntimeParams, ours)
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	cfg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		// A slot that is being made must be cancelled on the server: if its client just went
		// away, PostgreSQL would finish it and keep it.
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 2 * time.Second}
	}
	return cfg, nil
}

// answerTime is how long a server that has accepted a connection may take to answer a question.
const answerTime = 30 * time.Second

// A server is what a connection found out about the other end.
type server struct {
	systemID uint64
	timeline uint32
	forks    map[uint32]cdc.LSN
	// end is up to where the server's WAL is flushed.
	end     cdc.LSN
	version int
	// senderTimeout is wal_sender_timeout of this session, 0 where it is off.
	senderTimeout time.Duration
	// gulp is what the connection is read through.
	gulp *gulp
}

// connect opens a walsender connection and checks that streaming from the other end can work.
func (c *Consumer) connect(ctx context.Context) (*pgconn.PgConn, *server, error) {
	var g *gulp
	cfg := c.conn.Copy()
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		g = newGulp(r)
		return pgproto3.NewFrontend(g, w)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, nil, connectError(err, c.conn)
	}
	srv, err := identify(ctx, conn)
	if err == nil {
		srv.gulp = g
		err = srv.check(ctx, conn)
	}
	if err == nil {
		err = srv.readHistory(ctx, conn)
	}
	if err != nil {
		closeConn(ctx, conn)
		return nil, nil, err
	}
	return conn, srv, nil
}

func identify(ctx context.Context, conn *pgconn.PgConn) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	id, err := pglogrepl.IdentifySystem(ctx, conn)
	if err == nil && id.DBName == "" {
		err = errors.New("IDENTIFY_SYSTEM names no database")
	}
	if err != nil {
		// A server knows the command of each walsender. A pooler that swallowed the parameter
		// "replication" passes it on to an ordinary session, where it is a syntax error.
		if state := sqlState(err); state == syntaxError || state == protocolViolation {
			return nil, &Error{Reason: Pooler, What: "identify the server", Err: cause(err), Fix: poolerFix}
		}
		return nil, fmt.Errorf("identify the server: %w", err)
	}
	system, err := strconv.ParseUint(id.SystemID, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("identify the server: %w", err)
	}
	return &server{systemID: system, timeline: uint32(id.Timeline), end: cdc.LSN(id.XLogPos)}, nil //nolint:gosec // timelines are unsigned
}

// check reads the settings that matter and those that were pinned.
func (s *server) check(ctx context.Context, conn *pgconn.PgConn) error {
	settings, err := readSettings(ctx, conn)
	if err != nil {
		return err
	}
	if s.version, err = strconv.Atoi(settings["server_version_num"]); err != nil {
		return fmt.Errorf("read server_version_num: %w", err)
	}
	ms, err := strconv.Atoi(settings["wal_sender_timeout"])
	if err != nil {
		return fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	s.senderTimeout = time.Duration(ms) * time.Millisecond
	switch {
	case s.version < 150000:
		return &Error{Reason: TooOld, What: fmt.Sprintf("the server is PostgreSQL %d", s.version/10000), Fix: "Rowtide needs PostgreSQL 15 or newer"}
	case settings["wal_level"] != "logical":
		return &Error{Reason: WALLevel, What: fmt.Sprintf("wal_level is %s and must be logical", settings["wal_level"]), Fix: "as superuser: ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL"}
	case settings["in_recovery"] == "true":
		return &Error{Reason: Standby, What: "the server is a standby in recovery", Fix: "connect to the primary"}
	}
	for name, want := range pinned() {
		if got := settings[strings.ToLower(name)]; got != want {
			return &Error{Reason: Settings, What: fmt.Sprintf("setting %s of the replication session is %q and not %q", name, got, want), Fix: "connect to PostgreSQL without anything between that changes settings"}
		}
	}
	return nil
}

// readSettings gives settings by name in lower case, and whether the server is in recovery.
func readSettings(ctx context.Context, conn *pgconn.PgConn) (map[string]string, error) {
	names := slices.AppendSeq([]string{"server_version_num", "wal_level", "wal_sender_timeout"}, maps.Keys(pinned()))
	rows, err := query(ctx, conn, `SELECT pg_catalog.lower(name), setting FROM pg_catalog.pg_settings
		WHERE pg_catalog.lower(name) IN ('`+strings.ToLower(strings.Join(names, "','"))+`')
		UNION ALL SELECT 'in_recovery', pg_catalog.pg_is_in_recovery()::pg_catalog.text`)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	out := make(map[string]string, len(rows))
	for _, row := range rows {
		out[row[0]] = row[1]
	}
	return out, nil
}

// query runs one statement by the simple protocol, the only one that a walsender speaks. NULL
// becomes "".
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 {
		return nil, fmt.Errorf("%d results for one statement", len(results))
	}
	out := make([][]string, 0, len(results[0].Rows))
	for _, row := range results[0].Rows {
		values := make([]string, len(row))
		for i, v := range row {
			values[i] = string(v)
		}
		out = append(out, values)
	}
	return out, nil
}

// closeConn closes a connection that is not streaming and waits until nothing of it is left.
func closeConn(ctx context.Context, conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing depends on it any more
	<-conn.CleanupDone()
}
