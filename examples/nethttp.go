package examples

import "net/http"

// NetHTTP mounts the service below /live with the standard library.
func NetHTTP(live http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/live/", http.StripPrefix("/live", live))
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	return mux
}
