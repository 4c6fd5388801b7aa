# box: OCI container runtime and image builder.
#
# `make help` lists the targets. Everything that is made lies in bin/ (binaries)
# or in $XDG_CACHE_HOME/box-test (base images for the tests); nothing else is
# written into the checkout.

GO      ?= $(shell command -v go || echo /usr/local/go/bin/go)
PREFIX  ?= /usr/local
DESTDIR ?=
PORT    ?= 8080
VERSION := $(shell cat VERSION)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)

# Static and reproducible: no cgo, no paths, no dates, no build id, and the
# commit's name from us instead of Go's own stamping (which would mark every
# checkout with an uncommitted file as another version). The tag leaves out the
# command line library's generator of manuals, which costs start time.
export CGO_ENABLED = 0
LDFLAGS    = -s -w -buildid= -X main.version=$(VERSION) -X main.commit=$(COMMIT)
BUILDFLAGS = -tags urfave_cli_no_docs -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

PROGRAMS = box box-runtime box-monitor

.DEFAULT_GOAL := help
.PHONY: help build install uninstall demo test unit e2e lint criu runc-suite critest engines engines-vm fuzz bench mirror images clean check-go check-root

help: ## show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check-go:
	@GO='$(GO)' sh scripts/check-go.sh

check-root:
	@test "$$(id -u)" = 0 || { echo "make $(MAKECMDGOALS): must be root (containers without root are not built yet); try: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

# box-runtime begins in internal/admit, where it waits for its turn and stays on one CPU.
build: check-go ## build the static binaries into bin/
	@mkdir -p bin
	@$(GO) build $(BUILDFLAGS) -ldflags 'box/cmd/box-runtime=$(LDFLAGS) -E admit_rt0' -o bin/ $(addprefix ./cmd/,$(PROGRAMS))
	@echo "built: $(addprefix bin/,$(PROGRAMS))"

install: build ## install to $(DESTDIR)$(PREFIX): bin/box, bin/box-runtime, libexec/box/box-monitor
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/libexec/box'
	install -m 0755 bin/box bin/box-runtime '$(DESTDIR)$(PREFIX)/bin/'
	install -m 0755 bin/box-monitor '$(DESTDIR)$(PREFIX)/libexec/box/'

uninstall: ## remove what install put there
	rm -f '$(DESTDIR)$(PREFIX)/bin/box' '$(DESTDIR)$(PREFIX)/bin/box-runtime' '$(DESTDIR)$(PREFIX)/libexec/box/box-monitor'
	rmdir '$(DESTDIR)$(PREFIX)/libexec/box' 2>/dev/null || true

demo: check-root build ## build testdata/hello, run it on port 8080 and fetch its page
	@PORT=$(PORT) sh scripts/demo.sh

test: check-root ## install what the tests need, then run every test
	@sh scripts/test-deps.sh
	@GO='$(GO)' sh scripts/cri-tools.sh >/dev/null || echo "no crictl: the tests of Kubernetes' runtime interface are skipped"
	@$(MAKE) --no-print-directory build
	@GO='$(GO)' sh scripts/test.sh ./...

unit: check-go ## run the tests beside the code, without root where possible
	@GO='$(GO)' sh scripts/test.sh ./cmd/... ./pkg/... ./internal/...

e2e: check-root build ## run the end-to-end tests (BOX_RUNTIME=runc|crun to swap the runtime)
	@GO='$(GO)' sh scripts/test.sh ./test/...

lint: check-go ## gofumpt, go vet, staticcheck, shellcheck
	@GO='$(GO)' sh scripts/lint.sh

criu: check-root ## run the tests of checkpoint and restore in the virtual machine, also the long ones
	@BOX_TEST_LONG=1 GO='$(GO)' sh scripts/test.sh -run InVM ./pkg/criu

runc-suite: check-root build ## run runc's own integration tests and compare (FILES="kill exec", FLAGS="-v -view v2")
	@sh scripts/test-deps.sh runc-suite
	@$(GO) run ./test/runc $(FLAGS) $(FILES)

critest: check-root build ## run Kubernetes' runtime conformance tests with runc and with box-runtime (FOCUS="Security|Pod")
	@sh scripts/test-deps.sh
	@GO='$(GO)' sh scripts/cri-tools.sh crictl >/dev/null
	@GO='$(GO)' sh scripts/cri-tools.sh critest >/dev/null
	@BOX_BIN=$(CURDIR)/bin BOX_CRITEST='$(or $(FOCUS),.)' $(GO) test -count=1 -timeout 1h -v -run TestCritest ./test/engines

engines: check-root build ## run all tests of engines on this host, those that make test leaves out, too (FOCUS="TestFelt")
	@sh scripts/test-deps.sh
	@GO='$(GO)' sh scripts/cri-tools.sh crictl >/dev/null
	@BOX_ENGINES=all BOX_BIN=$(CURDIR)/bin $(GO) test -count=1 -timeout 1h -v -run '$(or $(FOCUS),.)' ./test/engines

engines-vm: check-root ## ask every engine in the test VM whether limits are felt and checkpoints restored: cgroup v2, both drivers, rootless
	@sh scripts/test-deps.sh
	@GO='$(GO)' sh scripts/cri-tools.sh crictl >/dev/null
	@BOX_ENGINES_VM=all $(GO) test -count=1 -timeout 3h -v -run 'TestEngines/$(or $(FOCUS),.)' ./test/vm

fuzz: check-go ## run every fuzz target in turn (TIME=1m each)
	@GO='$(GO)' sh scripts/fuzz.sh $(or $(TIME),1m) $(PATTERN)

bench: check-root build ## compare with runc, crun and podman where they are installed
	@$(GO) run ./test/bench

images: check-root ## make the Debian-made base images (busybox debian node nginx) in the cache
	@for name in busybox debian node nginx; do sh scripts/rootfs.sh $$name; done

mirror: check-root build ## serve the base images as a loopback mirror of docker.io until interrupted
	@$(GO) run ./test/mirror

clean: ## remove bin/
	rm -rf bin
