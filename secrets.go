package rowtide

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
)

// redacted stands for a secret.
const redacted = "[redacted]"

// hidden is the configuration without its secrets, under another type so that printing it does
// not come back here.
func (c Config) hidden() any {
	type plain Config
	for _, s := range []*string{&c.JWTSecret, &c.CursorSecret, &c.AdminToken} {
		if *s != "" {
			*s = redacted
		}
	}
	c.DatabaseURL, c.AdminURL, c.JWKSURL = hideURL(c.DatabaseURL), hideURL(c.AdminURL), hideURL(c.JWKSURL)
	c.Logger = nil
	return plain(c)
}

// hideURL leaves of a URL what says where it leads. A connection string in libpq's other form is
// hidden whole.
func hideURL(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" {
		return redacted
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	for k := range q {
		if regexp.MustCompile(`(?i)pass|secret|token|key`).MatchString(k) {
			q.Set(k, redacted)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// String shows the configuration without its secrets.
func (c Config) String() string { return fmt.Sprintf("%+v", c.hidden()) }

// Format is String for every verb: none of them shows a secret.
func (c Config) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%+v", c.hidden()) }

// LogValue is String for a structured log.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON shows the configuration without its secrets.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }
