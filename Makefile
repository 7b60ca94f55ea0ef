# All set-up is done by the targets themselves, in .venv: Python 3.11 or newer, make and a C++
# compiler are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REPO ?=
BUDGET ?= 6m
DATA ?= ../shared/data
BARS ?=
TESTS ?= tests/unit tests/integration tests/e2e
PYTEST := $(BIN)/python -m pytest
# Wheels built once (llama.cpp takes minutes) are kept by pip.
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup editors demo test check fix unit e2e bench wheel clean
.PHONY: bars-host bars-soak bars-switch
.PHONY: bars-mining bars-prefilter bars-hostile bars-canary bars-adapt bars-chat bars-retrieval bars-route
.PHONY: bars-remote bars-latency
.PHONY: bars-parity bars-export bars-architectures bars-startup bars-small bars-polyglot bars-train bars-optimizers bars-kill bars-kill-export bars-plan bars-recipe bars-joint bars-edits bars-trimming bench-gpu

help: ## show this
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready ## make .venv with everything in it

$(VENV)/.ready: pyproject.toml scripts/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/setup.sh
	@touch $@

editors: ## fetch Neovim for the editor tests, where that is possible
	@bash tests/e2e/editors/get_neovim.sh .cache/nvim || true

demo: setup ## adapt a real repository and show completions before and after (REPO=..., BUDGET=6m)
	@$(BIN)/python scripts/demo.py --budget "$(BUDGET)" $(if $(REPO),--repo "$(REPO)")

test: setup editors check ## everything that must hold, at test size
	$(PYTEST) $(TESTS)

check: setup ## style, types, and the directions of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup ## mend style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit: setup ## fast tests only
	$(PYTEST) tests/unit

e2e: setup editors ## real processes and editors only
	$(PYTEST) tests/e2e

bars-parity: setup ## PEFT, LoRA GGUF and merged GGUF agree (3 min) -> docs/bars/parity.json
	$(BIN)/python -W ignore tests/benchmarks/parity.py

bars-export: setup ## forms, survival, imatrix, seconds and memory (12 min), BARS='--version FOLDER' -> docs/bars/export.json
	$(BIN)/python -W ignore tests/benchmarks/exporting.py $(BARS)

bars-architectures: setup ## six families against llama.cpp (1 min) -> docs/bars/architectures.json
	$(BIN)/python -W ignore tests/benchmarks/architectures.py

bars-remote: setup ## a server on this machine beside the engine host (1 min) -> docs/bars/remote.json
	@$(BIN)/python -W ignore tests/benchmarks/remote.py

bars-startup: setup ## --help and initialize (1 min) -> docs/bars/startup.json
	$(BIN)/python tests/benchmarks/startup.py

bars-small: setup ## adapt and score `small`, DATA=folder of the shared data (25 min)
	$(BIN)/python tests/benchmarks/repositories.py small --data "$(DATA)" $(BARS)

bars-polyglot: setup ## the same for `polyglot` (30 min)
	$(BIN)/python tests/benchmarks/repositories.py polyglot --data "$(DATA)" $(BARS)

bars-train: setup ## speed and memory of training against TRL and PEFT (40 min) -> docs/bars/train.json
	$(BIN)/python tests/benchmarks/training.py train $(BARS)

bars-optimizers: setup ## Sophia against AdamW, and what it costs (30 min) -> docs/bars/optimizers.json
	$(BIN)/python tests/benchmarks/training.py optimizers $(BARS)

bars-kill: setup ## kill -9 at 10 random points of adapt, resumed (20 min) -> docs/bars/kill.json
	$(BIN)/python tests/benchmarks/kill.py $(BARS)

bars-kill-export: setup ## kill -9 at 50 moments of export and promotion (20 min) -> docs/bars/kill_export.json
	$(BIN)/python tests/benchmarks/kill_export.py $(BARS)

bars-plan: setup ## memory and time: expected against measured (8 min) -> docs/bars/plan.json
	$(BIN)/python tests/benchmarks/planning.py $(BARS)

bars-recipe: setup ## rank, alpha, rate, batch and replay, one changed at a time (50 min) -> docs/bars/recipe.json
	$(BIN)/python tests/benchmarks/recipe.py $(BARS)

bars-joint: setup ## adapters alone, with a shared half, after a common one (25 min), REPO=...
	$(BIN)/python tests/benchmarks/joint.py --repo "$(REPO)" $(BARS)

bars-mining: setup ## 100,000 files, 1 GB, as a folder and as a checkout (25 min) -> docs/bars/mining_scale.json
	$(BIN)/python tests/benchmarks/mining.py scale $(BARS)

bars-prefilter: setup ## secrets with and without the gates over BARS='--corpus FOLDER' -> docs/bars/mining_prefilter.json
	$(BIN)/python tests/benchmarks/mining.py prefilter $(BARS)

bars-hostile: setup ## a hostile repository: verdicts, secrets, nothing run (6 min) -> docs/bars/hostile.json
	$(BIN)/python tests/benchmarks/hostile.py --data "$(DATA)" $(BARS)

bars-canary: setup ## a key planted 20 times: is it learnt? (6 min), REPO=... -> docs/bars/canary.json
	$(BIN)/python tests/benchmarks/canary.py --repo "$(REPO)" $(BARS)

bars-adapt: setup ## wrong-repository control and planted key (15 min), REPO=... -> docs/bars/adapt_controls.json
	$(BIN)/python tests/benchmarks/adapt_controls.py $(if $(REPO),--repo "$(REPO)") $(BARS)

bars-chat: setup ## does chat get worse, with questions in the samples and without (10 min), REPO=...
	$(BIN)/python tests/benchmarks/chat_drift.py $(if $(REPO),--repo "$(REPO)") $(BARS)

bars-route: setup ## switching adapters, merged or not, the table of a run (12 min), REPO=... -> docs/bars/route.json
	$(BIN)/python tests/benchmarks/routing.py $(if $(REPO),--repo "$(REPO)") $(BARS)

bars-latency: setup ## typing against llama.cpp's server driven as llama.vim does, three times (27 min) -> docs/bars/latency.json
	$(BIN)/python -W ignore tests/benchmarks/latency.py $(BARS)

bars-retrieval: setup ## what pieces of other files are worth to the base (10 min) -> docs/bars/retrieval.json
	$(BIN)/python tests/benchmarks/retrieval.py --data "$(DATA)" $(BARS)

bars-trimming: setup ## what the filters of completions do to what really stood there -> docs/bars/trimming.json
	$(BIN)/python tests/benchmarks/trimming.py $(BARS)

bars-edits: setup ## what spans edited in other files are worth to the base (5 min) -> docs/bars/edits.json
	$(BIN)/python tests/benchmarks/edits.py $(BARS)

bars-host: setup ## memory, chat, cancel, kill -9 of the engine host (8 min) -> docs/bars/host.json
	$(BIN)/python -W ignore tests/benchmarks/host.py $(BARS)

bars-switch: setup ## A, B and A again against fresh contexts, 100 times (12 min) -> docs/bars/switch.json
	$(BIN)/python -W ignore tests/benchmarks/switching.py $(BARS)

bars-soak: setup ## 10,000 requests to one engine host (30 min) -> docs/bars/soak.json
	$(BIN)/python -W ignore tests/benchmarks/soak.py $(BARS)

bench-gpu: setup ## speed and optimizers as JSON, on a GPU where there is one; no bars (REPO=...)
	@$(BIN)/flex-assist bench train $(REPO) --repeats 3 --json
	@$(BIN)/flex-assist bench optimizers $(REPO) --json

bench: bars-parity bars-startup bars-small bars-polyglot bars-train bars-optimizers bars-kill bars-plan ## all but the recipe's experiments; a quiet machine

wheel: setup ## build dist/*.whl
	@rm -f dist/flex_assist-*.whl
	$(PIP) wheel --no-deps -w dist .

clean: ## remove what was made, .venv too
	rm -rf $(VENV) .cache dist demo
