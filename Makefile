# Everything on a fresh machine: `make serve` and `make test` need Python 3.10+ and make.

PYTHON ?= python3
BIN := .venv/bin

# Every check and test, on each supported Python that is installed here; but for those of
# `make deploy-test`.
# TOX_ARGS="-e py311 -- -k reload" runs less.
.PHONY: test
test: .venv/tox
	$(BIN)/tox run $(TOX_ARGS)

# What one runs before each commit, in under a minute: format, lint, types, and the tests
# that neither start a service nor wait for seconds.
.PHONY: fast
fast: lint
	$(BIN)/pytest -q -n 8 --dist worksteal -m "not alone and not slow" \
	    --ignore tests/service --ignore tests/check --ignore tests/migration \
	    --ignore tests/deploy --ignore tests/docs

# The files of conf/ with the programs that read them, one after the other. Those that
# are not installed are skipped by name; some tests need root.
.PHONY: deploy-test
deploy-test: .venv/deploy
	$(BIN)/pytest --durations=0 --durations-min=10 tests/deploy $(DEPLOY_ARGS)

# What a rollout, a release that cannot start and a drained node lose on the cluster of
# KUBECONFIG. MANIFESTS is a folder for `kubectl kustomize`; its image serves ECHO.
.PHONY: kubernetes
kubernetes: .venv/test
	$(BIN)/python tests/tools/kubernetes.py $(MANIFESTS)

.PHONY: lint
lint: .venv/test
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

# The site, in site/. Every warning is an error.
.PHONY: docs
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The same at http://127.0.0.1:8001, built anew with every change.
.PHONY: serve-docs
serve-docs: .venv/docs
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

# Build both into the folder $(1). setuptools leaves the time of the build and the modes of
# the checkout in an sdist: it is packed anew without them, and makes the wheel.
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
define build
	$(BIN)/python -m build --sdist --outdir $(1) >/dev/null
	mkdir -p build/plain
	tar --extract --gzip --directory build/plain --file $(1)/*.tar.gz
	tar --create --directory build/plain --format=ustar --sort=name --mode=u=rwX,go=rX \
	    --owner=0 --group=0 --numeric-owner --mtime=@$(SOURCE_DATE_EPOCH) \
	    $$(ls build/plain) | gzip --no-name >$$(echo $(1)/*.tar.gz)
	rm -r build/plain
	umask 022 && $(BIN)/pip wheel --quiet --no-deps --wheel-dir $(1) $(1)/*.tar.gz
endef

# Wheel and sdist, checked: two builds are the same bytes, and the wheel serves a request
# from an environment that holds nothing else.
.PHONY: dist
dist: .venv/dist
	rm -rf dist build
	$(call build,dist)
	$(call build,build/again)
	diff --recursive dist build/again
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(MAKE) first-request

.PHONY: first-request
first-request:
	$(PYTHON) -m venv --clear .venv/clean
	.venv/clean/bin/pip install --quiet dist/*.whl
	.venv/clean/bin/python -I tests/tools/first_request.py

# All that comes before an upload, which is a person's act: push the tag, and approve what
# .github/workflows/release.yml asks.
PYTHONS := $(foreach minor,10 11 12 13 14 15,$(shell command -v python3.$(minor)))
.PHONY: release
release:
	$(PYTHON) tests/tools/release.py
	$(MAKE) test docs dist
	for python in $(PYTHONS); do $(MAKE) first-request PYTHON=$$python || exit 1; done
	@echo "dist/ is ready. To publish it: push a tag with its version"

# Autobahn's fuzzing client against our WebSockets, in half an hour; it needs Python 2.7.
# AUTOBAHN_ARGS="'1.*' '7.*'" runs less, in seconds.
PYTHON2 ?= $(firstword $(foreach python, \
    python2.7 $(wildcard $(HOME)/.pyenv/versions/2.7.*/bin/python2.7), \
    $(shell $(python) -c 'print("$(python)")' 2>/dev/null)) python2.7)
.PHONY: autobahn
autobahn: .venv/test .venv/autobahn
	$(BIN)/python tests/tools/autobahn.py .venv/python2/bin/wstest $(AUTOBAHN_ARGS)

# The example app, with four workers and the production configuration.
.PHONY: serve
serve: .venv/serve
	$(BIN)/gunicorn -c conf/gunicorn.conf.py -w 4 --chdir examples main:app

# The comparison with peers, in about 20 minutes: the tables, pictures and figures of docs/.
# BENCH_ARGS=--quick takes six, and writes to build/benchmarks.
.PHONY: bench
bench: .venv/bench
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

.PHONY: clean
clean:
	rm -rf /var/tmp/uvworker-deploy
	rm -rf .venv .tox build dist site *.egg-info

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/tox: .venv/bin/pip
	$(BIN)/pip install --quiet 'tox>=4.23'
	touch $@

.venv/test: .venv/bin/pip setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable '.[test]' mypy ruff
	touch $@

.venv/deploy: .venv/test
	$(BIN)/pip install --quiet honcho kubernetes-validate supervisor
	touch $@

.venv/autobahn:
	$(PYTHON2) -m pip install --quiet --target .venv/virtualenv 'virtualenv<20.22'
	PYTHONPATH=.venv/virtualenv $(PYTHON2) -m virtualenv --quiet .venv/python2
	.venv/python2/bin/pip install --quiet autobahntestsuite==0.8.2
	touch $@

.venv/docs: .venv/bin/pip setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

.venv/dist: .venv/bin/pip
	$(BIN)/pip install --quiet build twine check-wheel-contents
	touch $@

.venv/bench: .venv/bin/pip setup.cfg pyproject.toml
	command -v wrk || (echo "wrk is missing: apt-get install wrk"; exit 1)
	command -v h2load || (echo "h2load is missing: apt-get install nghttp2-client"; exit 1)
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

.venv/serve: .venv/bin/pip setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable '.[example]'
	touch $@
