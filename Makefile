# Everything is installed into the project's own folders; `python3` only finds the way there (tests/local_stack).
# Recipes are single commands, so that make starts them itself and they notice its end.
.DEFAULT_GOAL := help
LOCAL = $(if $(shell command -v python3),python3,$(error Python 3.11 or later is missing: apt-get install python3 python3-venv)) tests/local_stack

.PHONY: help
help: ## list what there is
	@$(LOCAL) help Makefile

.PHONY: setup
setup: ## check the machine, install the tools into .venv and node_modules
	@$(LOCAL) setup

.PHONY: build
build: ## build the four functions for this machine into .aws-sam/build
	@$(LOCAL) build

.PHONY: up
up: ## a local cloud with three accounts, deployed and left running (PORT=4566 for a port of your choice)
	@$(LOCAL) up $(if $(PORT),--port $(PORT))

.PHONY: down
down: ## end what `make up` started and remove what it made
	@$(LOCAL) down

.PHONY: demo
demo: ## the whole job once, on a local cloud of its own
	@$(LOCAL) demo

.PHONY: test
test: ## every check and test
	@$(LOCAL) test

.PHONY: bench
bench: ## measure the release binaries; the figures go to docs/performance.md
	@$(LOCAL) setup
	@.venv/bin/python tests/bench/bench.py

# The commands below act on the accounts of samconfig.toml, or of SAMCONFIG=…: make hands on what its command line sets.
ENVIRONMENT = $(if $(ENV),--env "$(ENV)")
# Other credentials than the environment's own, which deploy.
PROFILED = $(ENVIRONMENT) $(if $(PROFILE),--profile "$(PROFILE)")

.PHONY: deploy
deploy: ## deploy the stack to the account of ENV=…, an environment of samconfig.toml
	@$(LOCAL) setup
	@.venv/bin/python scripts/deploy.py $(ENVIRONMENT)

.PHONY: doctor
doctor: ## find the first broken link between the repositories and the account of ENV=…
	@$(LOCAL) setup
	@.venv/bin/python scripts/doctor.py $(ENVIRONMENT)

.PHONY: prepare
prepare: ## make an IAM user (USER=…) or role (ROLE=…) of ENV=… one that may be let in (PROFILE=… of who may do that)
	@$(LOCAL) setup
	@.venv/bin/python scripts/prepare.py $(PROFILED) $(if $(filter command%,$(origin USER)),--user "$(USER)") $(if $(ROLE),--role "$(ROLE)")

.PHONY: redrive
redrive: ## send again what the dead-letter queues of ENV=… hold
	@$(LOCAL) setup
	@.venv/bin/python scripts/redrive.py $(PROFILED)
