# Needs go, git and make; everything else comes through the module proxy.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
FUZZTIME ?= 30s
LOADERTIME ?= 2m
WORLDS ?= 10000
CHAINS ?= 20
DEMOS ?= 50

# The daemon's binary is static: it runs on any node, whatever its libc.
export CGO_ENABLED ?= 0
# What tests build is what people build, wherever the clone is: all of it is
# compiled once.
export GOFLAGS ?= -trimpath

# Tests of real containers and processes wait for half of their time: twice as
# many packages as cores run at once, and those that take longest begin first.
PACKAGES ?= $(shell expr 2 '*' "$$(getconf _NPROCESSORS_ONLN)")
LONGEST = ./test/lxc/chain ./internal/daemon ./plugin/... ./test/lxc ./test/mutation ./manager

.DEFAULT_GOAL := help
.PHONY: help build release packer demo demo-lxc test check lint bench fuzz soak generate clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the programs into build/
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o build/dayfly ./manager
	go build -trimpath -ldflags '-s -w' -o build/packer-plugin-dayfly ./plugin

release: ## write the plugin's archives for VERSION (vX.Y.Z) into build/release/, as packer init wants them
	go run ./scripts/release -version $(VERSION) -o build/release

packer: ## find an installed packer, or build one once, for tests and the demo, and its plugin for Ansible
	go run ./test/packertool/get
	go run ./test/packertool/get ansible

demo: build ## bake a template and play a day of jobs, on a simulated Proxmox and GitHub
	@packer=$$(timeout 600 go run ./test/packertool/get) || echo "note: no packer: the day begins with a template that is there"; \
	build/dayfly demo $${packer:+--packer "$$packer"}

demo-lxc: build ## bake a template and run jobs in real containers of this machine: needs root and LXC
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o build/dayfly-stub-runner ./internal/sim/runner
	build/dayfly demo --containers lxc --packer "$$(timeout 600 go run ./test/packertool/get)"

test: lint ## every check and every test; what continuous integration runs
	@timeout 600 go run ./test/packertool/get >/dev/null || echo "note: no packer: the tests that run it are skipped, or fail where DAYFLY_LAB=require"
	@timeout 180 go run ./test/packertool/get ansible >/dev/null || echo "note: no plugin ansible: the provisioner is not tried"
	go test -vet=off -timeout 20m -p $(PACKAGES) $(LONGEST) ./...

check: lint ## the house rules alone: format, vet, staticcheck, generated files, imports, sizes
	go test -vet=off -count=1 ./test/check

lint:
	go vet ./...
	go tool staticcheck ./...

bench: ## measure, print a table and write build/bench.json
	@mkdir -p build
	@timeout 600 go run ./test/packertool/get >/dev/null || echo "note: no packer: what a bake costs is not measured"
	go run ./test/bench -o build/bench.json

fuzz: ## run every fuzz test for FUZZTIME (30s) each, those of pool files for LOADERTIME (2m)
	@go list ./... | while read -r package; do \
		case "$$package" in */internal/pools) time=$(LOADERTIME);; *) time=$(FUZZTIME);; esac; \
		go test -vet=off -run '^$$' -list '^Fuzz' "$$package" | grep '^Fuzz' | while read -r target; do \
			echo "fuzz $$package $$target"; \
			go test -vet=off -run '^$$' -fuzz "^$$target\$$" -fuzztime "$$time" "$$package" || exit 1; \
		done || exit 1; \
	done

soak: build ## run WORLDS (10000) random worlds of the whole daemon and roll-outs, printing what they showed, every planted bug, a release twice, DEMOS (50) days of the demo, and the chain on real containers CHAINS (20) times
	go test -vet=off -count=1 -timeout 4h -run '^TestRandomWorlds' ./internal/daemon -worlds $(WORLDS)
	go test -vet=off -count=1 -v -run '^Test(GoodVersionIsRarelyRolledBack|BadVersionsAreFound)$$' ./internal/fleet
	DAYFLY_MUTATIONS=all go test -vet=off -count=1 -timeout 4h ./test/mutation
	DAYFLY_RELEASE=all go test -vet=off -count=1 -timeout 4h -run '^TestReleaseIsReproducible$$' ./scripts/release
	@for seed in $$(seq $(DEMOS)); do echo "demo --seed $$seed"; build/dayfly demo --json --seed "$$seed" || exit 1; done
	go test -vet=off -count=$(CHAINS) -timeout 4h -run '^TestChain$$' ./test/lxc/chain

generate: ## write the generated files again, the plugin's pages in .web-docs among them
	go generate ./...
	go run ./scripts/webdocs

clean: ## remove what build and bench wrote
	rm -rf build
