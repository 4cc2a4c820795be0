# make help lists the targets. CI (.ci/run) runs test, browser, versions, examples and lint.

GO       ?= go
FUZZTIME ?= 20s
# Packages tested at once. Each package with database tests starts its own PostgreSQL.
P        ?= 2
LINT     := $(GO) tool -modfile=tools/go.mod golangci-lint

.DEFAULT_GOAL := help
.PHONY: help demo build test versions race nemesis fuzz lint nightly bench browser examples

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: ## private PostgreSQL, sample application, live GraphQL; Ctrl-C removes it all
	@tools/needs postgres
	$(GO) build -o bin/rowtide ./cmd/rowtide
	@exec ./bin/rowtide demo

build: ## bin/rowtide
	$(GO) build -o bin/rowtide ./cmd/rowtide

test: ## every test, against real servers that it starts; installs what it needs where it may
	@tools/needs server node curl pgbouncer
	$(GO) test -timeout 30m -p $(P) ./...

versions: ## what a version of PostgreSQL can break, against 16, 17 and 18 (Linux on x86-64)
	@tools/versions 16 17 18

nemesis: ## kill, stop and cut everything FAULTS (1000) times; SEED=n replays
	@tools/needs server
	$(GO) test -run TestNemesis -v -timeout 6h ./cmd/rowtide -faults $(or $(FAULTS),1000) -nemesis-seed $(or $(SEED),0)

race: ## the tests under the race detector
	@tools/needs server node curl pgbouncer c
	CGO_ENABLED=1 $(GO) test -race -p $(P) ./...

fuzz: ## every fuzz target for FUZZTIME (20s) each
	@$(GO) list -f '{{.Dir}}' ./... | while read -r dir; do \
		grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go 2>/dev/null | while read -r _ name; do \
			(cd "$$dir" && echo "== $${dir#$(CURDIR)/} $$name" && \
				$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) . </dev/null) || exit 1; \
		done || exit 1; \
	done

lint: ## golangci-lint, built from tools/go.mod (minutes the first time), and gofumpt's formatting
	$(LINT) run ./...

nightly: ## a million random decisions of policies against PostgreSQL's, each way on its own
	@tools/needs server
	ROWTIDE_TEST_DECISIONS=1000000 $(GO) test -timeout 3h -run TestCompiledPoliciesAgreeWithPostgres -v ./authz/rls
	ROWTIDE_TEST_DECISIONS=1000000 $(GO) test -timeout 3h -run TestSetsAgreeWithSelect -v ./authz/rls
	ROWTIDE_TEST_DECISIONS=1000000 $(GO) test -timeout 3h -run TestRandomPoliciesAgreeWithSelect -v ./authz/rls

bench: ## the Go benchmarks, then the latency of a change against a raw replication consumer
	@tools/needs postgres
	$(GO) test -run '^$$' -bench . -benchmem -p 1 ./...
	$(GO) run ./cmd/rowtide bench latency

examples: ## the service in other people's routers: net/http, chi, gin, echo, fiber
	@tools/needs server
	cd examples && $(GO) vet -mod=mod ./... && $(GO) test -mod=mod ./...

browser: ## the tests of the page in headless Chromium, keyboard and axe included
	@tools/needs server browser
	$(GO) test -tags browser -count=1 ./console
