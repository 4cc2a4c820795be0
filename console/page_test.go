//go:build browser

package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/demo"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

var update = flag.Bool("update", false, "write the screenshots in docs/images")

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// A said is what the demo prints, to be read while it runs.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *said) find(pattern string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := regexp.MustCompile(pattern).FindStringSubmatch(s.text.String()); m != nil {
		return m[1]
	}
	return ""
}

// startDemo runs the demo, with its own writes so far apart that none comes, and gives the
// addresses of the page and of its database.
func startDemo(t *testing.T) (page, database string) {
	t.Helper()
	page, database, _ = startDemoAt(t, "127.0.0.1:0")
	return page, database
}

func startDemoAt(t *testing.T, addr string) (page, database string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &said{more: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() {
		done <- demo.Run(ctx, demo.Config{Listen: addr, Every: time.Hour, Out: out, Logger: slog.New(slog.DiscardHandler)})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	for out.find(`(Ctrl-C)`) == "" {
		select {
		case <-out.more:
		case err := <-done:
			done <- nil
			t.Fatalf("the demo ended: %v", err)
		}
	}
	return out.find(`(http://\S+)`), out.find(`(postgres://\S+)`), stop
}

// Two users look at the same table: what one may see and the other may not comes and goes on
// each side as the policies say.
func TestTwoUsersSeeWhatTheirPoliciesSay(t *testing.T) {
	page, _ := startDemo(t)
	b := open(t, page, desktop("light"))
	b.until(`state('ana') === 'Live' && state('ben') === 'Live'`)
	b.until(`ids('ana') === '1,2,3' && ids('ben') === '1,2,4,5'`)

	// A private task is its owner's: it leaves the other side, and enters it again.
	b.click(`line('ana', 1)`)
	b.holds(`$('write-task').value === '1'`)
	b.click(`button('Toggle private')`)
	b.until(`mark(gone('ben', 1)) === 'LEAVE' && mark(line('ana', 1)) === 'UPDATE'`)
	b.holds(`line('ana', 1).querySelector('td.changed')?.dataset.label === 'private'`)
	b.until(`$('outcome').textContent.includes('UPDATE tasks SET private')`)
	b.until(`!gone('ben', 1) && ids('ben') === '2,4,5' && ids('ana') === '1,2,3'`)
	b.holds(`frames('ben')[0].startsWith('LEAVE id 1')`)
	b.click(`button('Toggle private')`)
	b.until(`mark(line('ben', 1)) === 'ENTER' && line('ben', 1).classList.contains('came')`)

	// A task that changes team leaves one side and goes on at the other.
	b.click(`button('Move to other team')`)
	b.until(`mark(gone('ana', 1)) === 'LEAVE' && value('ben', 1, 'teamId') === '2'`)

	// What is private from the start is never seen by the other: the next task is, behind it.
	b.click(`button('New private task')`)
	b.until(`mark(line('ana', 7)) === 'INSERT'`)
	b.choose(`$('write-user')`, "ben")
	b.click(`button('New task')`)
	b.until(`line('ben', 8)`)
	b.holds(`!frames('ben').some((frame) => frame.includes('id 7'))`)

	// A deleted row goes from both.
	b.choose(`$('write-task')`, "2")
	b.click(`button('Delete')`)
	b.until(`mark(gone('ana', 2)) === 'DELETE' && mark(gone('ben', 2)) === 'DELETE'`)

	// Another user on one side, another table on both.
	b.choose(`side('ana').querySelector('select')`, "cleo")
	b.until(`state('cleo') === 'Live' && line('cleo', 6) && line('cleo', 1) && !line('cleo', 3)`)
	b.choose(`$('table')`, "projects")
	b.until(`ids('cleo') === '1,3' && ids('ben') === '1,2,3'`)
}

// The text can be typed, and columns ticked in it; what is wrong is told with its place.
func TestTheSubscriptionIsEditable(t *testing.T) {
	page, _ := startDemo(t)
	b := open(t, page, desktop("light"))
	b.until(`ids('ana') === '1,2,3'`)

	box := func(name string) string { return `document.querySelector('#columns input[value="` + name + `"]')` }
	b.click(box("hours"))
	b.until(`value('ana', 1, 'hours') === '6.00'`)
	b.holds(`/\bhours\s/.test($('text').value)`)
	b.click(box("state"))
	b.until(`line('ana', 1) && value('ana', 1, 'state') === undefined`)

	b.click(`$('text')`)
	text := `subscription ($after: Cursor) { tasks(snapshot: true, after: $after, where: { private: { eq: true } }) { kind rowId row { id title state } cursor } }`
	b.do(chromedp.Evaluate[chromedp.Void](`document.getElementById('text').select()`))
	b.press(text)
	b.holds(`!$('apply').disabled && ` + box("state") + `.checked && !` + box("owner") + `.checked`)
	b.press(kb.Enter, chromedp.KeyModifiers(chromedp.ModifierCtrl))
	b.until(`ids('ana') === '3' && ids('ben') === ''`)
	b.until(`side('ben').querySelector('.empty').textContent.startsWith('No rows')`)

	b.do(chromedp.Evaluate[chromedp.Void](`document.getElementById('text').select()`))
	b.press(strings.Replace(text, "title", "titel", 1))
	b.click(`$('apply')`)
	b.until(`state('ana') === 'Not subscribed' && /Line 1, column \d+.*titel/.test($('text-error').textContent)`)
}

// Rows are text, whatever they hold.
func TestRowsAreNeverReadAsHTML(t *testing.T) {
	page, database := startDemo(t)
	b := open(t, page, desktop("light"))
	b.until(`state('ana') === 'Live'`)
	title := `<img src=x onerror="document.title='bad'"><script>document.title='bad'</script>`
	write(t, database, `UPDATE tasks SET title = $1 WHERE id = 1`, title)
	b.until(fmt.Sprintf(`value('ana', 1, 'title') === %q && [...$('write-task').options].some((o) => o.textContent.includes('<img'))`, title))
	b.holds(`document.title === 'Rowtide' && document.images.length === 1`)
}

// Offline, frames do not come; online again, the subscription goes on behind its last cursor,
// without a new snapshot.
func TestGoingOnBehindTheCursor(t *testing.T) {
	page, database := startDemo(t)
	b := open(t, page, desktop("light"))
	b.until(`state('ana') === 'Live' && state('ben') === 'Live'`)
	b.click(`button('Go offline')`)
	b.until(`state('ana') === 'Offline' && state('ben') === 'Offline'`)
	write(t, database, `UPDATE tasks SET title = 'Missed meanwhile' WHERE id = 1`)
	write(t, database, `DELETE FROM tasks WHERE id = 2`)
	b.click(`button('Go online')`)
	b.until(`state('ana') === 'Live' && value('ana', 1, 'title') === 'Missed meanwhile' && ids('ana') === '1,3'`)
	b.until(`ids('ben') === '1,4,5'`)
	b.holds(`frames('ana').filter((frame) => frame.startsWith('RESET')).length === 1`)
}

// A demo that is started anew on the same port has other tokens and other rows: the page gets
// them by itself.
func TestADemoStartedAnewKeepsItsPage(t *testing.T) {
	page, database, stop := startDemoAt(t, "127.0.0.1:0")
	b := open(t, page, desktop("light"))
	b.until(`state('ana') === 'Live' && state('ben') === 'Live'`)
	write(t, database, `DELETE FROM tasks WHERE id = 1`)
	b.until(`ids('ana') === '2,3' && ids('ben') === '2,4,5'`)
	b.loseSockets()
	stop()
	b.until(`state('ana') === 'Reconnecting…' && state('ben') === 'Reconnecting…'`)
	startDemoAt(t, strings.TrimSuffix(strings.TrimPrefix(page, "http://"), "/"))
	b.until(`state('ana') === 'Live' && state('ben') === 'Live' && ids('ana') === '1,2,3' && ids('ben') === '1,2,4,5'`)
}

// The whole of it without a mouse: each stop is in reading order and shows its focus.
func TestTheKeyboardIsEnough(t *testing.T) {
	page, _ := startDemo(t)
	b := open(t, page, desktop("light"))
	b.until(`state('ana') === 'Live' && state('ben') === 'Live'`)
	var stops []string
	for range 40 {
		b.press(kb.Tab)
		stop := eval[[]string](b, `(() => {
			const e = document.activeElement;
			const shown = e.matches('.chips input') ? e.nextElementSibling : e;
			const style = getComputedStyle(shown);
			const name = e.id || e.textContent.trim().slice(0, 20) || e.value;
			return [e === document.body ? 'body' : e.closest('.pane') ? e.closest('.pane').ariaLabel + ' ' + e.className.split(' ')[0] : name, style.outlineStyle + style.outlineWidth];
		})()`)
		if stop[0] == "body" {
			break
		}
		if stop[1] == "none0px" || strings.HasPrefix(stop[1], "none") {
			t.Errorf("the focus on %q does not show", stop[0])
		}
		stops = append(stops, stop[0])
	}
	order := strings.Join(stops, ", ")
	rest := order
	for _, want := range []string{"Skip to the rows", "compare", "offline", "table", "Columns and text", "id", "updatedAt", "text", "pause", "write-user", "New task", "write-task", "Delete", "ana user", "ana rows", "ana scroll", "ben user", "ben rows", "ben scroll"} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("no stop %q where it belongs, in: %s", want, order)
		}
		rest = after
	}

	// From the top: the table by its first letter, a column by space, a write by Enter.
	b.do(chromedp.Navigate(page))
	b.until(`state('ana') === 'Live' && state('ben') === 'Live'`)
	reach := func(id string) {
		t.Helper()
		for range 40 {
			if eval[bool](b, `document.activeElement === `+id) {
				return
			}
			b.press(kb.Tab)
		}
		t.Fatalf("Tab never reaches %s", id)
	}
	reach(`button('New task')`)
	b.press(kb.Enter)
	b.until(`$('outcome').textContent.startsWith('INSERT INTO tasks') && ids('ana') === '1,2,3,7'`)
	b.do(chromedp.Navigate(page))
	b.until(`state('ana') === 'Live' && state('ben') === 'Live'`)
	reach(`$('table')`)
	b.press("p")
	b.until(`ids('ana') === '1,2' && ids('ben') === '1,2,3'`)
	reach(`document.querySelector('#columns input[value="open"]')`)
	b.press(" ")
	b.until(`line('ana', 1) && value('ana', 1, 'open') === undefined`)
}

// axe finds nothing serious, in both palettes, on both sizes, with everything open.
func TestAxeFindsNothingSerious(t *testing.T) {
	page, database := startDemo(t)
	axe, err := os.ReadFile(filepath.Join("testdata", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatalf("%v: run make browser, which installs it", err)
	}
	for _, v := range []view{desktop("light"), desktop("dark"), phone("light"), phone("dark")} {
		t.Run(fmt.Sprintf("%s at %d", v.scheme, v.width), func(t *testing.T) {
			b := open(t, page, v)
			b.until(`state('ana') === 'Live'`)
			eval[bool](b, `$('text-details').open = true`)
			// Something that came, changed and went, while it is marked.
			write(t, database, `INSERT INTO tasks (team_id, owner, title) VALUES (1, 'ana', 'Seen by axe')`)
			write(t, database, `UPDATE tasks SET state = 'done' WHERE id = 1`)
			b.until(`lines('ana').some((line) => cell(line, 'title') === 'Seen by axe')`)
			write(t, database, `DELETE FROM tasks WHERE title = 'Seen by axe'`)
			b.until(`side('ana').querySelector('.gone')`)
			b.do(chromedp.Evaluate[chromedp.Void](string(axe)))
			found := eval[[]string](b, `axe.run(document).then(({ violations }) => violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
				.map(({ id, impact, nodes }) => impact + ' ' + id + ': ' + nodes.map((n) => n.html + ' ' + n.failureSummary).join('\n')))`)
			for _, f := range found {
				t.Error(f)
			}
			b.holds(`document.documentElement.scrollWidth <= innerWidth`)
			write(t, database, `UPDATE tasks SET state = 'todo' WHERE id = 1`)
		})
	}
}

// The page of the service itself: no demo, a token that is pasted, and a service that is killed.
func TestComesBackWhenTheServiceIsKilled(t *testing.T) {
	s := newService(t)
	s.start()
	b := open(t, s.page, desktop("dark"))
	b.loseSockets() // it is killed, and refuses those without a token
	b.until(`state('this subscriber') === 'Refused'`)
	b.holds(`$('write').hidden`)
	for _, path := range []string{"demo/session.json", "demo/write", "demo/pause"} {
		if code := s.status(path); code != http.StatusNotFound {
			t.Errorf("the service answers %d at /%s, want 404", code, path)
		}
	}

	b.click(`button('Side by side')`)
	for i, user := range []string{"ana", "ben"} {
		b.click(fmt.Sprintf(`document.querySelectorAll('.token input')[%d]`, i))
		b.press(s.token(user))
		b.until(fmt.Sprintf(`document.querySelectorAll('.claims')[%d].textContent.includes('sub: %s')`, i, user))
		b.press(kb.Enter)
	}
	b.choose(`$('table')`, "tasks")
	b.until(`ids('subscriber 1') === '1,2,3' && ids('subscriber 2') === '1,2,4,5' && state('subscriber 2') === 'Live'`)

	s.kill()
	b.until(`state('subscriber 1') === 'Reconnecting…' && state('subscriber 2') === 'Reconnecting…'`)
	b.holds(`ids('subscriber 1') === '1,2,3'`)
	write(t, s.database, `UPDATE tasks SET private = true WHERE id = 2`)
	s.start()
	b.until(`state('subscriber 1') === 'Live' && state('subscriber 2') === 'Live'`)
	b.until(`ids('subscriber 1') === '1,3' && value('subscriber 2', 2, 'private') === 'yes'`)
	write(t, s.database, `UPDATE tasks SET title = 'After the fall' WHERE id = 1`)
	b.until(`value('subscriber 1', 1, 'title') === 'After the fall' && value('subscriber 2', 1, 'title') === 'After the fall'`)
}

// A token that expires ends its socket; another one of the same user goes on behind the cursor, with
// what was missed and no new snapshot. One of somebody else begins anew.
func TestAnotherTokenGoesOnWhereOneHasExpired(t *testing.T) {
	s := newService(t)
	s.start()
	b := open(t, s.page, desktop("light"))
	b.loseSockets() // the service refuses those without a token
	b.until(`state('this subscriber') === 'Refused'`)
	enter := func(token string) {
		t.Helper()
		b.click(`document.querySelector('.token input')`)
		eval[bool](b, `(document.querySelector('.token input').value = '', true)`)
		b.press(token)
		b.press(kb.Enter)
	}
	enter(s.tokenFor("ana", time.Second)) // and the leeway of 30 s
	b.until(`[...$('table').options].some((o) => o.textContent === 'tasks')`)
	b.choose(`$('table')`, "tasks")
	b.until(`ids('this subscriber') === '1,2,3' && state('this subscriber') === 'Live'`)
	late := time.After(time.Minute)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !eval[bool](b, `state('this subscriber') === 'Refused'`) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the token does not expire")
		}
	}
	b.holds(`document.body.innerText.includes('token has expired (4403)')`)
	b.holds(`ids('this subscriber') === '1,2,3'`)
	write(t, s.database, `UPDATE tasks SET title = 'Missed meanwhile' WHERE id = 1`)
	write(t, s.database, `DELETE FROM tasks WHERE id = 2`)
	enter(s.token("ana"))
	b.until(`state('this subscriber') === 'Live' && value('this subscriber', 1, 'title') === 'Missed meanwhile' && ids('this subscriber') === '1,3'`)
	b.holds(`frames('this subscriber').filter((frame) => frame.startsWith('RESET')).length === 1`)
	enter(s.token("ben"))
	b.until(`state('this subscriber') === 'Live' && ids('this subscriber') === '1,4,5'`)
}

// A service is `rowtide serve` as a process, on one port through all its lives.
type service struct {
	t                       *testing.T
	bin, secret, addr, page string
	database                string
	process                 *exec.Cmd
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{t: t, bin: filepath.Join(t.TempDir(), "rowtide"), secret: strings.Repeat("s", 32)}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", s.bin, "../cmd/rowtide").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	s.database = pgtest.Cluster(t, testcontainers.Config{}).URL(testcontainers.Superuser, "postgres")
	if err := demo.Load(t.Context(), s.database); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.page = "http://" + s.addr + "/"
	_ = l.Close()
	t.Cleanup(s.kill)
	return s
}

// start returns when the service is ready.
func (s *service) start() {
	s.t.Helper()
	s.process = exec.CommandContext(s.t.Context(), s.bin, "serve", "--dev", "--database-url", s.database, "--roles", demo.Role, "--jwt-secret", s.secret, "--listen", s.addr)
	s.process.Stderr = s.t.Output()
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.status("readyz") != http.StatusOK {
		select {
		case <-late.C:
			s.t.Fatal("the service does not become ready")
		case <-tick.C:
		}
	}
}

func (s *service) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

func (s *service) status(path string) int {
	r, err := http.NewRequestWithContext(context.WithoutCancel(s.t.Context()), http.MethodGet, s.page+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func (s *service) token(user string) string { return s.tokenFor(user, time.Hour) }

func (s *service) tokenFor(user string, life time.Duration) string {
	s.t.Helper()
	token, err := rowtide.Token(rowtide.Config{JWTSecret: s.secret}, demo.Role, json.RawMessage(`{"sub":"`+user+`"}`), life)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

func write(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// TestScreenshots draws the pictures of the README, with -update, and looks that they are
// pictures of something.
func TestScreenshots(t *testing.T) {
	page, database := startDemo(t)
	for name, v := range map[string]view{
		"light": {1440, 980, "light", true}, "dark": {1440, 980, "dark", true}, "phone": {360, 1480, "light", true},
	} {
		b := open(t, page, v)
		b.until(`state('ana') === 'Live'`)
		write(t, database, `UPDATE tasks SET private = false, state = 'todo', team_id = 1 WHERE id = 2`)
		b.until(`line('ana', 2)`) // what goes before it was drawn is never shown
		write(t, database, `UPDATE tasks SET state = 'doing' WHERE id = 3`)
		write(t, database, `UPDATE tasks SET state = 'done' WHERE id = 1`)
		write(t, database, `INSERT INTO tasks (team_id, owner, title, private) VALUES (1, 'ana', 'Sand the old dinghy', true)`)
		write(t, database, `UPDATE tasks SET team_id = 2 WHERE id = 2`)
		b.until(`gone('ana', 2)`)
		ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
		picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		cancel()
		if err != nil || len(picture) < 10<<10 || len(picture) > 300<<10 {
			t.Fatalf("%s: a picture of %d bytes, %v", name, len(picture), err)
		}
		write(t, database, `DELETE FROM tasks WHERE title = 'Sand the old dinghy'`)
		write(t, database, `UPDATE tasks SET state = 'todo' WHERE id IN (1, 3)`)
		if *update {
			if err := os.WriteFile(filepath.Join("..", "docs", "images", "console-"+name+".png"), picture, 0o644); err != nil { //nolint:gosec // for everybody to see
				t.Fatal(err)
			}
		}
	}
}
