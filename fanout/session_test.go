package fanout_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
)

// Covers S27.
func TestNothingIsGivenAfterExpiryAlsoNotWhatIsQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		d := w.start(fanout.Config{})
		s := d.Open(principal("ann", time.Now().Add(time.Minute)))
		r, err := s.Subscribe(t.Context(), request(""))
		if err != nil {
			t.Fatalf("subscribe: %v", err)
		}
		c := newClient(t, r.Subscription)
		c.expect("LIVE")
		<-time.After(59 * time.Second)
		w.write(put(1, "ann", "a"))
		c.expect("INSERT 1 a")
		w.write(put(2, "ann", "b"))
		synctest.Wait() // it is queued
		<-time.After(time.Second)
		if n, err := c.expectEnd(); n != 0 || !errors.Is(err, fanout.ErrExpired) {
			t.Errorf("%d frames and then %v, want none and ErrExpired", n, err)
		}
		if _, err := s.Subscribe(t.Context(), request("")); !errors.Is(err, fanout.ErrExpired) {
			t.Errorf("subscribe after expiry: %v", err)
		}
		if err := s.Refresh(principal("ann", time.Now().Add(time.Hour))); !errors.Is(err, fanout.ErrExpired) {
			t.Errorf("refresh after expiry: %v", err)
		}
		s.Close()
		w.stop()
		_ = w.bus.Close()
	})
}

func TestSubscriptionThatWaitsEndsAtExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		d := w.start(fanout.Config{})
		r, err := d.Subscribe(t.Context(), principal("ann", time.Now().Add(time.Minute)), request(""))
		if err != nil {
			t.Fatalf("subscribe: %v", err)
		}
		c := newClient(t, r.Subscription)
		c.expect("LIVE")
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := r.Subscription.Next(ctx); !errors.Is(err, fanout.ErrExpired) || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v, want ErrExpired after a minute", time.Since(start), err)
		}
		r.Subscription.Close()
		if n := d.Subscriptions(); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
		w.stop()
		_ = w.bus.Close()
	})
}

// Covers S28.
func TestRefreshGoesOnForTheSameSubjectOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		d := w.start(fanout.Config{})
		claims := func(sub, json string, expires time.Time) *authz.Principal {
			return authz.NewPrincipal("web_user", sub, []authz.Setting{{Name: "request.jwt.claims", Value: json}}, expires)
		}
		s := d.Open(claims("ann", `{"sub":"ann","exp":1,"iat":1}`, time.Now().Add(time.Minute)))
		r, err := s.Subscribe(t.Context(), request(""))
		if err != nil {
			t.Fatalf("subscribe: %v", err)
		}
		c := newClient(t, r.Subscription)
		c.expect("LIVE")
		for name, p := range map[string]*authz.Principal{
			"another subject": claims("bob", `{"sub":"bob"}`, time.Time{}),
			"another role":    authz.NewPrincipal("web_admin", "ann", nil, time.Time{}),
			"nobody":          claims("", `{}`, time.Time{}),
		} {
			if err := s.Refresh(p); !errors.Is(err, fanout.ErrOtherSubject) {
				t.Errorf("%s: %v, want ErrOtherSubject", name, err)
			}
		}
		if err := s.Refresh(claims("ann", `{"exp":2,"iat":2,"jti":"x","sub":"ann"}`, time.Now().Add(time.Hour))); err != nil {
			t.Errorf("a newer token: %v", err)
		}
		<-time.After(2 * time.Minute) // the first token has ended
		w.write(put(1, "ann", "a"))
		c.expect("INSERT 1 a")
		if err := s.Refresh(claims("ann", `{"sub":"ann","team":7}`, time.Time{})); err != nil {
			t.Errorf("other claims: %v", err)
		}
		c.expectResync("policy_changed")
		s.Close()
		w.stop()
		_ = w.bus.Close()
	})
}

// Covers S13.
func TestSubscriptionsOfASessionShareItsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"))
	d := w.start(fanout.Config{Limits: fanout.Limits{QueueBytes: 6000}})
	s := d.Open(principal("ann", time.Time{}))
	defer s.Close()
	var clients []*client
	for range 4 {
		r, err := s.Subscribe(t.Context(), request(""))
		if err != nil {
			t.Fatalf("subscribe: %v", err)
		}
		c := newClient(t, r.Subscription)
		c.expect("LIVE")
		clients = append(clients, c)
	}
	watch := w.follow(d, "ann", "")
	for i := range 10 { // 10 fit one queue of 6,000 bytes, and 40 do not
		w.write(put(100+i, "ann", "a"))
		if _, err := watch.read(t.Context()); err != nil {
			t.Fatalf("watch: %v", err)
		}
	}
	slow := 0
	for _, c := range clients {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		for {
			if _, err := c.read(ctx); err != nil {
				if errors.Is(err, fanout.ErrSlow) {
					slow++
				}
				break
			}
			if len(c.got) == 11 {
				break
			}
		}
		cancel()
	}
	if slow == 0 {
		t.Error("a session held four times its bound")
	}
}

// Covers S30.
func TestAClockThatIsSetBackKeepsNobodyIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		var step atomic.Int64
		d := w.start(fanout.Config{Now: func() time.Time { return time.Now().Add(time.Duration(step.Load())) }})
		s := d.Open(principal("ann", time.Now().Add(time.Minute)))
		r, err := s.Subscribe(t.Context(), request(""))
		if err != nil {
			t.Fatalf("subscribe: %v", err)
		}
		c := newClient(t, r.Subscription)
		c.expect("LIVE")
		step.Store(-int64(time.Hour))
		<-time.After(59 * time.Second)
		if err := s.Err(); err != nil {
			t.Errorf("it ended early: %v", err)
		}
		<-time.After(time.Second)
		if n, err := c.expectEnd(); n != 0 || !errors.Is(err, fanout.ErrExpired) {
			t.Errorf("%d frames and then %v, want none and ErrExpired", n, err)
		}
		s.Close()
		w.stop()
		_ = w.bus.Close()
	})
}
