// Package audit keeps the audit log: append-only lines of JSON in a file or on a stream, and by
// choice rows of a table.
//
// It guarantees that recording never waits for a disk or a database; that a record is written
// whole, in one line, whatever a client put into it; and that what could not be kept is counted
// and said in the log itself. It does not guarantee that the log survives whoever may write to
// the file.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
)

// A Sink keeps entries. Write takes as long as it takes; what it returns an error for is lost.
type Sink interface {
	Write(ctx context.Context, entries []Entry) error
}

// An Entry is a record as it is written.
type Entry struct {
	Time      time.Time   `json:"time"`
	Event     authz.Event `json:"event"`
	Role      string      `json:"role,omitempty"`
	Subject   string      `json:"subject,omitempty"`
	Address   string      `json:"address,omitempty"`
	Transport string      `json:"transport,omitempty"`
	Table     string      `json:"table,omitempty"`
	Operation string      `json:"operation,omitempty"`
	Filter    []string    `json:"filter,omitempty"`
	Reason    string      `json:"reason,omitempty"`
	SQLState  string      `json:"sqlstate,omitempty"`
	Count     int         `json:"count,omitempty"`
	Detail    string      `json:"detail,omitempty"`
}

// Config configures a Log.
type Config struct {
	// Sinks get every entry. Defaults to none: records are counted, and the first of each kind
	// of trouble goes to the Logger.
	Sinks []Sink
	// Queue is how many records wait for the sinks; further ones are dropped, and counted.
	// Defaults to 10,000.
	Queue int
	// Logger is told what goes wrong with the sinks, and where there are none gets the records
	// of denials. Defaults to slog.Default().
	Logger *slog.Logger
}

// A Log is an authz.Auditor. Records are written by Run.
type Log struct {
	cfg   Config
	queue chan Entry

	mu      sync.Mutex
	counts  map[authz.Event]uint64
	dropped uint64 // since the start
	told    uint64 // of these, what the log says already
}

// New makes a Log.
func New(cfg Config) *Log {
	if cfg.Queue <= 0 {
		cfg.Queue = 10_000
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Log{cfg: cfg, queue: make(chan Entry, cfg.Queue), counts: map[authz.Event]uint64{}}
}

// Record takes a record. It never waits.
func (l *Log) Record(r authz.Record) {
	l.mu.Lock()
	l.counts[r.Event]++
	l.mu.Unlock()
	if len(l.cfg.Sinks) == 0 {
		l.log(r)
		return
	}
	e := Entry{
		Time: time.Now().UTC(), Event: r.Event, Role: authz.Clip(r.Role), Subject: authz.Clip(r.Subject), Address: authz.Clip(r.Address), Transport: r.Transport,
		Table: r.Table, Operation: r.Operation, Filter: r.Filter, Reason: authz.Clip(r.Reason), SQLState: r.SQLState, Count: r.Count, Detail: r.Detail,
	}
	select {
	case l.queue <- e:
	default:
		l.lose(1)
	}
}

// log is where there is no audit log: what was hidden from whom, and why, is for the operator to
// see all the same; who comes and goes is for those who look closely.
func (l *Log) log(r authz.Record) {
	level := slog.LevelDebug
	switch r.Event {
	case authz.EventDeny, authz.EventUndecided, authz.EventUnsupported:
		if r.Table != "" {
			level = slog.LevelWarn
		}
	default:
	}
	r.Log(l.cfg.Logger, level)
}

// Counts are the records taken since the start, by event, and how many of them were dropped.
func (l *Log) Counts() (byEvent map[authz.Event]uint64, dropped uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts), l.dropped
}

func (l *Log) lose(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropped += uint64(n) //nolint:gosec // a count
}

// batch is how many entries are written at once.
const batch = 256

// Run writes until ctx ends, and then what is queued, within a bound.
func (l *Log) Run(ctx context.Context) error {
	for {
		select {
		case e := <-l.queue:
			l.write(ctx, l.gather(e))
		case <-ctx.Done():
			return l.flush(context.WithoutCancel(ctx))
		}
	}
}

// flushTime bounds how long the end of the service waits for the log.
const flushTime = 2 * time.Second

func (l *Log) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case e := <-l.queue:
			l.write(ctx, l.gather(e))
		default:
			return nil
		}
	}
	return nil
}

// gather takes what is queued behind an entry, and what the log has to say of itself.
func (l *Log) gather(first Entry) []Entry {
	out := []Entry{first}
	for len(out) < batch {
		select {
		case e := <-l.queue:
			out = append(out, e)
			continue
		default:
		}
		break
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.dropped - l.told; n > 0 {
		l.told = l.dropped
		out = append(out, Entry{Time: time.Now().UTC(), Event: authz.EventDropped, Reason: "records_lost", Count: int(n)}) //nolint:gosec // a count
	}
	return out
}

func (l *Log) write(ctx context.Context, entries []Entry) {
	for _, s := range l.cfg.Sinks {
		if err := s.Write(ctx, entries); err != nil {
			l.lose(len(entries))
			l.cfg.Logger.Error("audit records are lost", slog.Int("records", len(entries)), slog.Any("error", err))
		}
	}
}

// Lines writes entries as lines of JSON.
type Lines struct{ w io.Writer }

// NewLines makes a Sink of a writer that appends.
func NewLines(w io.Writer) *Lines { return &Lines{w} }

// Write writes all entries with one call, so that lines of two processes do not mix.
func (s *Lines) Write(_ context.Context, entries []Entry) error {
	var out []byte
	for i := range entries {
		line, err := json.Marshal(&entries[i])
		if err != nil {
			return fmt.Errorf("write audit log: %w", err)
		}
		out = append(append(out, line...), '\n')
	}
	n, err := s.w.Write(out)
	if err == nil && n < len(out) {
		err = errors.New("short write")
	}
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}
