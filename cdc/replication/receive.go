package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowtide/rowtide/cdc"
)

// read receives until the connection ends. After ctx has ended it goes on, and throws away what
// comes: the server may have to get rid of much before it sees that we are leaving.
func (s *stream) read(ctx context.Context) error {
	for {
		s.fresh = s.frontend.ReadBufferLen() == 0
		if s.fresh && s.gulp.empty() && ctx.Err() == nil {
			s.queue.wake()
			if s.gulp.rests(time.Now()) {
				sleep(ctx, restTime)
			}
			if err := s.listen(); err != nil {
				return err
			}
		}
		m, err := s.frontend.Receive()
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				return fmt.Errorf("receive: the server has said nothing for %s although asked", s.silence)
			}
			return fmt.Errorf("receive: %w", err)
		}
		if s.fresh {
			hear(&s.heard)
		}
		if ctx.Err() == nil {
			err = s.receive(ctx, m)
		} else if _, ended := m.(*pgproto3.ReadyForQuery); ended {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// listen gives the server its time to say something.
func (s *stream) listen() error {
	if err := s.conn.SetReadDeadline(time.Now().Add(s.silence)); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// receive takes one message of the server.
func (s *stream) receive(ctx context.Context, m pgproto3.BackendMessage) error {
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return s.copyData(ctx, m.Data)
	case *pgproto3.ErrorResponse:
		return s.c.streamError(pgconn.ErrorResponseToPgError(m), s.open)
	case *pgproto3.NoticeResponse:
		return s.notice(m)
	case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return errServerEnded
	case *pgproto3.ParameterStatus:
		return nil
	}
	return fmt.Errorf("receive: unexpected message %T", m)
}

// notice watches for PostgreSQL 18 saying that it skips a publication that is not there: from
// then on it would send nothing, and the slot would move on over all changes. The routine's name
// is not translated, as the text may be.
func (s *stream) notice(m *pgproto3.NoticeResponse) error {
	if m.Routine == "LoadPublications" || strings.HasPrefix(m.Message, "skipped loading publication") {
		return s.c.noPublication(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(m)))
	}
	s.c.log.Warn("notice from the server", "severity", m.Severity, "message", m.Message)
	return nil
}

func (s *stream) copyData(ctx context.Context, b []byte) error {
	if len(b) == 0 {
		return errors.New("receive: empty message in the stream")
	}
	switch b[0] {
	case kindKeepalive:
		k, err := parseKeepalive(b)
		if err != nil {
			return err
		}
		return s.keepalive(k)
	case kindData:
		payload, serverEnd, err := parseData(b)
		if err != nil {
			return err
		}
		if s.fresh {
			hear(&s.heardData)
		}
		s.shutdown.data()
		s.advance(serverEnd)
		if commit, ok := beginsAt(payload); ok {
			s.open = commit
		} else if isCommit(payload) {
			s.open = 0
		}
		return s.enqueue(ctx, payload)
	}
	return fmt.Errorf("receive: unknown kind of message %q in the stream", b[0])
}

func (s *stream) keepalive(k keepalive) error {
	hear(&s.heardKeepalive)
	s.advance(k.end)
	s.queue.pushKeepalive(k.end)
	if !k.wantReply {
		return nil
	}
	if s.shutdown.keepalive(time.Now()) {
		return errShutdown
	}
	signal(s.answer)
	return nil
}

func (s *stream) advance(serverEnd cdc.LSN) {
	s.serverEnd.Store(max(s.serverEnd.Load(), uint64(serverEnd)))
}

// enqueue waits for a place in the queue. While it waits nothing is read, and the server is not
// to blame for its silence, also where a part of the next message was read before.
func (s *stream) enqueue(ctx context.Context, payload []byte) error {
	if s.queue.push(payload) {
		return nil
	}
	s.queue.wake()
	s.full.Store(true)
	defer s.full.Store(false)
	for !s.queue.push(payload) {
		select {
		case <-ctx.Done():
			return nil
		case <-s.queue.drained:
		}
	}
	return s.listen()
}
