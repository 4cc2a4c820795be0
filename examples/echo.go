package examples

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// Echo mounts the service below /live.
func Echo(live http.Handler) http.Handler {
	e := echo.New()
	e.Any("/live/*", echo.WrapHandler(http.StripPrefix("/live", live)))
	e.GET("/hello", func(c echo.Context) error { return c.String(http.StatusOK, "hello") })
	return e
}
