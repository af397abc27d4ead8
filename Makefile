# Everything a developer needs. `make help` lists it.
SHELL := /usr/bin/env bash
BIN := $(CURDIR)/bin
GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)
FUZZTIME ?= 30000x

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## build ./bin/waypost
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -o $(BIN)/waypost ./cmd/waypost

.PHONY: dev
dev: build ## show the whole product working, without any account; Ctrl-C ends it
	$(BIN)/waypost dev

.PHONY: run
run: build ## start the gateway on an embedded store in ./waypost-data
	$(BIN)/waypost serve

.PHONY: test
test: ## every test, with the race detector, on SQLite and PostgreSQL; then short fuzzing
	./scripts/provide-postgres
	WAYPOST_TEST_REQUIRE_POSTGRES=1 go test -race -timeout 12m ./...
	./scripts/fuzz $(FUZZTIME)

.PHONY: faults
faults: ## kill, cut off, fill up and mislead a gateway under load for a quarter of an hour; prints what came of it
	./scripts/provide-postgres
	WAYPOST_FAULTS=long WAYPOST_TEST_REQUIRE_POSTGRES=1 go test -v -count 1 -parallel 4 -timeout 40m ./faults/

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint with the rules of .golangci.yml
	$(GOLANGCI) run ./...

# The linter is built with the toolchain at hand and kept out of go.mod.
$(GOLANGCI):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv $(BIN)/golangci-lint $@

.PHONY: check
check: lint test ## what a change must pass before it lands
	go mod tidy -diff

.PHONY: bench
bench: build ## measure this machine: the gateway against a bare HTTP client, in ratios
	$(BIN)/waypost bench
