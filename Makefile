# Two commands do everything: `make demo` and `make test`. Both create .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint types unit test-frame test-bluez test-night test-soak test-malformed mosquitto test-home-assistant bench bench-ble models clean
.DEFAULT_GOAL := demo

$(VENV)/.core: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 venv is missing: sudo apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	@touch $@

demo: $(VENV)/.core ## simulated patient, broker, agent and subscriber for about a minute; RECORD=path plays a WFDB record
	$(BIN)/vagus demo $(if $(RECORD),--record $(RECORD))

test: $(VENV)/.dev mosquitto lint types unit ## lint, types, tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/pytest

test-bluez: $(VENV)/.dev ## the Bluetooth of the agent against real BlueZ, in a guest; see docs/development.md
	$(BIN)/python tests/bluez/guest.py

test-night: $(VENV)/.dev ## eight hours of wearables coming and going, in minutes: nothing is lost, nothing grows
	VAGUS_NIGHT_H=8 $(BIN)/pytest tests/peers/test_ble_night.py --timeout 3600 -s

test-soak: $(VENV)/.dev mosquitto ## a day of a small ward, in half an hour: nothing is lost, nothing grows
	VAGUS_SOAK_H=24 $(BIN)/pytest tests/peers/test_soak.py --timeout 0 -s

test-malformed: $(VENV)/.dev ## 100,000 notifications that are none, all of them counted
	VAGUS_MALFORMED=100000 $(BIN)/pytest tests/peers/test_ble_malformed.py --timeout 3600

.PHONY: test-install test-arm64

test-install: $(VENV)/.dev ## the real bundle in a fresh Debian: install, start, upgrade, roll back, remove; takes root and debootstrap
	VAGUS_INSTALL=$(shell uname -m) $(BIN)/pytest tests/deploy/test_bundle.py --timeout 3600

test-arm64: $(VENV)/.dev ## the same for 64-bit Arm; takes qemu-user 10 or newer, registered with binfmt
	VAGUS_INSTALL=aarch64 $(BIN)/pytest tests/deploy/test_bundle.py --timeout 7200

FRAMES ?= 1000000

test-frame: $(VENV)/.dev ## the C header against the Python codec, over a million random and damaged frames; needs gcc
	VAGUS_FRAMES=$(FRAMES) $(BIN)/pytest -s --timeout 0 tests/firmware_bridge/test_c_header.py

mosquitto: ## a real broker for the fault tests; where it cannot be had, they are skipped by name
	@command -v mosquitto >/dev/null || test -x /usr/sbin/mosquitto || deploy/get-mosquitto.sh

HOME_ASSISTANT := .home-assistant
HASS_PYTHON ?= python3.13

test-home-assistant: $(VENV)/.dev mosquitto ## install a real Home Assistant (2025.4, needs Python 3.13) and show it the devices
	@test -x $(HOME_ASSISTANT)/bin/hass || $(HASS_PYTHON) -m venv $(HOME_ASSISTANT)
	$(HOME_ASSISTANT)/bin/python -m pip install --quiet homeassistant==2025.4.4 paho-mqtt==2.1.0 home-assistant-frontend==20250411.0
	VAGUS_HOME_ASSISTANT=$(CURDIR)/$(HOME_ASSISTANT)/bin/hass $(BIN)/pytest tests/home_assistant

NODE := .node
.PHONY: test-subscribers

test-subscribers: $(VENV)/.dev mosquitto ## with npm: the example flow in a real Node-RED, our AsyncAPI document against its own schema
	npm install --silent --no-audit --no-fund --prefix $(NODE) node-red@4.1.15 @asyncapi/specs@6.11.1
	VAGUS_NODE_RED=$(CURDIR)/$(NODE)/node_modules/.bin/node-red \
	VAGUS_ASYNCAPI_SCHEMA=$(CURDIR)/$(NODE)/node_modules/@asyncapi/specs/schemas/3.0.0.json \
		$(BIN)/pytest tests/peers/test_examples.py tests/agent/test_asyncapi.py

bench: $(VENV)/.core
	$(BIN)/vagus bench

bench-ble: $(VENV)/.core ## what five wearables at once cost over Bluetooth
	$(BIN)/vagus bench --ble

PACKS := second_opinion rhythm beat vf glucose # beat asks the rhythm pack; for glucose see its card

models: $(VENV)/.dev ## make every pack anew from the recordings in DATA=DIR, which are fetched where they are missing
	@test -n "$(DATA)" || { echo "say where the recordings are or shall be: make models DATA=DIR"; exit 2; }
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	$(BIN)/python -m models.training.fetch $(DATA)
	for pack in $(PACKS); do $(BIN)/python -m models.training.$$pack --data $(DATA) || exit 1; done

# Tools that look at the packages, in an environment of their own: they are not shipped.
SUPPLY := .supply
SHIPPED := $(SUPPLY)/shipped
.PHONY: lock lint-containers sbom audit

$(SUPPLY)/.done: deploy/supply-tools.txt
	@test -x $(SUPPLY)/bin/python || $(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --quiet --requirement deploy/supply-tools.txt
	@touch $@

lock: $(SUPPLY)/.done ## choose the newest packages that pyproject.toml allows and write them down with their hashes
	deploy/lock.sh $(SUPPLY)/bin/uv

lint-containers: $(VENV)/.dev $(SUPPLY)/.done ## hadolint and compose-lint over the files for containers
	$(BIN)/pytest tests/deploy/test_containers.py

sbom: $(SUPPLY)/.done ## deploy/sbom.json (CycloneDX): what an installation from the lock consists of; OF=VENV and TO=FILE for another one
	$(if $(OF),,$(SUPPLY)/bin/uv venv --quiet --clear --python $(PYTHON) $(SHIPPED))
	$(if $(OF),,$(SUPPLY)/bin/uv pip install --quiet --python $(SHIPPED)/bin/python --require-hashes --requirement deploy/requirements.lock)
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file $(or $(TO),deploy/sbom.json) $(or $(OF),$(SHIPPED))/bin/python

audit: $(SUPPLY)/.done ## is anything known against what is shipped? says so where no list of vulnerabilities can be reached
	deploy/audit.sh $(SUPPLY)/bin/pip-audit

clean:
	rm -rf $(VENV) $(HOME_ASSISTANT) $(NODE) $(SUPPLY) build dist *.egg-info
