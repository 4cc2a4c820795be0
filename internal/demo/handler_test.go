package demo

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// sample is a handler on the sample's database: a cluster of its own, since its role has a
// name that is not its own.
func sample(t *testing.T) (http.Handler, *pgxpool.Pool) {
	t.Helper()
	url := pgtest.Cluster(t, testcontainers.Config{}).URL(testcontainers.Superuser, "postgres")
	if err := Load(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(t.Context(), url, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return newHandler(w, newSecret(), http.NotFoundHandler()), w.pool
}

// own is a request as the page sends it.
func own(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8080"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:40000"
	r.Header.Set(Header, "1")
	if method == http.MethodPost {
		r.Header.Set("Origin", "http://127.0.0.1:8080")
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func answerTo(h http.Handler, r *http.Request) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Body)
	return w.Code, string(body)
}

func TestOnlyTheDemosOwnPageIsAnswered(t *testing.T) {
	t.Parallel()
	h, pool := sample(t)
	for name, spoil := range map[string]func(*http.Request){
		"without the header":     func(r *http.Request) { r.Header.Del(Header) },
		"of another origin":      func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"of another port":        func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:8081") },
		"of no origin":           func(r *http.Request) { r.Header.Set("Origin", "null") },
		"of two origins":         func(r *http.Request) { r.Header.Add("Origin", "https://evil.example") },
		"cross-site by metadata": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same-site by metadata":  func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"from another machine":   func(r *http.Request) { r.RemoteAddr = "192.0.2.7:40000" },
		"under a rebound name": func(r *http.Request) {
			r.Host = "evil.example:8080"
			r.Header.Set("Origin", "http://evil.example:8080")
		},
		"under a name like ours": func(r *http.Request) {
			r.Host = "localhost.evil.example:8080"
			r.Header.Set("Origin", "http://localhost.evil.example:8080")
		},
	} {
		for _, path := range []string{"GET /demo/session.json", "POST /demo/write", "POST /demo/pause"} {
			method, path, _ := strings.Cut(path, " ")
			r := own(t, method, path, `{"kind":"delete","task":"1","paused":true}`)
			spoil(r)
			if code, body := answerTo(h, r); code != http.StatusForbidden || strings.Contains(body, "token") {
				t.Errorf("%s %s: %d %s", path, name, code, body)
			}
		}
	}
	var tasks int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM tasks").Scan(&tasks); err != nil || tasks != 6 {
		t.Errorf("%d tasks are left of 6 (%v)", tasks, err)
	}
	if code, body := answerTo(h, own(t, http.MethodPost, "/demo/session.json", "")); code != http.StatusNotFound && code != http.StatusMethodNotAllowed {
		t.Errorf("POST for the session: %d %s", code, body)
	}
}

func TestSessionGivesUsersTheirTokens(t *testing.T) {
	t.Parallel()
	h, _ := sample(t)
	code, body := answerTo(h, own(t, http.MethodGet, "/demo/session.json", ""))
	var s struct {
		Users  []user
		Paused bool
	}
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	var names []string
	for _, u := range s.Users {
		names = append(names, u.Name)
		if strings.Count(u.Token, ".") != 2 || len(u.Teams) == 0 {
			t.Errorf("%+v", u)
		}
	}
	if !slices.Equal(names, Users()) || s.Paused {
		t.Errorf("users %v, paused %t", names, s.Paused)
	}
	if code, body := answerTo(h, own(t, http.MethodPost, "/demo/pause", `{"paused":true}`)); code != http.StatusOK || !strings.Contains(body, "true") {
		t.Errorf("pause: %d %s", code, body)
	}
	if _, body := answerTo(h, own(t, http.MethodGet, "/demo/session.json", "")); !strings.Contains(body, `"paused":true`) {
		t.Errorf("paused is not told: %s", body)
	}
}

func TestWritesDoWhatTheirButtonsSay(t *testing.T) {
	t.Parallel()
	h, pool := sample(t)
	for _, c := range []struct{ body, holds string }{
		{`{"kind":"finish","task":"1"}`, `SELECT state = 'done' FROM tasks WHERE id = 1`},
		{`{"kind":"advance","task":"2"}`, `SELECT state = 'doing' FROM tasks WHERE id = 2`},
		{`{"kind":"toggle_private","task":"1"}`, `SELECT private FROM tasks WHERE id = 1`},
		{`{"kind":"move_team","task":"1"}`, `SELECT team_id = 2 FROM tasks WHERE id = 1`},
		{`{"kind":"finish","task":"1"}`, `SELECT bool_and(private AND team_id = 2) AND count(*) = 2 FROM comments WHERE task_id = 1`},
		{`{"kind":"new_comment","task":"1"}`, `SELECT count(*) = 3 FROM comments WHERE task_id = 1`},
		{`{"kind":"new_task","user":"cleo"}`, `SELECT owner = 'cleo' AND NOT private AND team_id = 2 FROM tasks WHERE id = 7`},
		{`{"kind":"new_private_task","user":"ana"}`, `SELECT owner = 'ana' AND private AND team_id = 1 FROM tasks WHERE id = 8`},
		{`{"kind":"delete","task":"1"}`, `SELECT NOT EXISTS (SELECT FROM tasks WHERE id = 1) AND NOT EXISTS (SELECT FROM comments WHERE task_id = 1)`},
		{`{"kind":"delete"}`, `SELECT count(*) = 6 FROM tasks`},
	} {
		code, body := answerTo(h, own(t, http.MethodPost, "/demo/write", c.body))
		var holds bool
		if err := pool.QueryRow(t.Context(), c.holds).Scan(&holds); err != nil || !holds || code != http.StatusOK {
			t.Errorf("%s: %d %s; then %s: %t, %v", c.body, code, body, c.holds, holds, err)
		}
	}
	for body, want := range map[string]int{
		`{"kind":"delete","task":"1"}`:                    http.StatusNotFound,
		`{"kind":"drop_all","task":"2"}`:                  http.StatusBadRequest,
		`{"kind":"new_task","user":"x'; DROP TABLE a"}`:   http.StatusBadRequest,
		`{"kind":"delete","task":"2 OR true"}`:            http.StatusBadRequest,
		`{`:                                               http.StatusBadRequest,
		`{"kind":"` + strings.Repeat("x", maxBody) + `"}`: http.StatusBadRequest,
	} {
		if code, answer := answerTo(h, own(t, http.MethodPost, "/demo/write", body)); code != want {
			t.Errorf("%.40s: %d %s, want %d", body, code, answer, want)
		}
	}
}

// The writer's own changes reach every table that the page can show moving, and the bounds hold.
func TestWriterKeepsTheSampleMoving(t *testing.T) {
	t.Parallel()
	_, pool := sample(t)
	w := &Writer{pool: pool, every: time.Millisecond}
	for range 400 {
		if err := w.move(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var tasks, comments int
	var moved bool
	err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM comments), (SELECT max(id) > 20 FROM tasks) AND (SELECT max(id) > 10 FROM comments)`).
		Scan(&tasks, &comments, &moved)
	if err != nil || tasks < fewest-1 || tasks > most || comments > most+1 || !moved {
		t.Errorf("after 400 moves: %d tasks, %d comments, moved %t (%v)", tasks, comments, moved, err)
	}
}
