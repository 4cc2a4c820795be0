package authz_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

func limits(t *testing.T, settings ...string) *authz.Limiter {
	t.Helper()
	l, err := authz.ParseLimits(settings)
	if err != nil {
		t.Fatal(err)
	}
	return authz.NewLimiter(l)
}

func connect(t *testing.T, l *authz.Limiter, address string) *authz.Client {
	t.Helper()
	c, err := l.Connect(address, "websocket")
	if err != nil {
		t.Fatalf("connect from %s: %v", address, err)
	}
	t.Cleanup(c.Close)
	return c
}

// refused checks that an error is of a code and says when to come back.
func refused(t *testing.T, err error, code schema.Code, message string) {
	t.Helper()
	var e *schema.Error
	if !errors.As(err, &e) || e.Code != code || e.RetryAfter < time.Second || !strings.Contains(e.Message, message) {
		t.Errorf("%v, want %s with %q and when to come back", err, code, message)
	}
}

func user(subject string) *authz.Principal {
	return authz.NewPrincipal("r", subject, nil, time.Time{})
}

// Covers S07, S11.
func TestEachScopeHasItsBoundAndGivesBack(t *testing.T) {
	t.Parallel()
	l := limits(t, "connections.address=2", "connections.principal=1", "connections.role=3", "connections.all=4", "pending.address=2", "subscriptions.principal=1")
	a, b := connect(t, l, "203.0.113.1"), connect(t, l, "203.0.113.1")
	_, err := l.Connect("203.0.113.1", "http")
	refused(t, err, schema.LimitExceeded, "this address has 2 connections")
	if err := a.Authenticate(user("ann")); err != nil {
		t.Fatal(err)
	}
	refused(t, b.Authenticate(user("ann")), schema.LimitExceeded, "this user has 1 connections")
	b.Close()
	b.Close()
	c, d := connect(t, l, "203.0.113.2"), connect(t, l, "2001:db8::1")
	for _, x := range []*authz.Client{c, d} {
		if err := x.Authenticate(user("")); err != nil { // nobody in particular
			t.Fatal(err)
		}
	}
	e := connect(t, l, "203.0.113.3")
	refused(t, e.Authenticate(user("eve")), schema.LimitExceeded, "this role has 3 connections")
	_, err = l.Connect("203.0.113.4", "http")
	refused(t, err, schema.LimitExceeded, "the server has 4 connections")
	e.Close()
	connect(t, l, "203.0.113.4")

	if err := a.Subscribe(); err != nil {
		t.Fatal(err)
	}
	refused(t, a.Subscribe(), schema.LimitExceeded, "this user has 1 subscriptions")
	a.Unsubscribe()
	if err := a.Subscribe(); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
	if n := l.Refusals()[authz.Refusal{Resource: authz.Connections, Scope: authz.PerPrincipal}]; n != 1 {
		t.Errorf("%d refusals are counted, want 1", n)
	}
}

// Covers S07.
func TestWhoHasNotSaidWhoHeIsHoldsLess(t *testing.T) {
	t.Parallel()
	l := limits(t, "pending.address=1")
	a := connect(t, l, "203.0.113.1")
	_, err := l.Connect("203.0.113.1", "websocket")
	refused(t, err, schema.LimitExceeded, "this address has 1 pending")
	if err := a.Authenticate(user("ann")); err != nil {
		t.Fatal(err)
	}
	connect(t, l, "203.0.113.1")
}

// Covers S11, S12.
func TestChurnIsHeldToARateAndTheRateComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(t, "operations.principal=2", "operations.connection=1000", "connects.address=1")
		a := connect(t, l, "203.0.113.1")
		if err := a.Authenticate(user("ann")); err != nil {
			t.Fatal(err)
		}
		for range 10 { // five seconds' worth
			if err := a.Operate(); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, a.Operate(), schema.RateLimited, "too many operations a second for this user")
		<-time.After(time.Second)
		for range 2 {
			if err := a.Operate(); err != nil {
				t.Errorf("after a second: %v", err)
			}
		}
		refused(t, a.Operate(), schema.RateLimited, "come back in 1 s")
		for range 5 {
			connect(t, l, "203.0.113.1")
		}
		_, err := l.Connect("203.0.113.1", "websocket")
		refused(t, err, schema.RateLimited, "too many connects a second for this address")
		connect(t, l, "203.0.113.2")
	})
}

// An address of this machine is a proxy's, or its owner's.
func TestAddressesAreThoseOfCustomers(t *testing.T) {
	t.Parallel()
	l := limits(t, "connections.address=1")
	connect(t, l, "2001:db8:0:1::1")
	_, err := l.Connect("2001:db8:0:1:ffff::2", "http")
	refused(t, err, schema.LimitExceeded, "this address")
	connect(t, l, "2001:db8:0:2::1")
	connect(t, l, "203.0.113.1")
	_, err = l.Connect("::ffff:203.0.113.1", "http")
	refused(t, err, schema.LimitExceeded, "this address")
	for range 3 {
		connect(t, l, "127.0.0.1")
		connect(t, l, "::1")
		connect(t, l, "")
	}
}

// Covers S10.
func TestWhoSendsTooFastWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(t, "received.connection=1000", "received.address=2000")
		a, b, c := connect(t, l, "203.0.113.1"), connect(t, l, "203.0.113.1"), connect(t, l, "203.0.113.1")
		if d := a.Wait(authz.Received, 2000); d != 0 {
			t.Errorf("the first two seconds' worth waits %v", d)
		}
		if d := a.Wait(authz.Received, 1000); d != time.Second {
			t.Errorf("waits %v, want 1s", d)
		}
		if d := b.Wait(authz.Received, 1000); d != 0 {
			t.Errorf("another connection waits %v", d)
		}
		if d := c.Wait(authz.Received, 2000); d != time.Second {
			t.Errorf("behind both it waits %v, want 1s for the address", d)
		}
		if d := c.Wait(authz.Received, 1<<30); d > 10*time.Second {
			t.Errorf("one that is larger than what may come at once waits %v", d)
		}
	})
}

func TestWhatIsRememberedOfAddressesIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(t, "connects.all=0")
		for i := range 20_000 {
			c := connect(t, l, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
			c.Close()
			if i%1000 == 0 {
				<-time.After(time.Second)
			}
		}
		if n := authz.Remembered(l); n > 8192 {
			t.Errorf("%d rates are remembered of addresses that came once", n)
		}
	})
}

func TestLimitsAreReadOrSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	l, err := authz.ParseLimits([]string{"connections.address=5", "connections.all=0"})
	if err != nil || l[authz.Connections][authz.PerAddress] != 5 || l[authz.Connections][authz.InAll] != 0 {
		t.Errorf("%v, %v", l, err)
	}
	if l, err := authz.ParseLimits([]string{"none", "pending.all=3"}); err != nil || l != (authz.Limits{authz.Pending: {authz.InAll: 3}}) {
		t.Errorf("%v, %v", l, err)
	}
	for setting, want := range map[string]string{
		"sockets.address=5":     `"sockets" is none of connections, pending`,
		"connections.planet=5":  `"planet" is none of connection, address`,
		"connections.all":       `"" is no number`,
		"connections.all=-1":    `"-1" is no number`,
		"connections.all=1e6":   `"1e6" is no number`,
		"connections.address.x": `"address.x" is none of`,
	} {
		if _, err := authz.ParseLimits([]string{setting}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// Covers S72.
func TestTimeThatEvaluationTakesIsBoundedForWhoHasNotItAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(t, "evaluation.principal=100")
		greedy, ann := user("greedy"), user("ann")
		l.See(greedy)
		l.Spend(greedy, 800*time.Millisecond) // five seconds' worth is half a second
		if l.Overspent(greedy) {
			t.Error("somebody who is alone is held up")
		}
		l.See(ann, greedy)
		l.Spend(ann, 400*time.Millisecond)
		if !l.Overspent(greedy) || l.Overspent(ann) {
			t.Errorf("overspent: %v, and within the budget %v", l.Overspent(greedy), l.Overspent(ann))
		}
		if n := l.Refusals()[authz.Refusal{Resource: authz.Evaluation, Scope: authz.PerPrincipal}]; n == 0 {
			t.Error("it is not counted")
		}
		<-time.After(3*time.Second + time.Millisecond) // 300 ms over, at 100 ms a second
		if l.Overspent(greedy) {
			t.Error("the budget does not come back")
		}
		l.Spend(greedy, time.Minute)
		l.See(greedy)
		if <-time.After(2 * time.Second); l.Overspent(greedy) {
			t.Error("the others have gone, and it is held up still")
		}
	})
}
