//go:build browser

package console_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A view is how somebody looks at the page.
type view struct {
	width, height int64
	scheme        string // light or dark
	still         bool   // prefers no motion
}

func desktop(scheme string) view { return view{1440, 900, scheme, true} }
func phone(scheme string) view   { return view{360, 740, scheme, true} }

// A tab is a page in a browser of its own. When the test ends it has had no error, no breach of
// the policy and no request to another host.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp's contexts are its browsers

	mu       sync.Mutex
	problems []string
	lost     bool // sockets may be lost from now on: the service is being killed
}

// open starts a browser with a fresh profile and goes to an address.
func open(t *testing.T, url string, v view) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("no-pings", true))
	alloc, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v: run make browser, which installs it", err)
	}
	b.watch(url)
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}}}
	if v.still {
		media.Features = append(media.Features, &emulation.MediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
	}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media); err != nil {
		t.Fatal(err)
	}
	// What changes is marked for a second or two, which is too short to look at on a machine that is busy.
	linger := page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
		const later = setTimeout;
		globalThis.setTimeout = (f, ms) => later(f, ms > 1000 && ms < 2000 ? 5 * ms : ms);
	}`}
	if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, linger); err != nil {
		t.Fatal(err)
	}
	size := chromedp.EmulateViewport(v.width, v.height)
	if v.width < 500 {
		size = chromedp.EmulateViewport(v.width, v.height, chromedp.EmulateMobile, chromedp.EmulatePortrait)
	}
	b.do(size, chromedp.Navigate(url))
	return b
}

// watch notes what the browser complains of.
func (b *tab) watch(url string) {
	for _, err := range []error{
		second(chromedp.Call(b.ctx, log.Enable, cdp.Empty{})),
		second(chromedp.Call(b.ctx, network.Enable, network.EnableParams{})),
		chromedp.Listen(b.ctx, func(event any) {
			switch e := event.(type) {
			case *runtime.EventExceptionThrown:
				b.complain("exception: " + e.ExceptionDetails.Text + " " + describe(e.ExceptionDetails.Exception))
			case *runtime.EventConsoleAPICalled:
				b.complain(fmt.Sprintf("console: %v", e.Args))
			case *log.EventEntryAdded:
				if e.Entry.Source != "network" || !b.mayLose() {
					b.complain(fmt.Sprintf("log: %s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
				}
			case *network.EventRequestWillBeSent:
				if !strings.HasPrefix(e.Request.URL, url) {
					b.complain("request to another host: " + e.Request.URL)
				}
			}
		}),
	} {
		if err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			b.t.Error(p)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description
}

func (b *tab) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

func (b *tab) mayLose() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// loseSockets lets the browser complain of connections from now on.
func (b *tab) loseSockets() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = true
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// words are what the tests say about the page, in JavaScript.
const words = `
const side = (name) => document.querySelector('.pane[aria-label="' + name + '"]');
const state = (name) => side(name).querySelector('.state-text').textContent;
const lines = (name) => [...side(name).querySelectorAll('.rows tbody tr:not(.gone)')];
const cell = (line, column) => line.querySelector('[data-label="' + column + '"]')?.textContent;
const ids = (name) => lines(name).map((line) => cell(line, 'id')).join();
const line = (name, id) => lines(name).find((line) => cell(line, 'id') === String(id));
const value = (name, id, column) => cell(line(name, id), column);
const gone = (name, id) => [...side(name).querySelectorAll('.rows tr.gone')].find((line) => cell(line, 'id') === String(id));
const mark = (line) => line?.querySelector('.mark .kind')?.textContent;
const frames = (name) => [...side(name).querySelectorAll('.frames tbody tr')].map((tr) => [...tr.cells].map((td) => td.textContent).join(' '));
const $ = (id) => document.getElementById(id);
const button = (text) => [...document.querySelectorAll('button')].find((b) => b.textContent === text);
`

func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T]("(() => {"+words+"return ("+expression+"); })()", chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for something to be so.
func (b *tab) until(expression string) {
	b.t.Helper()
	ok := eval[bool](b, `new Promise((done) => {
		const end = Date.now() + 15000;
		const look = () => {
			let so = false;
			try { so = (`+expression+`); } catch { /* not there yet */ }
			if (so || Date.now() > end) done(Boolean(so));
			else setTimeout(look, 20);
		};
		look();
	})`)
	if !ok {
		b.t.Fatalf("in vain: %s\nthe page shows:\n%s", expression, eval[string](b, "document.body.innerText"))
	}
}

// holds is until for what must be so already.
func (b *tab) holds(expression string) {
	b.t.Helper()
	if !eval[bool](b, "Boolean("+expression+")") {
		b.t.Errorf("not so: %s\nthe page shows:\n%s", expression, eval[string](b, "document.body.innerText"))
	}
}

// click clicks with the mouse, in the middle of an element.
func (b *tab) click(expression string) {
	b.t.Helper()
	at := eval[[]float64](b, `(() => {
		const element = `+expression+`;
		element.scrollIntoView({ block: 'center' });
		const r = element.getBoundingClientRect();
		return [r.x + r.width / 2, r.y + r.height / 2];
	})()`)
	b.do(chromedp.MouseClickXY(at[0], at[1]))
}

// choose sets a select as people do.
func (b *tab) choose(expression, text string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(() => {
		const select = %s;
		select.value = [...select.options].find((o) => o.textContent.startsWith(%q)).value;
		select.dispatchEvent(new Event('change', { bubbles: true }));
		return true;
	})()`, expression, text))
}

func (b *tab) press(keys string, options ...chromedp.KeyOption) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys, options...))
}
