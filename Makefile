# The two commands that matter: `go run ./cmd/holdfast demo` and `make test`.
# Everything here runs on a machine with Go and, for the real clients in the
# tests, a Debian package manager.

GO     ?= go
TESTS  ?= ./...

.PHONY: build test tools vet fuzz bench bench-store release-files release-check sbom clean

build:
	$(GO) build -o bin/holdfast ./cmd/holdfast

# All tests, with the race detector. What the tests drive (.ci/tools lists it) is
# installed first where it is missing. A test that hangs is named after 15 minutes.
test: tools vet
	$(GO) test -race -timeout 15m $(TESTS)

tools:
	./.ci/tools

vet:
	$(GO) vet ./...
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'gofmt would change these files'; exit 1; }

# Each fuzz target for FUZZTIME. A failure leaves its input under testdata/fuzz.
FUZZTIME ?= 30s
fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

# CPU time per request through the proxy (plain, intercepted, with
# every flow kept, and with a rule that matches), beside the same client without it and beside a
# tunnel that only decrypts and encrypts. About a minute. bench/README.md
# explains the figures and adds other proxies.
bench:
	$(GO) run ./bench --only plain,https --proxies direct,reference,holdfast,holdfast-history,holdfast-rule

# A million flows in a SQLite file: how fast they are written, what they take on
# the disk, and how long questions about them take. Some minutes and 3 GB.
FLOWS ?= 1000000
bench-store:
	HOLDFAST_FLOWS=$(FLOWS) $(GO) test -run '^$$' -bench '^BenchmarkFlows$$' -benchtime 1x -timeout 2h ./store

# What the archives of a release hold besides the program: manual pages, and
# scripts of the shells.
release-files:
	$(GO) run ./cmd/holdfast man build/man
	mkdir -p build/completion
	$(GO) run ./cmd/holdfast completion bash > build/completion/holdfast.bash
	$(GO) run ./cmd/holdfast completion zsh > build/completion/_holdfast
	$(GO) run ./cmd/holdfast completion fish > build/completion/holdfast.fish
	$(GO) run ./cmd/holdfast completion powershell > build/completion/holdfast.ps1

# The last commit, built twice for each system of a release, at two places with
# two build caches: the bytes must be the same. TARGETS limits it.
release-check:
	GO='$(GO)' .ci/release-check $(TARGETS)

# What is in the program, as CycloneDX, from what Go wrote into it.
sbom: build
	mkdir -p build
	GO='$(GO)' .ci/sbom bin/holdfast > build/holdfast.cdx.json

clean:
	rm -rf bin build dist
