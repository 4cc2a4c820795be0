package jwt_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz/jwt"
	"github.com/rowtide/rowtide/schema"
)

// An issuer publishes keys, and counts who asks.
type issuer struct {
	*httptest.Server

	asked atomic.Int64
	mu    sync.Mutex
	serve http.HandlerFunc
}

func newIssuer(t *testing.T, serve http.HandlerFunc) *issuer {
	t.Helper()
	i := &issuer{serve: serve}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		serve := i.serve
		i.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func publish(text []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }
}

func (i *issuer) now(serve http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serve = serve
}

func (i *issuer) verifier(t *testing.T, least time.Duration) *jwt.Verifier {
	t.Helper()
	return verifier(t, func(c *jwt.Config) {
		c.Secret, c.JWKSURL = nil, i.URL+"/keys"
		jwt.Trusting(c, i.Client().Transport.(*http.Transport).TLSClientConfig, least)
	})
}

func TestKeysRotateWithoutARestart(t *testing.T) {
	t.Parallel()
	old, next := pairs()["RS256"], pairs()["ES384"]
	i := newIssuer(t, publish(jwks(t, old.jwk("old", nil))))
	v := i.verifier(t, time.Nanosecond)
	byOld, byNext := old.sign(t, "RS256", good(""), map[string]any{"kid": "old"}), next.sign(t, "ES384", good(""), map[string]any{"kid": "next"})
	if _, err := v.Verify(byOld); err != nil {
		t.Fatal(err)
	}
	refused(t, v, byNext, schema.Unauthenticated, "not valid")
	i.now(publish(jwks(t, next.jwk("next", nil))))
	if _, err := v.Verify(byNext); err != nil {
		t.Errorf("a new key: %v", err)
	}
	refused(t, v, byOld, schema.Unauthenticated, "not valid") // its issuer took it back
	i.now(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	refused(t, v, byOld, schema.Unauthenticated, "not valid")
	if _, err := v.Verify(byNext); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
}

// Covers S24, S21.
func TestRandomKeyIDsCostOneFetch(t *testing.T) {
	t.Parallel()
	p := pairs()["EdDSA"]
	i := newIssuer(t, publish(jwks(t, p.jwk("k", nil))))
	v := i.verifier(t, time.Hour)
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			kid := fmt.Sprintf("../../etc/passwd' OR 1=1 %d", n)
			if _, err := v.Verify(p.sign(t, "EdDSA", good(""), map[string]any{"kid": kid})); err == nil {
				t.Error("an unknown key verifies")
			}
		})
	}
	wg.Wait()
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times, want once", n)
	}
	if _, err := v.Verify(p.sign(t, "EdDSA", good(""), map[string]any{"kid": "k"})); err != nil {
		t.Errorf("the issuer's own key: %v", err)
	}
}

// Covers S23.
func TestKeySetsComeFromTheirHostInBounds(t *testing.T) {
	t.Parallel()
	p := pairs()["EdDSA"]
	good := jwks(t, p.jwk("k", nil))
	elsewhere := newIssuer(t, publish(good))
	many := make([]map[string]any, 100)
	for n := range many {
		many[n] = p.jwk("k", nil)
	}
	t.Cleanup(func() {
		if n := elsewhere.asked.Load(); n != 0 {
			t.Errorf("the other host was asked %d times", n)
		}
	})
	for name, serve := range map[string]http.HandlerFunc{
		"redirect to another host": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"redirect to a file": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		},
		"redirect for ever": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) },
		"huge":              publish([]byte(strings.TrimSuffix(string(good), "}") + `,"x":"` + strings.Repeat("x", 2<<20) + `"}`)),
		"many keys":         publish(jwks(t, many...)),
		"no JSON":           publish([]byte("<html>")),
		"an error":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound); _, _ = w.Write(good) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, serve)
			refused(t, i.verifier(t, time.Hour), p.sign(t, "EdDSA", fmt.Sprintf(`{"role":"web_user","exp":%d}`, now.Add(time.Hour).Unix()), map[string]any{"kid": "k"}), schema.Unauthenticated, "not valid")
		})
	}
	same := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			http.Redirect(w, r, "/moved", http.StatusMovedPermanently)
			return
		}
		_, _ = w.Write(good)
	})
	if _, err := same.verifier(t, time.Hour).Verify(p.sign(t, "EdDSA", fmt.Sprintf(`{"role":"web_user","exp":%d}`, now.Add(time.Hour).Unix()), map[string]any{"kid": "k"})); err != nil {
		t.Errorf("a redirect on the host: %v", err)
	}
}

// Covers S23.
func TestASlowIssuerIsGivenUp(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	i := newIssuer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	defer close(stop)
	v := i.verifier(t, time.Hour)
	done := make(chan error, 1)
	go func() {
		_, err := v.Verify(pairs()["EdDSA"].sign(t, "EdDSA", good(""), map[string]any{"kid": "k"}))
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("verified")
		}
	case <-time.After(time.Minute):
		t.Error("a minute later it still waits")
	}
}

// Covers S23.
func TestNamesThatLeadInsideAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		host, address string
		private, ok   bool
	}{
		{"issuer.example.com", "203.0.113.7:443", false, true},
		{"issuer.example.com", "169.254.169.254:443", false, false},
		{"issuer.example.com", "169.254.169.254:443", true, false},
		{"issuer.example.com", "127.0.0.1:443", true, false},
		{"issuer.example.com", "[::1]:443", true, false},
		{"issuer.example.com", "[fe80::1]:443", true, false},
		{"issuer.example.com", "[::ffff:10.0.0.1]:443", false, false},
		{"issuer.example.com", "10.0.0.1:443", false, false},
		{"issuer.example.com", "10.0.0.1:443", true, true},
		{"10.0.0.1", "10.0.0.1:443", false, true},
		{"localhost", "127.0.0.1:80", false, true},
	} {
		if err := jwt.CheckAddress(tt.host, tt.address, tt.private); (err == nil) != tt.ok {
			t.Errorf("%s at %s (private %v): %v", tt.host, tt.address, tt.private, err)
		}
	}
	for url, want := range map[string]string{
		"http://issuer.example.com/keys": "begins with http://", "file:///etc/passwd": "cannot be read", "ftp://issuer.example.com/k": "begins with ftp://",
		"issuer.example.com": "cannot be read",
	} {
		c := config()
		c.JWKSURL = url
		if _, err := jwt.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestRunReadsTheKeysAndEnds(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	i := newIssuer(t, func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		_, _ = w.Write(jwks(t, pairs()["EdDSA"].jwk("k", nil)))
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.verifier(t, time.Hour).Run(ctx) }()
	<-asked
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
