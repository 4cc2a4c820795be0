package replication

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
)

// Covers C02, C17.
func TestStatusSetsAllThreePositions(t *testing.T) {
	t.Parallel()
	p := NewProgress()
	if b, _ := p.status(time.Now(), false); b != nil {
		t.Fatalf("a status before the first position: %x", b)
	}
	p.start(0xFFFFFFFF_00000001)
	now := time.Date(2000, 1, 1, 0, 0, 1, 5000, time.UTC)
	position := []byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1}
	want := bytes.Join([][]byte{{'r'}, position, position, position, {0, 0, 0, 0, 0, 0x0F, 0x42, 0x45}, {0}}, nil)
	if got, at := p.status(now, false); !bytes.Equal(got, want) || at != 0xFFFFFFFF_00000001 {
		t.Errorf("status at %s is\n%x, want\n%x", at, got, want)
	}
	want[len(want)-1] = 1
	if got, _ := p.status(now, true); !bytes.Equal(got, want) {
		t.Errorf("status that wants a reply is\n%x, want\n%x", got, want)
	}
}

func TestPositionNeverFallsBack(t *testing.T) {
	t.Parallel()
	p := NewProgress()
	p.start(100)
	p.Held(90)
	p.keepalive(80)
	p.start(70)
	if got := p.Position(); got != 100 {
		t.Errorf("position is %s, want 0/64", got)
	}
}

// Covers C05, C06.
func TestKeepaliveMovesOnlyBetweenTransactions(t *testing.T) {
	t.Parallel()
	p := NewProgress()
	at := func(want cdc.LSN) {
		t.Helper()
		if got := p.Position(); got != want {
			t.Fatalf("position is %d, want %d", got, want)
		}
	}
	p.start(100)
	p.keepalive(150)
	at(150) // nothing is open
	p.begin(200)
	p.keepalive(210)
	at(150) // the transaction is not held, though the server has sent it
	p.begin(220)
	p.Held(205)
	at(205) // the first is held, the second is open
	p.keepalive(240)
	at(205)
	p.Held(230)
	p.keepalive(240)
	at(240)
	p.begin(300)
	p.start(240) // reconnected: it will come again
	p.keepalive(260)
	at(260)
}

func TestMovedIsSignalledOnceForMany(t *testing.T) {
	t.Parallel()
	p := NewProgress()
	for i := range cdc.LSN(10) {
		p.Held(i + 1)
	}
	<-p.moved
	select {
	case <-p.moved:
		t.Error("a second token for what one status says")
	default:
	}
	p.Held(5)
	select {
	case <-p.moved:
		t.Error("a token although nothing moved")
	default:
	}
}

// A model of a server's stream, read into the queue ahead of a handler whose bus is later still.
// In whatever order the three run, the acknowledgement never reaches into a transaction that the
// bus does not hold, never falls back, and in the end reaches everything.
type progressMachine struct {
	p *Progress
	q *queue

	sent cdc.LSN // end of what the server has sent

	received []modelTx // sent by the server, in order
	handled  int       // of those, how many the handler was given
	held     int       // of those, how many the bus holds
	batch    *slab
	next     int // item of batch
	from     int // its bytes
	last     cdc.LSN
}

type modelTx struct{ commit, end cdc.LSN }

func (m *progressMachine) check(t *rapid.T) {
	b, position := m.p.status(time.Unix(0, 0), false)
	if b == nil || position == 0 {
		t.Fatal("no position after the start")
	}
	if position < m.last {
		t.Fatalf("position fell from %d to %d", m.last, position)
	}
	m.last = position
	if m.held < len(m.received) {
		// Acknowledged is what ends at or before the position; a position behind the commit
		// record makes PostgreSQL skip the transaction.
		if oldest := m.received[m.held]; position > oldest.commit {
			t.Fatalf("position %d lies behind the commit %d of a transaction that is not held", position, oldest.commit)
		}
	}
	if position > m.sent {
		t.Fatalf("position %d lies behind all that was sent (%d)", position, m.sent)
	}
}

// server sends a transaction with keepalives before, inside and behind it.
func (m *progressMachine) server(t *rapid.T) {
	keepalive := func() {
		if rapid.Bool().Draw(t, "keepalive") {
			m.sent += cdc.LSN(rapid.IntRange(0, 5).Draw(t, "foreign WAL"))
			m.q.pushKeepalive(m.sent)
		}
	}
	keepalive()
	if rapid.Bool().Draw(t, "transaction") {
		tx := modelTx{commit: m.sent + cdc.LSN(rapid.IntRange(0, 5).Draw(t, "gap"))}
		tx.end = tx.commit + cdc.LSN(rapid.IntRange(1, 5).Draw(t, "commit record"))
		before := m.sent
		m.received = append(m.received, tx)
		m.push(t, beginFrame(tx.commit))
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			m.push(t, []byte("I"))
			if rapid.Bool().Draw(t, "keepalive inside") {
				m.q.pushKeepalive(before) // the server's own position moves behind the transaction alone
			}
		}
		m.push(t, []byte("C"))
		m.sent = tx.end
	}
	keepalive()
}

// push waits for a place in the queue, as stream.enqueue does.
func (m *progressMachine) push(t *rapid.T, message []byte) {
	for !m.q.push(message) {
		m.handler(t)
	}
}

// handler takes one item out of the queue, as stream.handle does.
func (m *progressMachine) handler(*rapid.T) {
	if m.batch == nil || m.next == len(m.batch.items) {
		m.next, m.from = 0, 0
		if m.batch = m.q.take(m.batch); m.batch == nil {
			return
		}
	}
	it := m.batch.items[m.next]
	data := m.batch.data[m.from:it.end]
	m.next, m.from = m.next+1, it.end
	if err := deliver(it, data, m.p, m.handle, m.reached); err != nil {
		panic(err)
	}
}

// reached holds the promise that everything which commits before end is held by the bus.
func (m *progressMachine) reached(end cdc.LSN) error {
	for _, tx := range m.received[m.held:] {
		if tx.commit < end {
			return fmt.Errorf("%d is promised, and the transaction at %d not held", end, tx.commit)
		}
	}
	return nil
}

func (m *progressMachine) handle(data []byte) error {
	if data[0] == 'C' {
		m.handled++
	}
	return nil
}

// bus holds some of what was handled.
func (m *progressMachine) bus(t *rapid.T) {
	if m.held < m.handled {
		m.held += rapid.IntRange(1, m.handled-m.held).Draw(t, "held")
		m.p.Held(m.received[m.held-1].end)
	}
}

// drain lets handler and bus catch up, and the server say once more where it is.
func (m *progressMachine) drain(t *rapid.T) {
	for m.handler(t); m.batch != nil; m.handler(t) {
		m.check(t)
	}
	for m.held < len(m.received) {
		m.bus(t)
		m.check(t)
	}
	m.q.pushKeepalive(m.sent)
	m.handler(t)
}

func beginFrame(commit cdc.LSN) []byte {
	b := appendStatus(nil, commit, time.Unix(0, 0), false)[:9]
	b[0] = 'B'
	return b
}

// Covers C05, C06.
func TestAcknowledgementIsSafeInAnyInterleaving(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &progressMachine{p: NewProgress(), q: newQueue(rapid.IntRange(20, 200).Draw(t, "queue")), sent: 10}
		m.p.start(10)
		t.Repeat(map[string]func(*rapid.T){"": m.check, "server": m.server, "handler": m.handler, "bus": m.bus})
		m.drain(t)
		m.check(t)
		if m.last != m.sent {
			t.Fatalf("position %d at the end, want all that was sent: %d", m.last, m.sent)
		}
	})
}
