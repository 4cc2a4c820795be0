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
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
)

// A Sink keeps entries. Write takes as long as it takes, until ctx ends; what it returns an error
// for is lost.
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
	// Queue is how many records wait for each of the sinks; further ones are dropped, and counted.
	// Defaults to 10,000.
	Queue int
	// Logger is told what goes wrong with the sinks, and where there are none gets the records
	// of denials. Defaults to slog.Default().
	Logger *slog.Logger
}

// A Log is an authz.Auditor. Records are written by Run.
type Log struct {
	cfg   Config
	lanes []*lane

	mu     sync.Mutex
	counts map[authz.Event]uint64
}

// New makes a Log.
func New(cfg Config) *Log {
	if cfg.Queue <= 0 {
		cfg.Queue = 10_000
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	l := &Log{cfg: cfg, counts: map[authz.Event]uint64{}}
	for _, s := range cfg.Sinks {
		l.lanes = append(l.lanes, &lane{sink: s, queue: make(chan Entry, cfg.Queue), log: cfg.Logger})
	}
	return l
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
	for _, lane := range l.lanes {
		lane.put(e)
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

// Counts are the records taken since the start, by event, and how many were dropped, by each sink
// that could not take it.
func (l *Log) Counts() (byEvent map[authz.Event]uint64, dropped uint64) {
	for _, lane := range l.lanes {
		dropped += lane.dropped.Load()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts), dropped
}

// Queued is how many records wait to be written, for all sinks.
func (l *Log) Queued() int {
	n := 0
	for _, lane := range l.lanes {
		n += len(lane.queue)
	}
	return n
}

// Run writes until ctx ends, and then what is queued, within a bound. No sink waits for another.
func (l *Log) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, lane := range l.lanes {
		wg.Go(func() { lane.run(ctx) })
	}
	return nil
}
