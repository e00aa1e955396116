# Kilonova: two commands, `make demo` and `make test`; `make help` lists all.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PREFIX := /opt/kilonova
UNITS := /etc/systemd/system
PAGES := src/kilonova/console/static/vendor
ONCE ?=
ACCEPTANCE ?= ../shared/acceptance
SDK ?=
LISTS ?= $(if $(SDK),,tempest-smoke tempest-open-network tempest-open-scenario)
VIRT ?= auto

DEBS := libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients libvirt-dev qemu-system-x86 qemu-utils libxml2-utils \
	qemu-block-extra ovmf dnsmasq-base nftables radvd iproute2 iputils-ping conntrack tcpdump genisoimage mtools syslinux \
	syslinux-common e2fsprogs fakeroot cpio kmod dosfstools fdisk openssl openssh-client sshpass postgresql \
	pkg-config gcc libc6-dev python3-dev python3-venv procps libnftables1 ca-certificates tgt
# What a Debian cloud image is built with, for make acceptance.
ACCEPTANCE_DEBS := mmdebstrap grub-pc-bin grub-common
# What only tests need: volumes on LVM, on a file system that shares blocks, on a small real Ceph; pages in a browser.
TEST_DEBS := lvm2 thin-provisioning-tools btrfs-progs ceph-mon ceph-osd ceph-common chromium

unexport PYTHONDONTWRITEBYTECODE  # where it is set, each start of a cloud would compile all of it anew: a second

.DEFAULT_GOAL := help
.PHONY: help setup debs image demo install uninstall test lint api-table api-shown fuzz chaos bench acceptance clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: debs $(VENV)/.stamp $(PAGES)/.stamp  ## install Debian packages, the virtual environment, what web pages need

debs:
	@missing=; for p in $(DEBS); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; \
	  if [ "$$(id -u)" != 0 ]; then echo "these Debian packages are missing; run as root: apt-get install$$missing" >&2; exit 1; fi; \
	  apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >/dev/null; fi

$(VENV)/.stamp: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[libvirt,dev]'
	@touch $@

$(PAGES)/.stamp: packaging/pages/package.json packaging/pages/package-lock.json packaging/pages/fetch.sh | $(VENV)/.stamp
	@bash packaging/pages/fetch.sh $(BIN)/pip $(PAGES)

image: debs  ## build the small bootable guest: build/guest.qcow2
	@bash guest/build.sh build

demo: setup image  ## boot a server in a new cloud, step by step, and log in (ONCE=1 tears it down again)
	@$(BIN)/kilonova demo $(if $(ONCE),--once)

install: setup image  ## install under /opt/kilonova, with a systemd unit
	@$(PYTHON) -m venv $(PREFIX)
	@rm -rf build/lib build/bdist.*  # a module that is no more must not be installed from there
	@$(PREFIX)/bin/pip install -q --disable-pip-version-check -c constraints.txt '.[libvirt]' python-openstackclient
	@rm -rf build/lib build/bdist.*
	@install -D -m644 build/guest.qcow2 $(PREFIX)/share/guest.qcow2
	@install -D -m644 README.md $(PREFIX)/share/doc/README.md
	@install -d $(UNITS)
	@sed 's|@BIN@|$(PREFIX)/bin|; s|@SHARE@|$(PREFIX)/share|; s|@DOC@|$(PREFIX)/share/doc|' packaging/kilonova.service > $(UNITS)/kilonova.service
	@if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	@echo "installed; start it with: systemctl enable --now kilonova; then: $(PREFIX)/bin/kilonova --help"

uninstall:  ## remove what install made; clouds in /var/lib/kilonova stay
	@if [ -d /run/systemd/system ]; then systemctl disable --now kilonova || true; fi
	@rm -f $(UNITS)/kilonova.service
	@if [ -f $(PREFIX)/pyvenv.cfg ] && [ -f $(PREFIX)/bin/kilonova ]; then rm -rf $(PREFIX); fi
	@if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

lint: setup  ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check src tests
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

test: DEBS += $(TEST_DEBS)
test: JOBS = 3  # one more than CPUs: tests of hosts wait a lot
test: setup image lint  ## all tests, the real libvirt, taps, bridges and namespaces included
	@$(BIN)/pytest -q -n $(JOBS) --dist loadgroup || { [ $$? = 1 ] && echo "Once more, one after another: what fails alone, too, has failed." && \
	  $(BIN)/pytest -q --last-failed --last-failed-no-failures none; }

api-table: setup  ## docs/api.md: every operation of OpenStack's descriptions, offered or why not
	@$(BIN)/python tests/api/operations.py

api-shown: setup  ## which test shows which operation, for docs/api.md (runs tests/api, minutes; or TESTS=tests/api/test_….py)
	@$(BIN)/pytest -q -p shown -k "not postgresql or test_volume" $(or $(TESTS),tests/api) --ignore tests/api/test_api_table.py
	@$(BIN)/python tests/api/operations.py

fuzz: setup image  ## 20,000 requests made of OpenStack's descriptions to fake clouds (REQUESTS=…, SEED=…; minutes)
	@KILONOVA_FUZZ=$(or $(REQUESTS),20000) SEED=$(or $(SEED),$$RANDOM) $(BIN)/pytest -q -s tests/fuzz

chaos: setup image  ## kill the cloud at every point of a create and a delete: restarts must end well (minutes)
	@KILONOVA_CHAOS=1 $(BIN)/pytest -q -s tests/boot/test_chaos.py

bench: setup image  ## the numbers, each beside its control: build/bench.json
	@$(BIN)/python bench/run.py

build/acceptance-venv/.stamp: tests/acceptance/requirements.txt
	@test -x build/acceptance-venv/bin/python || $(PYTHON) -m venv build/acceptance-venv
	@build/acceptance-venv/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

acceptance: DEBS += $(ACCEPTANCE_DEBS)
acceptance: setup image build/acceptance-venv/.stamp  ## tempest's lists in the folder ACCEPTANCE=… and the SDK's tests (LISTS=…, SDK=…, VIRT=…); LISTS=debian-cloud-image: an unmodified Debian
	@ACCEPTANCE=$(ACCEPTANCE) $(BIN)/python tests/acceptance/run.py --virt $(VIRT) --jobs $(JOBS) $(SDK:%=--sdk %) $(LISTS)

clean:  ## remove what was built (not your clouds)
	rm -rf $(VENV) $(PAGES) build .mypy_cache .ruff_cache .pytest_cache
