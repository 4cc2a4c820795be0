package examples

import (
	"net/http"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
)

// Fiber mounts the service below /live. Fiber is built on fasthttp, whose adaptor for
// http.Handler holds a response back until it is over: streams and WebSockets do not pass it. So
// net/http stands in front, with Fiber's application behind it.
func Fiber(live http.Handler) http.Handler {
	app := fiber.New()
	app.Get("/hello", func(c fiber.Ctx) error { return c.SendString("hello") })
	mux := http.NewServeMux()
	mux.Handle("/live/", http.StripPrefix("/live", live))
	mux.Handle("/", adaptor.FiberApp(app))
	return mux
}
