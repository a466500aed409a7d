# What a person or a CI calls; the work is done by cargo and by the scripts named here.
#
#   make build       the three programs, as they are shipped
#   make install     them and what belongs to them, below DESTDIR; nothing is enabled or started
#   make demo        two apps, four releases, under load, on a booted host; KEEP=1 leaves the host up
#   make test        everything that a change has to pass; boots hosts, so it needs root
#   make test-handover   of that, what users notice of a move: a line of counts for each route and program;
#                    HANDOVER_DEPLOYMENTS=200 for more than ten moves each
#   make readme      of that, the commands, settings and units of README's chapter on the life of a release
#   make check-all   that, the tests that take long, the demo and the shipped build
#   make clean       what was built; test hosts of this checkout are ended
#
# `cargo test` alone, as an ordinary user, runs all that needs no booted host.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build install demo test test-handover readme check-all clean

DESTDIR ?=
# Where `build` puts them.
BINARIES ?= $(or $(CARGO_TARGET_DIR),target)/release
# For the demo's scripts.
export KEEP PROFILE PACE_MS

# The gate is built by itself, without the daemon's libraries: a boot depends on it.
build:
	tests/need cc=gcc,libc6-dev
	cargo build --release --bin slotd --bin slotctl
	cargo build --release --no-default-features --bin slotd-gate

# Doesn't build: root, who installs, may have no toolchain. There is no PREFIX, since units name programs by their path.
install:
	BINARIES="$(abspath $(BINARIES))" packaging/install.sh "$(DESTDIR)"

demo:
	tests/need cc=gcc,libc6-dev
	tests/demo/demo

test:
	tests/run

test-handover:
	tests/run handover

readme:
	tests/run readme

check-all:
	tests/run --long
	$(MAKE) demo KEEP=
	$(MAKE) build

clean:
	cargo clean
	[[ $$EUID -ne 0 ]] || tests/host/host killall
