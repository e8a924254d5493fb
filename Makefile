# Everything is installed into the project's own folders; the machine's python3 only starts the commands in tools/.
# Each recipe is a single command, so that make starts that command itself and the command notices when make ends.
.DEFAULT_GOAL := help
# -I and -X utf8: no setting of Python in the shell or in the home folder takes effect, and every text is UTF-8.
PYTHON = $(if $(shell command -v python3),python3,$(error Python 3.11 or later is missing: apt-get install python3 python3-venv))
TOOLS = $(PYTHON) -I -X utf8 tools
# The value of a variable that was given to make; a variable that the shell exports under the same name is ignored.
given = $(if $(filter command%,$(origin $1)),$($1))

.PHONY: help
help: ## list the commands
	@$(TOOLS) help Makefile

.PHONY: setup
setup: ## check the machine, install the tools into .venv and node_modules
	@$(TOOLS) setup

.PHONY: build
build: ## build the release binaries of the functions for this machine into .aws-sam/build
	@$(TOOLS) build

.PHONY: up
LAID_OUT = $(if $(call given,LAYOUT),--layout "$(LAYOUT)")
up: ## deploy to a local cloud with three accounts and leave it running (LAYOUT=two for two; PORT=4566 for a port of your choice; EMPTY=1 to deploy nothing)
	@$(TOOLS) up $(if $(call given,PORT),--port "$(PORT)") $(if $(filter 1,$(call given,EMPTY)),--empty) $(LAID_OUT)

.PHONY: down
down: ## end what `make up` started and remove its files
	@$(TOOLS) down

.PHONY: demo
demo: ## show the whole job once, on a local cloud of its own
	@$(TOOLS) demo

.PHONY: test
test: ## run every check and test
	@$(TOOLS) test

.PHONY: bench
bench: ## measure the release binaries and write the figures to docs/performance.md
	@$(TOOLS) bench

.PHONY: pictures
pictures: ## draw the pictures of the board in docs/pictures again
	@$(TOOLS) pictures

# The commands below act on the accounts in samconfig.toml, or in the file that SAMCONFIG=… names: make passes
# variables of its command line to the environment.
ENVIRONMENT = $(if $(call given,ENV),--env "$(ENV)")
# PROFILE=… names other credentials than those of the environment, which are for deployment.
PROFILED = $(ENVIRONMENT) $(if $(call given,PROFILE),--profile "$(PROFILE)")

.PHONY: deploy
deploy: ## deploy the stack to the account of ENV=…, an environment in samconfig.toml
	@$(TOOLS) deploy $(ENVIRONMENT)

.PHONY: doctor
doctor: ## find the first broken link between the repositories and the account of ENV=…, and list the doors of temp-access
	@$(TOOLS) doctor $(ENVIRONMENT)

.PHONY: validate
validate: ## have AWS check the policies and a change set of ENV=…, and deploy nothing
	@$(TOOLS) validate $(PROFILED)

.PHONY: smoke
smoke: ## check on AWS what the local stack cannot show of ENV=… (WRITE=1 for the checks that create something)
	@$(TOOLS) smoke $(PROFILED) $(if $(filter command%,$(origin WRITE)),$(if $(filter 1,$(WRITE)),--write))

.PHONY: prepare
prepare: ## let temp-access grant access to an IAM user (USER=…) or role (ROLE=…) of ENV=… (PROFILE=… of an administrator)
	@$(TOOLS) prepare $(PROFILED) $(if $(call given,USER),--user "$(USER)") $(if $(call given,ROLE),--role "$(ROLE)")

.PHONY: person
person: ## make a door of temp-access for NAME=… in ENV=… (PROFILE=… of an administrator; PREPARE=user/…; REMOVE=1)
	@$(TOOLS) person $(PROFILED) $(if $(call given,NAME),--name "$(NAME)") \
		$(if $(call given,PREPARE),--prepare "$(PREPARE)") $(if $(filter 1,$(call given,REMOVE)),--remove)

.PHONY: people
people: ## list the doors of temp-access in ENV=…, whoever could come through them, and who is mapped in Slack
	@$(TOOLS) people $(PROFILED)

.PHONY: hub
hub: ## let the temp-access of ACCOUNT=… hand requests on to ENV=… (PROFILE=… of an administrator; REGION=…; REMOVE=1)
	@$(TOOLS) hub $(PROFILED) $(if $(call given,ACCOUNT),--account "$(ACCOUNT)") \
		$(if $(call given,REGION),--region "$(REGION)") $(if $(filter 1,$(call given,REMOVE)),--remove)

.PHONY: audit
audit: ## write who had access from FROM=… to TO=…, who asked and who approved, in all accounts or in ENV=… (PROFILE=…)
	@$(TOOLS) audit $(PROFILED) $(if $(call given,FROM),--from "$(FROM)") $(if $(call given,TO),--to "$(TO)")

.PHONY: where
where: ## show which revision runs in each target (ENV=… with the repositories; ROUTE=… for one route)
	@$(TOOLS) where $(PROFILED) $(if $(call given,ROUTE),--route "$(ROUTE)")

.PHONY: resend
resend: ## send the latest order of ROUTE=… to ACCOUNT=… again, now (ENV=… with the repositories; REGION=…, PIPELINE=…)
	@$(TOOLS) resend $(PROFILED) $(if $(call given,ROUTE),--route "$(ROUTE)") \
		$(if $(call given,ACCOUNT),--account "$(ACCOUNT)") $(if $(call given,REGION),--region "$(REGION)") \
		$(if $(call given,PIPELINE),--pipeline "$(PIPELINE)")

# The requests about trains share their variables. The shell, not make, expands REASON, so that a reason may contain
# quotes.
TRAIN = $(if $(call given,ROUTE),--route "$(ROUTE)") $(if $(call given,WAVE),--wave "$(WAVE)") \
	$(if $(call given,REVISION),--revision "$(REVISION)") $(if $(call given,REF),--ref "$(REF)") \
	$(if $(call given,REASON),--reason "$$REASON") $(if $(call given,MINUTES),--minutes "$(MINUTES)") \
	$(if $(call given,CODE),--code "$(CODE)") $(if $(filter 1,$(call given,DRY_RUN)),--dry-run)

.PHONY: train
train: ## show where every change of ROUTE=… is, and what each wave waits for (ENV=… with the repositories; REF=…)
	@$(TOOLS) train $(PROFILED) $(TRAIN)

.PHONY: hold
hold: ## let nothing enter WAVE=…, or any wave, of ROUTE=… (REASON=…; MINUTES=…, REF=…, DRY_RUN=1; or CODE=… of a notice)
	@$(TOOLS) hold $(PROFILED) $(TRAIN)

.PHONY: resume
resume: ## end the hold of WAVE=…, or of the whole train, of ROUTE=… (REF=…, DRY_RUN=1; or CODE=…)
	@$(TOOLS) resume $(PROFILED) $(TRAIN)

.PHONY: accept
accept: ## take the unknown targets in WAVE=… of ROUTE=… for healthy, or FINDING=… (REASON=…; REF=…, DRY_RUN=1; CODE=…)
	@$(TOOLS) accept $(PROFILED) $(TRAIN) $(if $(call given,FINDING),--finding "$(FINDING)")

.PHONY: repair
repair: ## have S3 Batch Operations make the repairs of artifacts that a sweep left under CODE=… (ENV=… with the pipelines)
	@$(TOOLS) repair $(PROFILED) $(if $(call given,CODE),--code "$(CODE)")

.PHONY: promote
promote: ## let REVISION=… enter WAVE=… of ROUTE=… next, whatever holds it back (REASON=…; REF=…, DRY_RUN=1)
	@$(TOOLS) promote $(PROFILED) $(TRAIN)

.PHONY: pardon
pardon: ## let the condemned REVISION=… of ROUTE=… be tried again (REASON=…; REF=…, DRY_RUN=1; or CODE=…)
	@$(TOOLS) pardon $(PROFILED) $(TRAIN)

.PHONY: rollback
rollback: ## send the targets in WAVE=… of ROUTE=… back, and hold the wave (REASON=…; REF=…, DRY_RUN=1; or CODE=…)
	@$(TOOLS) rollback $(PROFILED) $(TRAIN)

.PHONY: redrive
redrive: ## process the messages in the dead-letter queues of ENV=… again
	@$(TOOLS) redrive $(PROFILED)

.PHONY: clean-start
clean-start: ## remove what a failed first deployment left in ENV=… (PROFILE=… of an administrator; WRITE=1: do not ask)
	@$(TOOLS) clean-start $(PROFILED) $(if $(filter 1,$(call given,WRITE)),--write)

.PHONY: upgrade-pipeline
upgrade-pipeline: ## show the change of the V1 pipeline PIPELINE=… of ENV=… to V2 (WRITE=1 makes it; PROFILE=… of an administrator)
	@$(TOOLS) upgrade-pipeline $(PROFILED) $(if $(call given,PIPELINE),--pipeline "$(PIPELINE)") \
		$(if $(filter 1,$(call given,WRITE)),--write)
