package rowtide

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates are a pair of files, read anew when one of them changes: certificates live for
// weeks and services for longer.
type certificates struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	of     [2]os.FileInfo
	looked time.Time
}

// lookEvery is how often the files are looked at, at most.
const lookEvery = time.Second

func openCertificates(cert, key string, log *slog.Logger) (*certificates, error) {
	c := &certificates{cert: cert, key: key, log: log}
	return c, c.readLocked()
}

// readLocked reads the pair. The files' times are taken first: what is written meanwhile is read
// the next time.
func (c *certificates) readLocked() error {
	of, err := c.stat()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("--tls-cert and --tls-key: %w: name a certificate chain and its key, in PEM", err)
	}
	c.pair, c.of = &pair, of
	return nil
}

func (c *certificates) stat() (of [2]os.FileInfo, err error) {
	for i, name := range []string{c.cert, c.key} {
		if of[i], err = os.Stat(name); err != nil {
			return of, fmt.Errorf("--tls-cert and --tls-key: %w: name a certificate chain and its key, in PEM", err)
		}
	}
	return of, nil
}

// get gives the certificate of the moment. While the new pair cannot be read, or does not belong
// together yet, the old one serves on.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= lookEvery {
		c.looked = time.Now()
		c.lookLocked()
	}
	return c.pair, nil
}

// reload looks at the files now.
func (c *certificates) reload() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookLocked()
}

func (c *certificates) lookLocked() {
	of, err := c.stat()
	if err == nil && same(of[0], c.of[0]) && same(of[1], c.of[1]) {
		return
	}
	if err == nil {
		err = c.readLocked()
	}
	if err != nil {
		c.log.Error("the new certificate cannot be read: the old one stays in use", "error", err)
		return
	}
	c.log.Info("certificate was read anew", "file", c.cert)
}

func same(a, b os.FileInfo) bool {
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}
