package examples

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// Gin mounts the service below /live. Middleware that reads bodies, compresses or buffers must
// not stand before it.
func Gin(live http.Handler) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Any("/live/*path", gin.WrapH(http.StripPrefix("/live", live)))
	r.GET("/hello", func(c *gin.Context) { c.String(http.StatusOK, "hello") })
	return r
}
