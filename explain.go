package rowtide

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/rowtide/rowtide/internal/explain"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
	"github.com/rowtide/rowtide/schema/introspect"
)

// An ExplainConfig says whose subscription to explain.
type ExplainConfig struct {
	// ReadConfig says where the tables are; its URL is of the service login, or of a superuser.
	ReadConfig
	// AdminURL is of a superuser, who sees the Row. Defaults to URL.
	AdminURL string
	// Role and Claims, a JSON object, are those of a token. Role is required.
	Role   string
	Claims json.RawMessage
	// RoleClaim and ClaimSettings are as in Config.
	RoleClaim     string
	ClaimSettings []string
	// Query is the subscription, Variables a JSON object. Query is required.
	Query     string
	Variables json.RawMessage
	// NoSets and Publication are as in Config.
	NoSets      bool
	Publication string
	// Row is the key of a row; a JSON object where it has several columns. Defaults to none.
	Row string
}

// An Explanation tells how a subscription is judged and found, and why a row is delivered or not.
type Explanation = explain.Report

// Explain explains a subscription, and gives what is wrong with annotations.
func Explain(ctx context.Context, cfg ExplainConfig) (*Explanation, []schema.Problem, error) {
	f, err := annotation.ReadFile(cfg.Annotations)
	if err != nil {
		return nil, nil, err
	}
	signing := Config{Roles: []string{cfg.Role}, JWTSecret: NewSecret(), RoleClaim: cfg.RoleClaim, ClaimSettings: cfg.ClaimSettings}.withDefaults()
	token, err := Token(signing, cfg.Role, cfg.Claims, time.Hour)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := signing.verifier()
	if err != nil {
		return nil, nil, err
	}
	principal, err := verifier.Verify(token)
	if err != nil {
		return nil, nil, err
	}
	pool, err := openPool(ctx, "--database-url", cfg.URL)
	if err != nil {
		return nil, nil, err
	}
	defer pool.Close()
	service := Config{Schemas: cfg.Schemas, Publication: cfg.Publication}.withDefaults()
	s := &source{pool: pool, cfg: introspect.Config{Schemas: service.Schemas, Roles: []string{cfg.Role}, All: f != nil, Related: !cfg.NoSets}, log: slog.New(slog.DiscardHandler)}
	if err := s.findSearchable(ctx); err != nil {
		return nil, nil, err
	}
	catalog, problems, err := readCatalog(ctx, pool, s.cfg, f, schema.Options{})
	if err != nil {
		return nil, nil, err
	}
	report, err := explain.Explain(ctx, explain.Config{
		URL: cfg.URL, AdminURL: cfg.AdminURL, Schemas: s.searchable, Catalog: catalog, Principal: principal,
		Sets: !cfg.NoSets, Publication: service.Publication,
		Request: schema.Request{Query: cfg.Query, Variables: cfg.Variables}, Row: cfg.Row, Compare: comparer{pool}.Compare,
		Moments: func(ctx context.Context, relation uint32) (map[string][]string, error) {
			moments, err := introspect.Moments(ctx, pool, []uint32{relation})
			out := map[string][]string{}
			for _, m := range moments {
				out[m.Policy] = append(out[m.Policy], m.String())
			}
			return out, err
		},
	})
	return report, problems, err
}
