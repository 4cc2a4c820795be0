package rowtide_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Covers S66.
func TestNoWayOfPrintingAConfigurationShowsASecret(t *testing.T) {
	t.Parallel()
	secrets := []string{"database_password", "admin_password", "jwt_secret_of_32_bytes_and_more_x", "cursor_secret_of_32_bytes_and_mor", "admin_token_of_32_bytes_and_more_", "issuer_password", "query_password"}
	cfg := rowtide.Config{
		DatabaseURL: "postgres://svc:database_password@db.example.com/app?sslmode=verify-full&sslpassword=query_password",
		AdminURL:    "host=db.example.com password=admin_password", JWTSecret: secrets[2], CursorSecret: secrets[3], AdminToken: secrets[4],
		JWKSURL: "https://u:issuer_password@issuer.example.com/keys",
	}
	var text, lines bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("config", "cfg", cfg, "pointer", &cfg)
	slog.New(slog.NewJSONHandler(&lines, nil)).Info("config", "cfg", cfg, "pointer", &cfg)
	marshalled, err := json.Marshal(map[string]any{"cfg": cfg, "pointer": &cfg})
	if err != nil {
		t.Fatal(err)
	}
	type holder struct{ Config rowtide.Config }
	all := []string{text.String(), lines.String(), string(marshalled), cfg.String(), fmt.Sprint(errors.New(fmt.Sprint(cfg)))}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all = append(all, fmt.Sprintf(verb, cfg), fmt.Sprintf(verb, &cfg), fmt.Sprintf(verb, holder{cfg}), fmt.Sprintf(verb, []any{cfg}))
	}
	for _, shown := range all {
		for _, secret := range secrets {
			if strings.Contains(shown, secret) || strings.Contains(shown, fmt.Sprintf("%x", secret)) {
				t.Errorf("%s is in %s", secret, shown)
			}
		}
		if !strings.Contains(shown, "db.example.com") {
			t.Errorf("what helps is hidden too: %s", shown)
		}
	}
}

// certificate writes a certificate for this machine and gives it.
func certificate(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// serving runs a service that need not become ready, and gives its address.
func serving(t *testing.T, cfg rowtide.Config) string {
	t.Helper()
	server, err := rowtide.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("service ended: %v", err)
		}
	})
	return l.Addr().String()
}

func notesService(t *testing.T, change func(*rowtide.Config)) string {
	t.Helper()
	db := pgtest.New(t, notesSchema)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	cfg := settings(t, db, role)
	cfg.AnonRole = role
	change(&cfg)
	return serving(t, cfg)
}

func TestTLSServesTheCertificateOfTheMoment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := certificate(t, dir, "first")
	addr := notesService(t, func(c *rowtide.Config) {
		c.TLSCert, c.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	})
	dial := func(trusted *x509.Certificate, most uint16) (string, error) {
		pool := x509.NewCertPool()
		pool.AddCert(trusted)
		d := tls.Dialer{Config: &tls.Config{RootCAs: pool, MaxVersion: most}} //nolint:gosec // old versions are what is tried
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	if name, err := dial(first, 0); err != nil || name != "first" {
		t.Fatalf("%s, %v", name, err)
	}
	if _, err := dial(first, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	second := certificate(t, dir, "second")
	eventually(t, "the new certificate is served", func() bool {
		name, err := dial(second, 0)
		return err == nil && name == "second"
	})
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half of"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if name, err := dial(second, 0); err != nil || name != "second" {
			t.Errorf("while the files are being replaced: %s, %v", name, err)
		}
	}
	resp, err := http.Get("http://" + addr + "/graphql") //nolint:noctx // to this machine
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("plain text is served beside TLS")
		}
	}
}

// Covers S03.
func TestAPageOfAReboundNameGetsNothing(t *testing.T) {
	t.Parallel()
	addr := notesService(t, func(c *rowtide.Config) {
		c.AllowHosts, c.AllowOrigins = []string{"api.example.com"}, []string{"https://app.example.com:8443"}
	})
	for host, want := range map[string]bool{
		addr: true, "localhost:8080": true, "LOCALHOST": true, "localhost.": true, "[::1]:8080": true, "192.168.1.7": true,
		"api.example.com": true, "API.example.com:443": true, "app.example.com": true,
		"evil.example": false, "evil.example:8080": false, "localhost.evil.example": false, "api.example.com.evil.example": false, "127.0.0.1.evil.example": false, "": false,
	} {
		for _, path := range []string{"/graphql?query={__typename}", "/"} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\nConnection: close\r\n\r\n", path, host)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			conn.Close()
			if refused := resp.StatusCode == http.StatusMisdirectedRequest; refused == want {
				t.Errorf("%s with host %q: %d", path, host, resp.StatusCode)
			}
		}
	}
}
