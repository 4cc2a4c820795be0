package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/rowtide/rowtide"
)

// A user is one of the sample's, as the page gets it.
type user struct {
	Name  string   `json:"name"`
	Teams []string `json:"teams"`
	Token string   `json:"token"`
}

// handler adds to the service what the page has in the demo only. It is reached from this
// machine alone, by pages of the demo itself.
type handler struct {
	writer *Writer
	secret string
}

// newHandler puts the demo's own paths before the service's.
func newHandler(w *Writer, secret string, service http.Handler) http.Handler {
	h := &handler{writer: w, secret: secret}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /console/host.js", serveHost)
	mux.Handle("GET /demo/session.json", guard(h.session))
	mux.Handle("POST /demo/write", guard(h.write))
	mux.Handle("POST /demo/pause", guard(h.pause))
	mux.Handle("/", service)
	return mux
}

// serveHost takes the place of the page's own file: it tells the page that it is in the demo.
func serveHost(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/javascript; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = io.WriteString(w, "export const demo = true;\n")
}

// Header must come with every request to the demo's own paths. A page of another origin cannot
// send it without asking first, and is never allowed to.
const Header = "Rowtide-Demo"

// maxBody is far more than any request has.
const maxBody = 4 << 10

// guard lets only pages of the demo itself through, opened on this machine. The name in Host
// must be one that nobody can point here from outside, or another site's page could, once its
// name resolves to us, pass for our own.
func guard(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		if !loopback(r.RemoteAddr) || !loopback(r.Host) || !sameOrigin(r) || r.Header.Get(Header) == "" {
			http.Error(w, "the demo's users and writes are for its own page, opened on this machine at an address such as http://127.0.0.1:8080",
				http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next(w, r)
	})
}

// loopback tells whether an address, with or without a port, is this machine's own.
func loopback(addr string) bool {
	host := addr
	if h, _, err := net.SplitHostPort(addr); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// sameOrigin tells whether the browser, where it is one, says that the page is ours.
func sameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) > 1 || len(origins) == 1 && origins[0] != "http://"+r.Host {
		return false
	}
	site := r.Header.Get("Sec-Fetch-Site") // W3C Fetch Metadata, 2.3
	return site == "" || site == "same-origin"
}

// session gives the users and their tokens away.
func (h *handler) session(w http.ResponseWriter, r *http.Request) {
	users, err := h.users(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, map[string]any{"users": users, "paused": h.writer.Paused(), "every": h.writer.every.Seconds()})
}

func (h *handler) users(r *http.Request) ([]user, error) {
	rows, err := h.writer.pool.Query(r.Context(),
		`SELECT m.user_id, array_agg(t.name ORDER BY t.id) FROM members m JOIN teams t ON t.id = m.team_id GROUP BY 1 ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("read demo users: %w", err)
	}
	defer rows.Close()
	users := []user{}
	for rows.Next() {
		var u user
		if err := rows.Scan(&u.Name, &u.Teams); err != nil {
			return nil, fmt.Errorf("read demo users: %w", err)
		}
		if u.Token, err = tokenOf(h.secret, u.Name); err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read demo users: %w", err)
	}
	return users, nil
}

// tokenOf is a token of one of the sample's users.
func tokenOf(secret, name string) (string, error) {
	claims, err := json.Marshal(map[string]string{"sub": name})
	if err != nil {
		return "", err
	}
	return rowtide.Token(rowtide.Config{JWTSecret: secret}, Role, claims, tokenLife)
}

// write does what a button asks for.
func (h *handler) write(w http.ResponseWriter, r *http.Request) {
	var what Write
	if !read(w, r, &what) {
		return
	}
	sql, err := h.writer.Do(r.Context(), what)
	switch {
	case errors.Is(err, ErrNoTask):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, errNoWrite):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		answer(w, map[string]string{"sql": sql})
	}
}

// pause holds the demo's own writer, or lets it go on.
func (h *handler) pause(w http.ResponseWriter, r *http.Request) {
	var what struct {
		Paused bool `json:"paused"`
	}
	if !read(w, r, &what) {
		return
	}
	h.writer.Pause(what.Paused)
	answer(w, map[string]bool{"paused": what.Paused})
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		http.Error(w, "the body is not the JSON that is asked for", http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what)
}
