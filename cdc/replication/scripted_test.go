package replication

import (
	"context"
	"encoding/binary"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	// create, where set, answers the making of the slot, which else is there.
	create func(ctx context.Context, b *pgproto3.Backend)
	// cancelled gets a token for each request to cancel, dropped for each slot that is dropped.
	cancelled, dropped chan struct{}
	// stream plays the server's part once START_REPLICATION was answered.
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
			if b.Flush() == nil {
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
	case strings.Contains(sql, "pg_publication"):
		rows(b, []string{publication})
	case strings.HasPrefix(sql, "DROP_REPLICATION_SLOT"):
		s.dropped <- struct{}{}
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("DROP_REPLICATION_SLOT")})
	case strings.Contains(sql, "pg_replication_slots") && s.create != nil:
		rows(b)
	case strings.Contains(sql, "pg_replication_slots"):
		rows(b, []string{"logical", "pgoutput", "d", "d", "f", "reserved", "0/1000", "0/1000", "", ""})
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

func (s *scripted) config() Config {
	f := newFeed()
	return Config{URL: s.url, Slot: "s", Publication: publication, Handler: f, Progress: f.progress}
}

// Covers C39.
func TestPoolerIsRecognised(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*scripted{
		"refuses the parameter":  {t: t, refuse: &pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: replication"}},
		"swallows the parameter": {t: t, pooler: true},
	} {
		s.serve()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, s.config()).fails(t, Pooler, "pooler", "the server's own address")
		})
	}
}

func TestServerThatCannotServeIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		setting, value string
		want           Reason
		words          []string
	}{
		{"server_version_num", "140012", TooOld, []string{"PostgreSQL 14", "15 or newer"}},
		{"datestyle", "German, DMY", Settings, []string{"DateStyle", "German, DMY"}},
		{"extra_float_digits", "0", Settings, []string{"extra_float_digits"}},
	} {
		s := &scripted{t: t, settings: map[string]string{tt.setting: tt.value}}
		s.serve()
		t.Run(tt.setting, func(t *testing.T) {
			t.Parallel()
			run(t, s.config()).fails(t, tt.want, tt.words...)
		})
	}
}

// A standby may be promoted: it is waited for, though at the start not for ever.
func TestStandbyIsWaitedForAndThenReported(t *testing.T) {
	t.Parallel()
	s := &scripted{t: t, settings: map[string]string{"in_recovery": "true"}}
	s.serve()
	cfg := s.config()
	cfg.StartTimeout = 1 // one more attempt
	run(t, cfg).fails(t, Standby, "connect to the primary")
}

// PostgreSQL 18 only warns that it skips a publication, and then sends keepalives past all of its
// changes. Those must not be acknowledged. Its text may come in any language.
//
// Covers C78.
func TestSkippedPublicationIsFatalAndNotAcknowledged(t *testing.T) {
	t.Parallel()
	for name, notice := range map[string]*pgproto3.NoticeResponse{
		"by the routine": {Severity: "ВНИМАНИЕ", Code: "55000", Message: `публикация "published" пропущена`, Routine: "LoadPublications"},
		"by the text":    {Severity: "WARNING", Code: "55000", Message: `skipped loading publication "published"`},
	} {
		var mu sync.Mutex
		var acknowledged []cdc.LSN
		s := &scripted{t: t, stream: func(_ context.Context, b *pgproto3.Backend) {
			if sendKeepalive(b, 0x1100, 0) != nil {
				return
			}
			b.Send(notice)
			_ = sendKeepalive(b, 0x2000, 1)
			for {
				m, err := b.Receive()
				if err != nil {
					return
				}
				if d, ok := m.(*pgproto3.CopyData); ok && d.Data[0] == kindStatus {
					mu.Lock()
					acknowledged = append(acknowledged, cdc.LSN(binary.BigEndian.Uint64(d.Data[9:])))
					mu.Unlock()
				}
			}
		}}
		s.serve()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, s.config()).fails(t, NoPublication, "published", "create it")
			mu.Lock()
			defer mu.Unlock()
			if len(acknowledged) > 0 && slices.Max(acknowledged) > 0x1100 {
				t.Errorf("acknowledged %v, behind the warning", acknowledged)
			}
		})
	}
}

// The request to cancel comes too late: the server has made the slot. It is dropped again.
//
// Covers C40.
func TestSlotThatWasMadeWhenItWasCalledOffIsDropped(t *testing.T) {
	t.Parallel()
	s := &scripted{t: t, cancelled: make(chan struct{}, 9), dropped: make(chan struct{}, 9)}
	asked := make(chan struct{}, 9)
	s.create = func(ctx context.Context, b *pgproto3.Backend) {
		asked <- struct{}{}
		select {
		case <-s.cancelled:
		case <-ctx.Done():
		}
		rows(b, []string{"s", "0/1000", "", "pgoutput"})
	}
	s.serve()
	r := run(t, s.config())
	<-asked
	r.stop()
	if err := r.end(t); err != nil {
		t.Error(err)
	}
	select {
	case <-s.dropped:
	default:
		t.Error("the slot was left behind")
	}
}

// A keepalive that wants no answer gets none of its own, however many there are: one status says
// all that they allow.
//
// Covers C08.
func TestStormOfKeepalivesIsAnsweredAtABoundedRate(t *testing.T) {
	t.Parallel()
	const keepalives = 50_000
	type result struct {
		statuses int
		took     time.Duration
	}
	results := make(chan result)
	s := &scripted{t: t, stream: func(ctx context.Context, b *pgproto3.Backend) {
		began := time.Now()
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			for i := range keepalives {
				if sendKeepalive(b, cdc.LSN(0x1001+i), 0) != nil {
					return
				}
			}
		})
		n := 0
		for last := cdc.LSN(0); last < 0x1000+keepalives; n++ {
			m, err := b.Receive()
			if err != nil {
				return
			}
			last = cdc.LSN(binary.BigEndian.Uint64(m.(*pgproto3.CopyData).Data[9:]))
		}
		select {
		case results <- result{n, time.Since(began)}:
		case <-ctx.Done():
		}
		<-ctx.Done()
	}}
	s.serve()
	run(t, s.config())
	r := <-results
	if limit := int(r.took/statusGap) + 2; r.statuses > limit {
		t.Errorf("%d statuses within %s, want at most %d", r.statuses, r.took, limit)
	}
}

// The server at the other end may say anything.
func TestNonsenseFromTheServerIsAnErrorAndTriedAgain(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"empty":           {},
		"unknown kind":    {'z', 1},
		"short keepalive": {kindKeepalive, 1},
		"short data":      {kindData, 1},
	} {
		s := &scripted{t: t, stream: func(_ context.Context, b *pgproto3.Backend) {
			b.Send(&pgproto3.CopyData{Data: data})
			if b.Flush() == nil {
				_, _ = b.Receive()
			}
		}}
		s.serve()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, s.config())
			eventually(t, "it is tried again", func() bool { return r.State().Connections > 1 })
		})
	}
}

// Statuses are answered at a bounded rate, however fast the server asks, and a burst of questions
// is taken for the shutdown that it is.
//
// Covers C08, C38.
func TestBurstOfQuestionsIsAShutdown(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var answers []int // of each connection
	s := &scripted{t: t, stream: func(_ context.Context, b *pgproto3.Backend) {
		mu.Lock()
		at := len(answers)
		answers = append(answers, 0)
		mu.Unlock()
		// As WalSndDone: after each answer the next question.
		for sendKeepalive(b, 0x1100, 1) == nil {
			if _, err := b.Receive(); err != nil {
				return
			}
			mu.Lock()
			answers[at]++
			mu.Unlock()
		}
	}}
	s.serve()
	r := run(t, s.config())
	eventually(t, "it leaves and comes back", func() bool { return r.State().Connections > 2 })
	mu.Lock()
	defer mu.Unlock()
	if answers[0] < 1 || answers[0] > 2*burst {
		t.Errorf("%d answers before it left, want about %d", answers[0], burst)
	}
}
