package bench

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A Scenario is one thing to measure: Latency, Drain and so on. Its fields are what can be chosen,
// and their tags "help" and "default" say what of it: the command line reads them too.
type Scenario interface {
	// needs is what the bed has to have.
	needs() bedConfig
	// measure measures, against a baseline in the same run.
	measure(ctx context.Context, b *bed) (*Result, error)
}

// Run measures on a Postgres of its own, which it starts and stops. Fields of the scenario that are
// zero get their defaults. CPU, allocation and block profiles of what is measured go into a folder;
// "" is none.
func Run(ctx context.Context, s Scenario, profiles string) (*Result, error) {
	if err := fill(s); err != nil {
		return nil, err
	}
	cfg := s.needs()
	cfg.profile = profiles
	return onBed(ctx, cfg, s.measure)
}

// fill gives fields that are zero the values of their tags.
func fill(s Scenario) error {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f, otherwise := v.Field(i), v.Type().Field(i).Tag.Get("default")
		if !f.IsZero() || otherwise == "" {
			continue
		}
		switch to := f.Addr().Interface().(type) {
		case *int:
			n, err := strconv.Atoi(otherwise)
			if err != nil {
				return fmt.Errorf("read default of %s: %w", v.Type().Field(i).Name, err)
			}
			*to = n
		case *[]int:
			for _, word := range strings.Split(otherwise, ",") {
				n, err := strconv.Atoi(word)
				if err != nil {
					return fmt.Errorf("read default of %s: %w", v.Type().Field(i).Name, err)
				}
				*to = append(*to, n)
			}
		case *[]string:
			*to = strings.Split(otherwise, ",")
		}
	}
	return nil
}

// measured does what is measured, with profiles where they are asked for, and gives the CPU time that
// this process used for it.
func (b *bed) measured(name string, do func() error) (time.Duration, error) {
	if err := b.profile.start(name); err != nil {
		return 0, err
	}
	cpu := cpuTime()
	err := do()
	used := cpuTime() - cpu
	return used, errors.Join(err, b.profile.stop(name))
}

// subscribers opens sockets of the load process, each of a user of its own, with so many subscriptions
// that get every row of feed.
func (b *bed) subscribers(sockets, perSocket int) error {
	_, err := b.load.do(order{Do: doOpen, Address: b.address(), Sockets: sockets, PerSocket: perSocket, Query: feedQuery, Subject: "u{socket}"})
	return err
}

func (b *bed) hangUp() error {
	_, err := b.load.do(order{Do: doHangUp})
	return err
}
