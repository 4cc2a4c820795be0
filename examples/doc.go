// Package examples mounts the service in other people's routers: rowtide.Server.Handler is an
// http.Handler, below any prefix. Each file is one router; the test follows a subscription over a
// WebSocket and over an event stream through each of them.
//
// It is a module of its own, so that nobody who takes the library takes five routers with it.
package examples
