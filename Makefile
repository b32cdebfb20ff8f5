# The commands of the README. Each does its own set-up and can be run twice.
CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
FUZZ_SECONDS ?= 60
export COFFERDAM_REQUIRE_ROOT ?= 1

.PHONY: help setup engines programs bindfs pjdfstest share-programs images light-images kernel guest profiles build install demo test test-lab test-lab-all test-microvm unit soak bench bench-profiles bench-recorder bench-vmm bench-shares compat lint fuzz clean

help:
	@echo 'make demo     run a hardened container under containerd and Docker, print what is enforced'
	@echo 'make test     every test, those against real engines included (root)'
	@echo 'make test-lab the tests that want AppArmor, cgroup v2 alone or systemd, in a guest (root)'
	@echo 'make test-lab-all   the same and the rest of the suite there, in half an hour or more (root)'
	@echo 'make test-microvm   virtual machines, in the lab (root)'
	@echo 'make bench    compare with runc, crun and the Go shim on this machine (root)'
	@echo 'make bench-profiles   judge generated profiles by real programs, write docs/profiles.md (root)'
	@echo 'make compat   run real images under baseline and under runc, write docs/compatibility.md (root)'
	@echo 'make bench-recorder   what recording costs: a loop of calls, redis, nginx under wrk (root)'
	@echo 'make guest    build the kernel that microVMs boot, once (docs/guest.md)'
	@echo 'make unit     the tests that need neither root nor a daemon'
	@echo 'make bench-vmm        the virtual machine monitor beside QEMU, in the lab (root)'
	@echo 'make bench-shares     shared directories of microVMs beside virtiofsd and overlay, in the lab (root)'
	@echo 'make soak     the fault loops for longer (root)'
	@echo 'make lint     formatting, lints, invariants, licences'
	@echo 'make fuzz     each fuzz target for FUZZ_SECONDS'
	@echo 'make install  put the three binaries into DESTDIR/usr/local/bin'

setup:
	@scripts/setup

engines: setup
	@scripts/fetch-engines

programs: setup
	@scripts/fetch-programs

# The one of the programs that volumes and logs are tried on.
bindfs: setup
	@scripts/fetch-programs bindfs

# What shares of microVMs are judged by, measured with and beside.
pjdfstest: setup
	@scripts/fetch-pjdfstest

share-programs: setup
	@scripts/fetch-programs fio virtiofsd

images: setup
	@scripts/fetch-images

light-images: setup
	@scripts/fetch-images --light

kernel: setup
	@scripts/fetch-kernel

guest: setup
	@scripts/fetch-guest

profiles: setup
	@scripts/fetch-profiles

build: setup
	$(CARGO) build --release --locked --package cofferdam-shim --package cofferdam-workbench \
	    --package cofferdam-vmm --package cofferdam-agent

install: build
	scripts/install

demo: build guest
	@$(CARGO) run --quiet --release --locked --package cofferdam-integration --bin demo
	@CARGO='$(CARGO)' scripts/demo-microvm

unit: setup
	COFFERDAM_REQUIRE_ROOT=0 $(CARGO) test --locked --workspace --exclude cofferdam-integration

# The suites of one engine run at the same time; they do not share anything.
test: build engines programs light-images profiles guest
	COFFERDAM_REQUIRE_PROFILES=1 $(CARGO) test --locked --workspace --no-fail-fast

# In QEMU; docs/lab.md says how. The lab is made by the first run.
test-lab: build bindfs guest
	@$(CARGO) xtask test-lab

# Machines of sandbox/vmm, alone; `make test-lab` runs them too.
test-microvm: build guest
	@$(CARGO) xtask test-lab microvm

# The slow steps too: an hour and more where QEMU emulates.
test-lab-all: build engines bindfs guest pjdfstest
	@$(CARGO) xtask test-lab --all

soak: build engines
	COFFERDAM_SOAK=1 $(CARGO) test --locked --package cofferdam-integration --test soak -- --nocapture

bench: build programs kernel
	@$(CARGO) run --quiet --release --locked --package cofferdam-integration --bin bench
	@$(CARGO) bench --quiet --locked --package cofferdam-profiles
	@$(CARGO) build --quiet --release --locked --package cofferdam-shim --example denied
	@$(CARGO) bench --quiet --locked --package cofferdam-shim --bench denials
	@$(MAKE) --no-print-directory bench-recorder

# Beside QEMU's, in the lab.
bench-vmm: setup guest
	@$(CARGO) build --quiet --release --locked --package cofferdam-vmm --package cofferdam-integration
	@built=$$(echo target/*-linux-gnu/release) && kernel=$$(scripts/fetch-guest) && \
	    $(CARGO) xtask lab --qemu --with $$built/bench --with $$built/cofferdam-vmm --with $$built/vm-probe \
	        --with $$kernel/vmlinux -- env COFFERDAM_BIN_DIR=/tmp COFFERDAM_BENCH_ROUNDS=10 \
	        /job/with/bench vmm /job/with

# Beside the overlay that is shared, and virtiofsd under QEMU, in the lab: some 20 minutes.
bench-shares: setup guest share-programs
	@$(CARGO) build --quiet --release --locked --package cofferdam-vmm --package cofferdam-integration
	@built=$$(echo target/*-linux-gnu/release) && kernel=$$(scripts/fetch-guest) && \
	    roots=$${COFFERDAM_TEST_CACHE:-/var/cache/cofferdam-tests}/roots && \
	    $(CARGO) xtask lab --qemu --limit 2400 --with $$built/bench --with $$built/cofferdam-vmm \
	        --with $$built/vm-probe --with $$kernel/vmlinux --with $$roots/fio --with $$roots/virtiofsd -- \
	        env COFFERDAM_BIN_DIR=/tmp COFFERDAM_BENCH_ROUNDS=5 /job/with/bench shares /job/with

# The servers are Debian's, and take turns with and without a recorder for some minutes.
bench-recorder: setup programs
	@$(CARGO) bench --quiet --locked --package cofferdam-recorder --bench overhead

# Takes some ten minutes: every load runs under strace.
bench-profiles: build programs
	@$(CARGO) run --quiet --release --locked --package cofferdam-integration --bin bench-profiles -- \
		--write docs/profiles.md

# Some five minutes, and as many again the first time, when the images are built.
compat: build images
	@$(CARGO) run --quiet --locked --package cofferdam-integration --bin compat -- \
		--write docs/compatibility.md

lint: setup
	CARGO='$(CARGO)' scripts/lint

fuzz: setup
	CARGO='$(CARGO)' scripts/fuzz $(FUZZ_SECONDS)

clean:
	$(CARGO) clean
