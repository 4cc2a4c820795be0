package jwt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// Bounds on what reading a key set may cost, whoever answers.
const (
	maxSet       = 1 << 20
	fetchTimeout = 5 * time.Second
	maxRedirects = 3
	// fetchLeast is the least time between two fetches, whatever tokens name: a key that an
	// issuer has just begun to use is known after it.
	fetchLeast = 10 * time.Second
	// fetchEvery is how often the set is read anew: a key that its issuer takes back is no
	// longer taken after it.
	fetchEvery = 5 * time.Minute
)

// A remote is a key set that an issuer publishes.
type remote struct {
	url    *url.URL
	client *http.Client
	log    *slog.Logger
	least  time.Duration

	// fetching is held during a fetch, so that there is one at a time.
	fetching sync.Mutex

	mu   sync.Mutex
	set  []key
	last time.Time // of the last fetch that was begun
}

func newRemote(c Config) (*remote, error) {
	u, err := url.Parse(c.JWKSURL)
	if err != nil || u.Host == "" {
		return nil, errors.New("--jwks-url cannot be read: write https://issuer.example.com/.well-known/jwks.json")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, fmt.Errorf("--jwks-url begins with %s://: keys come by https, or by http from this machine", u.Scheme)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	r := &remote{url: u, log: c.Logger, least: fetchLeast}
	if c.fetchLeast > 0 {
		r.least = c.fetchLeast
	}
	transport := &http.Transport{
		// No proxy: what is dialled is what is checked.
		DialContext:       (&net.Dialer{Timeout: fetchTimeout, Control: refusePrivate(u.Hostname(), c.JWKSPrivate)}).DialContext,
		ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10, TLSClientConfig: c.tls, IdleConnTimeout: time.Minute,
	}
	r.client = &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: r.checkRedirect}
	return r, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// checkRedirect follows redirects on the configured host alone.
func (r *remote) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || req.URL.Host != r.url.Host || req.URL.Scheme != r.url.Scheme {
		return errors.New("it redirects elsewhere")
	}
	return nil
}

// refusePrivate keeps a name from leading to this machine, to its neighbours or to a cloud's
// metadata service (169.254.169.254), whatever its name server says. An address that the operator
// wrote is meant.
func refusePrivate(host string, private bool) func(string, string, syscall.RawConn) error {
	written := isLoopback(host)
	if _, err := netip.ParseAddr(host); err == nil {
		written = true
	}
	return func(_, address string, _ syscall.RawConn) error {
		if written {
			return nil
		}
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		ip := a.Addr().Unmap()
		if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip.IsPrivate() && !private {
			return fmt.Errorf("%s leads to %s, which is not public: allow it with --jwks-private", host, ip)
		}
		return nil
	}
}

func (r *remote) keys() []key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set
}

// again reads the set once more, because a token names a key that is not in it; or waits for whom
// does so already. It is false where the set is as it was.
func (r *remote) again() bool {
	before := time.Now()
	r.fetching.Lock()
	defer r.fetching.Unlock()
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	if last.After(before) { // while we waited
		return true
	}
	if !last.IsZero() && before.Sub(last) < r.least {
		return false
	}
	return r.fetchLocked(context.Background())
}

// refresh reads the set anew.
func (r *remote) refresh(ctx context.Context) {
	r.fetching.Lock()
	defer r.fetching.Unlock()
	r.fetchLocked(ctx)
}

// fetchLocked needs fetching held. Where it fails the old keys stay good.
func (r *remote) fetchLocked(ctx context.Context) bool {
	r.mu.Lock()
	r.last = time.Now()
	r.mu.Unlock()
	set, err := r.fetch(ctx)
	if err != nil {
		r.log.Error("the issuer's keys cannot be read: those known so far stay in use", slog.String("host", r.url.Host), slog.Any("error", err))
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = set
	return true
}

func (r *remote) fetch(ctx context.Context) ([]key, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSet+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxSet:
		return nil, fmt.Errorf("it has more than %d bytes", maxSet)
	}
	keys, skipped, err := parseSet(text)
	for _, s := range skipped {
		r.log.Info("a key of the issuer is not used", slog.Any("why", s))
	}
	return keys, err
}

// run keeps the set fresh until ctx ends.
func (r *remote) run(ctx context.Context) {
	tick := time.NewTicker(fetchEvery)
	defer tick.Stop()
	defer r.client.CloseIdleConnections()
	for {
		r.refresh(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
