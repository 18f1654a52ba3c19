# AegisVM. `make run` and `make test` install what is missing, build, and do
# the main job or pass every test. Everything they make is under bin/, share/
# and build/ here and in the cache (AEGIS_CACHE, else ~/.cache/aegisvm).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO       ?= go
PREFIX   ?= /usr
DESTDIR  ?=
MODULE   := github.com/xfeldman/aegisvm
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X $(MODULE)/api.Version=$(VERSION)
GOBUILD  := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)"
TOOL     := $(GO) tool -modfile=tools/go.mod

GUEST    := share/aegisvm/guest

.PHONY: deps deps-test build programs guest man test unit race integration bench run install fmt lint \
	kernel base-image cross generate clean

## run: the main job
run: build
	bin/aegis up
	bin/aegis run -- echo hello from aegisvm

## test: every test there is
test: deps-test build
	$(TOOL) gotestsum --format pkgname-and-test-fails -- -timeout 25m ./...

## unit: the fast tests only
unit:
	$(GO) test -short ./...

## race: the fast tests under the race detector (needs a C compiler)
race:
	CGO_ENABLED=1 $(GO) test -race -short ./...

## integration: the whole system, in both compositions
integration: deps-test build
	$(GO) test -count=1 -timeout 25m -v ./tests/...

## bench: ratios, measured side by side in one run
bench: deps-test build
	$(GO) test -run "^$$" -bench . -benchtime 1x -timeout 60m -v ./tests/bench
	$(GO) test -run "^$$" -bench List -benchtime 100x ./daemons/aegisd/instance

## deps: what `make run` needs from the distribution; deps-test: and the tests
deps:
	@packaging/deps run
deps-test: deps
	@packaging/deps test
	@packaging/deps kernel # the tests ask Kconfig what it makes of the fragments

## build: programs, guest and base image
build: deps programs man guest base-image

programs:
	@mkdir -p bin
	$(GOBUILD) -buildmode=pie -o bin/aegis ./daemons/aegis
	$(GOBUILD) -buildmode=pie -o bin/aegisd ./daemons/aegisd
	$(GOBUILD) -buildmode=pie -o bin/aegis-vmmd ./daemons/vmmd
	$(GOBUILD) -buildmode=pie -o bin/aegis-imaged ./daemons/imaged
	$(GOBUILD) -buildmode=pie -o bin/aegis-routerd ./daemons/routerd
	$(GOBUILD) -buildmode=pie -o bin/aegis-netd ./daemons/netd
	$(GOBUILD) -buildmode=pie -o bin/aegis-vmm-worker ./daemons/vmm-worker
	$(GOBUILD) -buildmode=pie -o bin/aegis-fsd ./daemons/fsd

## man: man pages and shell completions, from the commands
man:
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) CGO_ENABLED=0 $(GO) run -trimpath ./packaging/gendocs build/docs

# The harness is not position independent: PID 1 of the initramfs has no
# dynamic loader to ask for.
guest:
	@mkdir -p build $(GUEST)
	$(GOBUILD) -o build/harness ./guest/harness
	@packaging/guest build/harness $(GUEST)

## kernel: the lean guest kernel, from the distribution's source (12 minutes once)
kernel:
	@packaging/deps kernel
	guest/kernel/build
	@$(MAKE) --no-print-directory guest

base-image: deps
	@mkdir -p share/aegisvm
	@ln -sfn "$$(packaging/base-image/build)" share/aegisvm/base

## install: what a package holds, under DESTDIR
install:
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) packaging/install-tree

## cross: all that can exist on the other platforms
cross:
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -trimpath ./...
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) build -trimpath ./...
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) vet ./api/... ./vmm/... ./daemons/aegis/...

generate:
	$(GO) generate ./...

fmt:
	$(TOOL) gofumpt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')

lint:
	@out=$$($(TOOL) gofumpt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); \
		test -z "$$out" || { echo "not formatted, run make fmt: $$out"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run packaging/deps packaging/guest packaging/install-tree \
		packaging/base-image/build guest/kernel/build guest/kernel/distro; fi

vuln:
	$(TOOL) govulncheck ./...

clean:
	rm -rf bin share build
