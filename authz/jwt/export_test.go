package jwt

import (
	"crypto/tls"
	"time"
)

// Trusting has a test's server trusted, and fetched from as often as least says.
func Trusting(c *Config, t *tls.Config, least time.Duration) { c.tls, c.fetchLeast = t, least }

// CheckAddress says what is wrong with an address that a name of a key set's URL leads to.
func CheckAddress(host, address string, private bool) error {
	return refusePrivate(host, private)("tcp", address, nil)
}

// ParseSet is parseSet, and gives how many keys there are.
func ParseSet(text []byte) (int, error) {
	keys, _, err := parseSet(text)
	return len(keys), err
}
