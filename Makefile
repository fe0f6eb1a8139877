# make help lists what there is to make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

# 1.26.8 and older lack two fixes of net/http that a proxy needs; + lets a newer go.mod ask for more.
export GOTOOLCHAIN := go1.26.9+auto

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# make run
LISTEN ?= :8080
ADMIN ?= 127.0.0.1:9090
DEMO ?= 127.0.0.1:3000
UPSTREAM ?=
REDIS ?=
# make test: the packages whose tests take longest. Two packages are tested at a time, so these are begun first, and the last is not left alone.
# What lint has vetted is not vetted again.
LONGEST := ./cmd/cacheproxy ./store
# make fuzz
FUZZTIME ?= 60s
# make consistency
CONSISTENCY ?= 60s
SEED ?=
# make image
IMAGE ?= cacheproxy:$(VERSION)
# make bench, make profile
QUICK ?=
WHO ?=
ONLY ?=
ROUNDS ?=
SCENARIO ?= hit-1k-c64
# make microbench, make bench-compare
BENCH ?= .
BENCHTIME ?= 1s
BASE ?=
COUNT ?= 10
PKGS ?= ./...
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## */\1\t/' | expand -t 15

.PHONY: build
build: ## build bin/cacheproxy
	CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags '-s -w -X main.version=$(VERSION)' -o bin/cacheproxy ./cmd/cacheproxy

.PHONY: run
run: build ## run in front of UPSTREAM=http://... or of the demo; LISTEN, ADMIN, DEMO, REDIS are addresses
	@exec env CACHEPROXY_LOG_ACCESS_HITS=1 bin/cacheproxy serve --log-format text --listen '$(LISTEN)' --admin '$(ADMIN)' \
	  $(if $(REDIS),--redis '$(REDIS)') $(if $(UPSTREAM),--upstream '$(UPSTREAM)',--demo='$(DEMO)')

.PHONY: test
test: needs ## everything that must pass: lint, tests with the race detector, the chart, fuzzing for 10 s each, conformance, h2spec, consistency for a minute and a half
	$(MAKE) --no-print-directory lint
	CI=true go test -race -vet=off $(LONGEST) ./...
	cd bench && go vet ./... && CI=true go test ./...
	$(MAKE) --no-print-directory chart
	$(MAKE) --no-print-directory fuzz FUZZTIME=10s
	$(MAKE) --no-print-directory conformance
	$(MAKE) --no-print-directory h2spec
	go test -tags consistency -v -count=1 -parallel 16 ./cmd/cacheproxy/internal/consistency -run '^Test(Run|Schedules|RulesCanBeTakenOut)$$' -args -for 20s | \
	  grep -vE '^ *(===|--- PASS)'

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	  if [ -n "$$unformatted" ]; then echo "not formatted:"; echo "$$unformatted"; exit 1; fi
	go vet ./... && go vet -tags soak,consistency ./cmd/cacheproxy/...
	go run $(STATICCHECK) -tags soak,consistency ./...

.PHONY: docs
docs: ## write the pages of docs/ that are made from the code: configuration.md, commands.md, metrics.md
	go test ./cmd/cacheproxy/internal/config -run '^TestReference$$' -update
	go test ./cmd/cacheproxy -run '^Test(Commands|Metrics)Page$$' -update

.PHONY: plots
plots: needs ## draw the pictures of docs/ that are made from the code
	cd bench && go run ./limits -out ../docs/limits

.PHONY: man
man: ## write the man pages to bin/man
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || date +%s) \
	  go test ./cmd/cacheproxy -ldflags '-X cacheproxy/cmd/cacheproxy.version=$(VERSION)' -run '^TestManPages$$' -man '$(CURDIR)/bin/man'

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (60s)
	.ci/fuzz $(FUZZTIME)
	cd bench && ../.ci/fuzz $(FUZZTIME)

.PHONY: conformance
conformance: build needs ## pass http-cache-tests through the binary and compare with bench/conformance/expected.json
	cd bench && CACHEPROXY_DRAIN_DELAY=0s go run ./conformance

.PHONY: chart
chart: build ## lint and render the Helm chart's examples, and check what comes out, without a cluster
	cd charts && go test ./...

.PHONY: image
image: ## build the container image IMAGE (cacheproxy:VERSION) with docker, podman or buildah
	@if docker info >/dev/null 2>&1; then builder='docker build'; \
	  elif command -v podman >/dev/null; then builder='podman build'; \
	  elif command -v buildah >/dev/null; then builder='buildah build'; \
	  else echo 'no image was built: neither docker with a running daemon, nor podman, nor buildah is here' >&2; exit 1; fi; \
	  echo "$$builder -t $(IMAGE) ."; $$builder --build-arg 'VERSION=$(VERSION)' -t '$(IMAGE)' .

.PHONY: h2spec
h2spec: build ## pass h2spec through the binary, over net/http alone too, and compare with bench/h2spec/expected.json
	cd bench && go run ./h2spec

.PHONY: consistency
consistency: needs ## hold purges' receipts against what replicas serve: in orders of events, and for CONSISTENCY (60s) in any, with faults; SEED repeats one
	go test -tags consistency -v -count=1 -parallel 16 -timeout 3h ./cmd/cacheproxy/internal/consistency -args -for '$(CONSISTENCY)' $(if $(SEED),-seed '$(SEED)')

.PHONY: bench
bench: ## measure cacheproxy beside its peers (under 40 min; QUICK=1: under 5): bench/results; ROUNDS=20: longer and surer; WHO and ONLY name contestants and scenarios, with commas between
	@bench/needs
	cd bench && go build -o ../bin/contest ./contest && exec ../bin/contest $(if $(QUICK),-quick) $(if $(WHO),-who '$(WHO)') $(if $(ONLY),-only '$(ONLY)') $(if $(ROUNDS),-rounds '$(ROUNDS)')

.PHONY: bench-agree
bench-agree: ## hold the ratios of the contest in bench/results against those of another one, in AGAINST=DIR
	@test -n '$(AGAINST)' || { echo 'make bench-agree AGAINST=DIR: a directory with the results of another contest' >&2; exit 2; }
	cd bench && go run ./contest -report -against '$(abspath $(AGAINST))'

.PHONY: bench-page
bench-page: ## put what make bench has found out into README.md, and draw it again
	cd bench && go run ./contest -report -page

.PHONY: bench-test
bench-test: ## try that every contestant of make bench answers rightly, and from its cache; make test does not install them
	@bench/needs
	cd bench && BENCH_PEERS=1 go test -count=1 -run Contestants ./contest

.PHONY: profile
profile: ## take profiles and flame graphs of cacheproxy in SCENARIO (hit-1k-c64) of the contest: bench/results/profiles
	@bench/needs
	cd bench && go build -o ../bin/contest ./contest && exec ../bin/contest -profile '$(SCENARIO)'

.PHONY: microbench
microbench: ## run the Go benchmarks of PKGS (./...) matching BENCH for BENCHTIME each
	go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(PKGS)

.PHONY: bench-compare
bench-compare: ## run the Go benchmarks of PKGS matching BENCH as of the revision BASE and as they are now, COUNT (10) times by turns, and compare them
	@command -v redis-server >/dev/null || .ci/needs
	@BASE='$(BASE)' BENCH='$(BENCH)' COUNT='$(COUNT)' PKGS='$(PKGS)' BENCHTIME='$(BENCHTIME)' BENCHSTAT='$(BENCHSTAT)' bench/compare

.PHONY: soak
soak: needs ## load the binary for minutes, on a machine with nothing else to do; what it found is in docs/
	go test -tags soak -run 'Soak' -v -timeout 60m ./cmd/cacheproxy

.PHONY: needs
needs: # install what tests need and the machine lacks
	@.ci/needs

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
