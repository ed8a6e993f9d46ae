# Everything on a fresh machine: `make serve` and `make test` need Python 3.10+ and make.

PYTHON ?= python3
BIN := .venv/bin

# Every check and test, on each supported Python that is installed here.
# TOX_ARGS="-e py311 -- -k reload" runs less.
.PHONY: test
test: .venv/tox
	$(BIN)/tox run $(TOX_ARGS)

# The example app, with four workers and the production configuration.
.PHONY: serve
serve: .venv/serve
	$(BIN)/gunicorn -c conf/gunicorn.conf.py -w 4 --chdir examples main:app

# The comparison with peers, a quarter of an hour; BENCH_ARGS="--quick" takes two.
.PHONY: bench
bench: .venv/bench
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

.PHONY: clean
clean:
	rm -rf .venv .tox build *.egg-info

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/tox: .venv/bin/pip
	$(BIN)/pip install --quiet 'tox>=4.23'
	touch $@

.venv/bench: .venv/bin/pip setup.cfg pyproject.toml
	command -v wrk || (echo "wrk is missing: apt-get install wrk"; exit 1)
	$(BIN)/pip install --quiet --editable '.[bench]'
	touch $@

.venv/serve: .venv/bin/pip setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable '.[example]'
	touch $@
