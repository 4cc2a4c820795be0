package console_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/console"
)

func ask(t *testing.T, method, at string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, at, http.NoBody)
	for name := range header {
		r.Header.Set(name, header.Get(name))
	}
	w := httptest.NewRecorder()
	console.Handler().ServeHTTP(w, r)
	return w
}

// pageFiles are the files of the page by the paths that they are served at.
func pageFiles(t *testing.T) map[string]string {
	t.Helper()
	list, err := os.ReadDir("page")
	if err != nil || len(list) < 5 {
		t.Fatalf("the page's folder: %d files, %v", len(list), err)
	}
	files := map[string]string{}
	for _, f := range list {
		at := "/console/" + f.Name()
		if f.Name() == "index.html" {
			at = "/"
		}
		w := ask(t, http.MethodGet, at, nil)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d", at, w.Code)
		}
		files[at] = w.Body.String()
	}
	return files
}

// The policy is on every file, and allows nothing inline, nothing of other hosts, no frame.
func TestEveryFileComesUnderTheStrictPolicy(t *testing.T) {
	t.Parallel()
	for at := range pageFiles(t) {
		h := ask(t, http.MethodGet, at, nil).Header()
		policy := h.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy %q lacks %q", at, policy, part)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, "http") {
			t.Errorf("%s: the policy %q allows too much", at, policy)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Content-Type") == "" {
			t.Errorf("%s: headers %v", at, h)
		}
	}
}

// What the page names is there, comes from here, and is relative, so that a prefix does no harm.
func TestThePageNeedsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	files := pageFiles(t)
	address := regexp.MustCompile(`(?i)(?:https?:)?//[a-z0-9-]+\.[a-z]`)
	inline := regexp.MustCompile(`(?i)\s(on[a-z]+|style)=|<style|<script>|javascript:`)
	unsafeCall := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|localStorage|sessionStorage|document\.cookie`)
	names := regexp.MustCompile(`(?:src|href)="([^"#]+)"|from '\./([^']+)'|import\('\./([^']+)'\)`)
	for at, text := range files {
		if found := address.FindString(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "")); found != "" {
			t.Errorf("%s names another host: %s", at, found)
		}
		if at == "/" && inline.MatchString(text) {
			t.Errorf("%s has script or style inline: %s", at, inline.FindString(text))
		}
		if found := unsafeCall.FindString(text); found != "" {
			t.Errorf("%s uses %s", at, found)
		}
		for _, m := range names.FindAllStringSubmatch(text, -1) {
			name := path.Join("/console", m[2]+m[3])
			if m[1] != "" {
				name = "/" + m[1]
			}
			if _, ok := files[name]; !ok {
				t.Errorf("%s names %s, which is not there", at, name)
			}
		}
	}
}

func TestOnlyThePageIsServed(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"/console", "/console/", "/console/index.html", "/console/../console.go", "/page/console.js", "/demo/session.json", "/demo/write"} {
		if w := ask(t, http.MethodGet, "http://x"+at, nil); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", at, w.Code)
		}
	}
	if w := ask(t, http.MethodPost, "/", nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d, want 405", w.Code)
	}
	if w := ask(t, http.MethodGet, "/console/host.js", nil); !strings.Contains(w.Body.String(), "demo = false") {
		t.Errorf("host.js says %q", w.Body)
	}
}

func TestFilesAreRevalidatedNotResent(t *testing.T) {
	t.Parallel()
	first := ask(t, http.MethodGet, "/", nil)
	tag := first.Header().Get("ETag")
	again := ask(t, http.MethodGet, "/", http.Header{"If-None-Match": {tag}})
	if tag == "" || again.Code != http.StatusNotModified || again.Body.Len() > 0 || first.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("ETag %q: %d with %d bytes", tag, again.Code, again.Body.Len())
	}
}
