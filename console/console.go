// Package console is the page that the service shows at /: a live explorer of what a role can
// subscribe to. It is plain HTML, CSS and ES modules, as they stand in folder page; there is no
// build step, and nothing comes from other hosts.
//
// The page is a client like any other: it has no rights of its own, speaks graphql-transport-ws
// to the service that it came from, and keeps the tokens that people paste in memory alone. Its
// content security policy allows nothing but its own files, and no text is ever read as HTML or
// script, whatever the rows hold.
//
// Folder page, in reading order: console.js wires the document, pane.js is one subscriber's
// side, client.js speaks the protocol, rows.js is the client's whole rule, schema.js knows
// introspection, selection.js edits the subscription's text, view.js draws, and demo.js adds
// what there is in `rowtide demo` only, where host.js says so.
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
)

//go:embed page
var files embed.FS

// policy lets the page have its own files and sockets to its own service, and nothing else.
// Where a browser knows trusted types, no text becomes HTML or script even by mistake.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// A file is one of the page's, ready to be sent.
type file struct {
	body []byte
	kind string
	etag string
}

// Handler serves the page at / and its files under /console/. It may be mounted below a prefix
// with http.StripPrefix: the page's own addresses are relative.
func Handler() http.Handler {
	served := load()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := served[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the page can only be read", http.StatusMethodNotAllowed)
			return
		}
		f.serve(w, r)
	})
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", fmt.Sprint(len(f.body)))
	_, _ = w.Write(f.body) // nobody is there to be told; HEAD has no body anyway
}

// load reads every file of the page, by the path that it is served at.
func load() map[string]file {
	served := map[string]file{}
	err := fs.WalkDir(files, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		at := "/console/" + path.Base(name)
		if path.Base(name) == "index.html" {
			at = "/"
		}
		served[at] = file{body: body, kind: kindOf(name), etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		panic(err) // they are in the binary
	}
	return served
}

// kindOf does not ask the machine where it can: its tables may say anything of .js.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}
