package examples

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

// Chi mounts the service below /live. Chi's Mount leaves the prefix where it is.
func Chi(live http.Handler) http.Handler {
	r := chi.NewRouter()
	r.Mount("/live", http.StripPrefix("/live", live))
	r.Get("/hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	return r
}
