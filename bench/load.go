package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// An order is what the load process is to do. It answers each with a report.
type order struct {
	// Do is one of the verbs below.
	Do string `json:"do"`

	// Of open: Sockets connections to Address, each with PerSocket subscriptions to Query, in
	// which {socket} and {sub} stand for their numbers. With Bare nothing is subscribed to.
	Address            string `json:",omitempty"`
	Sockets, PerSocket int    `json:",omitempty"`
	Query              string `json:",omitempty"`
	// Subject is the claim sub, in which {socket} is replaced.
	Subject string `json:",omitempty"`
	Bare    bool   `json:",omitempty"`
	// Sparse tells that ids only rise; else each must be the one behind the last.
	Sparse bool `json:",omitempty"`
	// Rows is how many rows each subscription must have got when it is live, at least.
	Rows int `json:",omitempty"`

	// Of expect, which answers at once: how many frames are still to come on all subscriptions
	// together; and of churn: how many times to subscribe, wait for LIVE, and complete.
	Frames int `json:",omitempty"`

	// Of write: Rate rows a second for Seconds, PerTransaction at a time, into the table feed,
	// their ids from First on; then it expects Subscriptions frames of each.
	URL string `json:",omitempty"`

	// Of flood: its kind, by Sockets foes, for Seconds; "" is none. Subject is theirs. It reports what was tried as
	// Frames, and what of it was refused as Written.
	Flood string `json:",omitempty"`

	Rate, Seconds, PerTransaction, First, Subscriptions int `json:",omitempty"`
}

// The orders.
const (
	doOpen   = "open"
	doExpect = "expect"
	doAwait  = "await"
	doWrite  = "write"
	doChurn  = "churn"
	doFlood  = "flood"
	doHangUp = "hang up"
)

// A report answers an order. Times are in Unix nanoseconds.
type report struct {
	Error string
	// First and Last are when the first and the last expected frame came.
	First, Last int64
	Frames      int
	// Written is how many rows were written, in Wrote.
	Written int
	Wrote   time.Duration
	// P50 to Max are how long a frame took from the moment before its row's INSERT was sent,
	// in microseconds.
	P50, P90, P99, Max float64
}

func (r *report) took() time.Duration { return time.Duration(r.Last - r.First) }

// A load is the process that plays the clients.
type load struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// LoadVerb is the hidden command of the binary that runs Load.
const LoadVerb = "load"

// loadEnv names the variable by which a test binary knows that it is to run Load.
const loadEnv = "ROWTIDE_BENCH_LOAD"

func startLoad(ctx context.Context) (*load, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start load process: %w", err)
	}
	l := &load{cmd: exec.CommandContext(ctx, self, "bench", LoadVerb)} //nolint:gosec // it is ourselves
	l.cmd.Stderr = os.Stderr
	l.cmd.Env = append(os.Environ(), loadEnv+"=1")
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start load process: %w", err)
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start load process: %w", err)
	}
	if err := l.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start load process: %w", err)
	}
	l.enc, l.dec = json.NewEncoder(l.in), json.NewDecoder(out)
	return l, nil
}

// tell gives an order; what it reports comes with hear.
func (l *load) tell(o order) error {
	if err := l.enc.Encode(o); err != nil {
		return fmt.Errorf("order %q: %w", o.Do, err)
	}
	return nil
}

func (l *load) hear() (*report, error) {
	var r report
	if err := l.dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("hear from the load process: %w", err)
	}
	if r.Error != "" {
		return nil, errors.New("load process: " + r.Error)
	}
	return &r, nil
}

// expect says what will come; await, once that is written, waits for it.
func (l *load) expect(frames int) error {
	_, err := l.do(order{Do: doExpect, Frames: frames})
	return err
}

func (l *load) await() (*report, error) { return l.do(order{Do: doAwait}) }

// do gives an order and waits until it is done.
func (l *load) do(o order) (*report, error) {
	if err := l.tell(o); err != nil {
		return nil, err
	}
	return l.hear()
}

// close ends the process: it does at the end of its input.
func (l *load) close() {
	_ = l.in.Close()
	_ = l.cmd.Wait()
}
