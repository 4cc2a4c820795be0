package bench

import (
	"context"
	"fmt"
	"runtime"
)

// batch is how many frames the ceiling writes at once: as many as the service does.
const batch = 64

// Fanout measures how fast frames go to many sockets that all get the same changes, against two
// servers without a service behind: one that writes frames that were encoded beforehand, 64 at a
// time, which is as fast as sockets get; and one that writes them one by one, as a program does
// that calls its WebSocket library for each message.
type Fanout struct {
	Rounds  int `help:"How often each side sends." default:"5"`
	Sockets int `help:"Sockets, with one subscription each." default:"1000"`
	Rows    int `help:"Rows of the transaction that all of them get." default:"1000"`
}

func (*Fanout) needs() bedConfig {
	return bedConfig{schema: schema, clients: true, queueBytes: 64 << 20}
}

func (s *Fanout) measure(ctx context.Context, b *bed) (*Result, error) {
	ceiling, plain := fmt.Sprintf("encoded beforehand, %d at a time", batch), "one Write a message"
	const ours = "rowtide"
	r := newResult("fanout", b.version, s.Rounds, "frames/s", "CPU µs/frame")
	for round := range s.Rounds {
		if err := s.bare(ctx, b, ceiling, together, r); err != nil {
			return nil, err
		}
		if err := s.bare(ctx, b, plain, oneByOne, r); err != nil {
			return nil, err
		}
		if err := b.subscribers(s.Sockets, 1); err != nil {
			return nil, err
		}
		insert := fmt.Sprintf("INSERT INTO feed SELECT n, 'me', 1, 0, 'a payload of ordinary length' FROM generate_series(%d, %d) n",
			round*s.Rows+1, (round+1)*s.Rows)
		if err := s.send(b, ours, "fanout", r, func() error { return b.exec(ctx, insert) }); err != nil {
			return nil, err
		}
	}
	r.ratio("rowtide / encoded beforehand", r.at(ours, 0)/r.at(ceiling, 0), "at least 0.6")
	r.ratio("rowtide / one Write a message", r.at(ours, 0)/r.at(plain, 0), "at least 6")
	r.ratio("rowtide, CPU µs a frame", r.at(ours, 1), "at most 1")
	r.Notes = []string{"Elapsed time runs from the first frame that a client has to the last; CPU time is this process's, Postgres and the clients not counted."}
	return r, nil
}

// send has the sockets that are open be sent everything, and closes them.
func (s *Fanout) send(b *bed, name, profile string, to *Result, begin func() error) error {
	frames := s.Sockets * s.Rows
	if err := b.load.expect(frames); err != nil {
		return err
	}
	runtime.GC()
	var r *report
	used, err := b.measured(profile, func() (err error) {
		if err := begin(); err != nil {
			return err
		}
		r, err = b.load.await()
		return err
	})
	if err != nil {
		return err
	}
	to.sample(name, float64(frames)/r.took().Seconds(), float64(used.Nanoseconds())/1e3/float64(frames))
	return b.hangUp()
}

// bare lets a server without anything behind send.
func (s *Fanout) bare(ctx context.Context, b *bed, name string, write bareWriter, to *Result) error {
	server, err := newBareServer(ctx, write, encode(s.Rows))
	if err != nil {
		return err
	}
	defer server.close()
	_, err = b.load.do(order{Do: doOpen, Address: server.listener.Addr().String(), Sockets: s.Sockets, PerSocket: 1, Bare: true})
	if err != nil {
		return err
	}
	return s.send(b, name, "", to, func() error { close(server.begin); return nil })
}
