package rowtide

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// pollEvery is how often the catalog is looked at for what no event trigger tells: roles and
// memberships, and everything where event triggers could not be made.
const pollEvery = time.Second

// watch polls the catalog and puts a new one in force when it changes.
func (p *pipeline) watch(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := errors.Join(p.poll(ctx), p.countPublications(ctx)); err != nil && ctx.Err() == nil {
			p.log.Warn("catalog cannot be read: changes of it are not seen meanwhile", "error", err)
		}
	}
}

// countPublications notes which of ours are missing: the server says nothing of it before it has a
// change to send.
func (p *pipeline) countPublications(ctx context.Context) error {
	var missing *string
	err := p.source.pool.QueryRow(ctx, `
SELECT pg_catalog.string_agg(pg_catalog.quote_ident(p), ', ') FROM pg_catalog.unnest($1::pg_catalog.text[]) AS p
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = p)`, p.source.cfg.Publications).Scan(&missing)
	if err != nil {
		return fmt.Errorf("read publications: %w", err)
	}
	p.missing.Store(missing)
	return nil
}

// poll reads the catalog anew where it changed.
func (p *pipeline) poll(ctx context.Context) error {
	p.reading.Lock()
	defer p.reading.Unlock()
	catalog, err := p.source.load(ctx)
	if err != nil || catalog == p.catalog.Load() {
		return err
	}
	if p.cfg.AdminURL != "" {
		return p.renewLocked(ctx)
	}
	p.catalog.Store(catalog)
	p.dispatcher.SetCatalog(catalog)
	return nil
}

// renew puts the catalog in force as it is now.
func (p *pipeline) renew(ctx context.Context) error {
	p.reading.Lock()
	defer p.reading.Unlock()
	return p.renewLocked(ctx)
}

func (p *pipeline) renewLocked(ctx context.Context) error {
	catalog, err := p.reload(ctx)
	if err != nil {
		return err
	}
	p.dispatcher.SetCatalog(catalog)
	return nil
}

// reload reads the catalog. The caller holds reading.
func (p *pipeline) reload(ctx context.Context) (*schema.Catalog, error) {
	if p.cfg.AdminURL != "" {
		if err := syncAnnotations(ctx, p.cfg); err != nil {
			p.log.Warn("annotations cannot be put in force", "error", err)
		}
	}
	catalog, err := p.source.load(ctx)
	if err != nil {
		return nil, err
	}
	p.catalog.Store(catalog)
	return catalog, nil
}

// refresh reads the catalog because the stream describes a relation otherwise.
func (p *pipeline) refresh(ctx context.Context) (*schema.Catalog, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	return p.reload(ctx)
}

// announced puts the catalog in force that a transaction with DDL made, before the changes of
// that transaction and of later ones are judged. It is called by the dispatcher, in the order
// of the stream.
func (p *pipeline) announced(ctx context.Context, tx cdc.Transaction, messages []cdc.Message) {
	p.reading.Lock()
	defer p.reading.Unlock()
	err := p.source.await(ctx, tx.XID)
	if err == nil && !p.source.concerned(ctx, messages) {
		return
	}
	if err == nil {
		var catalog *schema.Catalog
		if catalog, err = p.reload(ctx); err == nil {
			p.dispatcher.SetCatalog(catalog)
			return
		}
	}
	if ctx.Err() == nil {
		p.log.Warn("catalog cannot be read after DDL: the poll will", "error", err)
	}
}
