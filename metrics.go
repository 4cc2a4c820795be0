package rowtide

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rowtide/rowtide/cdc"
)

// meters shows Prometheus how the service is doing. Every label's values are words of this
// program, or roles out of the allow-list: nothing that a client sends becomes a label (S61).
type meters struct {
	s *Server

	mu   sync.Mutex
	slot slotState
}

// Describe describes nothing: what there is depends on how the service is doing.
func (m *meters) Describe(chan<- *prometheus.Desc) {}

// A reading is one scrape.
type reading struct{ to chan<- prometheus.Metric }

func (r reading) put(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	r.to <- prometheus.MustNewConstMetric(prometheus.NewDesc("rowtide_"+name, help, names, nil), kind, value, values...)
}

func (r reading) gauge(name, help string, value float64, labels ...string) {
	r.put(prometheus.GaugeValue, name, help, value, labels)
}

func (r reading) counter(name, help string, value uint64, labels ...string) {
	r.put(prometheus.CounterValue, name, help, float64(value), labels)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collect is prometheus.Collector's.
func (m *meters) Collect(to chan<- prometheus.Metric) {
	r := reading{to}
	r.gauge("build_info", "The version that runs.", 1, "version", Version)
	m.guard(r)
	p := m.s.pipeline.Load()
	r.gauge("ready", "Whether clients are served and changes flow.", truth(p != nil && len(p.unready()) == 0))
	if p == nil {
		return
	}
	m.stream(r, p)
	m.slotOf(r, p)
	m.window(r, p)
	m.clients(r, p)
}

func (m *meters) guard(r reading) {
	for which, n := range m.s.guard.limiter.Refusals() {
		r.counter("limit_refusals_total", "Requests refused or slowed down by a limit.", n, "resource", which.Resource.String(), "scope", which.Scope.String())
	}
	events, dropped := m.s.guard.audit.Counts()
	for event, n := range events {
		r.counter("audit_records_total", "Audit records, by event.", n, "event", string(event))
	}
	r.gauge("audit_queue_records", "Audit records that wait to be written.", float64(m.s.guard.audit.Queued()))
	r.counter("audit_dropped_total", "Audit records that could not be kept.", dropped)
	r.gauge("revocations", "Tokens and subjects that are revoked.", float64(m.s.guard.revoked.Len()))
}

// stream is about the way from Postgres to the bus.
func (m *meters) stream(r reading, p *pipeline) {
	s, published := p.consumer.State(), p.feed.published()
	r.gauge("stream_connected", "Whether the replication stream is connected.", truth(s.Connected))
	r.counter("stream_connections_total", "Replication streams begun.", uint64(s.Connections)) //nolint:gosec // a count
	r.gauge("stream_queue_bytes", "Received from Postgres and not yet handled.", float64(s.Queued))
	r.gauge("stream_queue_messages", "The same in messages.", float64(s.QueuedMessages))
	if !s.Heard.IsZero() {
		r.gauge("stream_silence_seconds", "Since Postgres last said anything, keepalives included.", time.Since(s.Heard).Seconds())
	}
	r.gauge("server_wal_position", "End of the server's WAL, as it said last.", float64(s.ServerEnd))
	r.gauge("confirmed_position", "Up to where the slot was acknowledged.", float64(s.Confirmed))
	r.gauge("published_position", "Commit published on the bus last.", float64(published.commit))
	r.gauge("stream_lag_bytes", "WAL that the server has and that is not acknowledged.", behind(s.ServerEnd, s.Confirmed))
	r.gauge("publish_delay_seconds", "From the last published commit to its publication, by two clocks.", published.delay.Seconds())
	r.counter("transactions_total", "Transactions published.", published.transactions)
	d := p.dispatcher.Stats()
	r.gauge("dispatched_position", "Commit dispatched to subscriptions last.", float64(d.Position.Commit))
	r.gauge("dispatch_lag_bytes", "WAL that is published and not dispatched.", behind(published.commit, d.Position.Commit))
	r.gauge("dispatch_delay_seconds", "From the last dispatched commit to its dispatch, by two clocks.", d.Delay.Seconds())
}

func behind(ahead, at cdc.LSN) float64 {
	if at >= ahead {
		return 0
	}
	return float64(ahead - at)
}

// slotOf asks Postgres about the slot: what it retains and how far it may go on.
func (m *meters) slotOf(r reading, p *pipeline) {
	s, err := m.readSlot(p)
	r.gauge("slot_readable", "Whether Postgres answered about the slot.", truth(err == nil))
	if err != nil {
		return
	}
	r.gauge("slot_active", "Whether anybody streams from the slot.", truth(s.active))
	r.gauge("slot_retained_bytes", "WAL that Postgres keeps for the slot (restart lag): what a restart reads again.", s.restartLag)
	r.gauge("slot_confirmed_lag_bytes", "WAL behind what the slot was acknowledged to (confirmed lag).", s.confirmedLag)
	if s.safe >= 0 {
		r.gauge("slot_safe_bytes", "WAL that may still be written before the slot is lost.", s.safe)
	}
	for _, status := range []string{"reserved", "extended", "unreserved", "lost"} {
		r.gauge("slot_status", "Status of the slot's WAL, as pg_replication_slots has it.", truth(s.status == status), "status", status)
	}
}

// A slotState is what Postgres says of the slot. safe is -1 where max_slot_wal_keep_size sets no
// bound.
type slotState struct {
	at                             time.Time
	err                            error
	active                         bool
	restartLag, confirmedLag, safe float64
	status                         string
}

// slotAge is how often Postgres is asked at most, and slotPatience for how long.
const (
	slotAge      = time.Second
	slotPatience = 3 * time.Second
)

func (m *meters) readSlot(p *pipeline) (slotState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.slot.at) < slotAge {
		return m.slot, m.slot.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), slotPatience)
	defer cancel()
	var s slotState
	s.err = p.source.pool.QueryRow(ctx, `
SELECT active, (pg_catalog.pg_current_wal_lsn() - restart_lsn)::float8, (pg_catalog.pg_current_wal_lsn() - confirmed_flush_lsn)::float8,
       coalesce(safe_wal_size::float8, -1), coalesce(wal_status, '')
FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, p.cfg.Slot).Scan(&s.active, &s.restartLag, &s.confirmedLag, &s.safe, &s.status)
	s.at = time.Now()
	m.slot = s
	return s, s.err
}

// window is about what is held for clients that resume.
func (m *meters) window(r reading, p *pipeline) {
	if held, ok := p.bus.(interface{ Held() (int, time.Duration) }); ok {
		bytes, age := held.Held()
		r.gauge("window_bytes", "Changes held for clients that resume.", float64(bytes))
		r.gauge("window_seconds", "Age of the oldest change held.", age.Seconds())
	}
	oldest, newest := p.bus.Window()
	r.gauge("window_oldest_position", "Where cursors begin to be valid.", float64(oldest.Commit))
	r.gauge("window_newest_position", "Newest change held.", float64(newest.Commit))
}

// clients is about subscriptions and what they cost.
func (m *meters) clients(r reading, p *pipeline) {
	d := p.dispatcher.Stats()
	r.gauge("connections", "Connections, authenticated or not.", float64(p.sockets.Connections()), "transport", "websocket")
	r.gauge("connections", "Connections, authenticated or not.", float64(p.requests.Requests()), "transport", "http")
	r.gauge("sessions", "Authenticated connections.", float64(d.Sessions))
	r.gauge("subscriptions", "Running subscriptions.", float64(d.Subscriptions))
	r.gauge("queue_bytes", "Waiting to be sent to clients.", float64(d.Queued))
	r.gauge("queue_connections", "Connections that something waits for.", float64(d.Waiting))
	r.gauge("queue_fullest_bytes", "The most that waits for one connection; over its bound it is closed.", float64(d.Fullest))
	r.gauge("held_bytes", "Frames held until subscriptions have caught up.", float64(d.Held))
	r.gauge("snapshots_running", "Snapshots being read.", float64(d.Snapshots))
	r.gauge("replays_running", "Resumed subscriptions that read the window.", float64(d.Replays))
	r.counter("frames_total", "Frames handed to clients' connections.", d.Frames)
	r.counter("frame_bytes_total", "Their size.", d.Bytes)
	for reason, n := range d.Resyncs {
		r.counter("resyncs_total", "Subscriptions told to start over, by reason.", n, "reason", reason)
	}
	for code, n := range d.Ends {
		r.counter("subscription_ends_total", "Subscriptions that the service ended, by code.", n, "code", code)
	}
	for way, n := range p.judge.Evaluations() {
		r.counter("evaluations_total", "Verdicts on row images, by the way they were found.", n, "way", way)
	}
	s := p.judge.Stats()
	r.gauge("policies_suspended", "Policies of a role, and principals, not evaluated for a while because they timed out.", float64(s.Suspended))
	for state, n := range map[string]int{"kept": s.Sets.Kept, "reading": s.Sets.Reading, "refused": s.Sets.Refused} {
		r.gauge("set_tables", "Tables that policies ask of: kept in process, being read, or refused, so that Postgres is asked.", float64(n), "state", state)
	}
	r.gauge("set_bytes", "Memory of what is kept of them; a bound is 256 MiB.", float64(s.Sets.Bytes))
	r.counter("shadow_differences_total", "Verdicts on which Postgres and a faster way disagreed (--shadow-policies).", s.Differences)
	if c := p.catalog.Load(); c != nil {
		r.gauge("tables", "Tables that are served.", float64(len(c.Tables())))
	}
}
