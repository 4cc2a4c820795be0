package replication

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowtide/rowtide/cdc"
)

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

// What PostgreSQL says of a transaction with a value that, in text and twice, is more than a
// gigabyte: it would fail each time. The line names the place to skip to.
func TestTransactionThatCannotBeDecodedIsFatal(t *testing.T) {
	t.Parallel()
	const tooLarge = "54000"
	for name, tt := range map[string]struct {
		sent []byte
		want string
	}{
		"inside":  {beginFrame(0x1_00002000), "SELECT pg_replication_slot_advance('s', '1/2001')"},
		"between": {[]byte("C"), "SELECT pg_replication_slot_advance('s', the position behind it)"},
	} {
		s := &scripted{t: t, stream: func(_ context.Context, b *pgproto3.Backend) {
			sendData(b, beginFrame(0x1000))
			sendData(b, []byte("C"))
			sendData(b, tt.sent)
			b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: tooLarge, Message: "out of memory"})
			_ = b.Flush()
		}}
		s.serve()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := s.config()
			cfg.Handler = ignore{}
			run(t, cfg).fails(t, Undecodable, "out of memory", tt.want)
		})
	}
}

type ignore struct{}

func (ignore) Reset(cdc.LSN)                        {}
func (ignore) Lost(context.Context, cdc.LSN) error  { return nil }
func (ignore) Handle(context.Context, []byte) error { return nil }

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
