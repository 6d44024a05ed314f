# What is done with this repository. `make` alone lists it.
#
# Targets that say "check" never edit a file; `fix` does.

PROFILE ?= cluster
NODE ?=
ARGS ?=
CUTS ?= 20
PEERS ?= etcd,postgres
ROUNDS ?= 5
SECONDS ?= 5
OUT ?= target/bench.jsonl

.DEFAULT_GOAL := help
.PHONY: help build test verify fix chaos power-cut bench endurance followers instructions instructions-record \
	openapi-check examples-check \
	cluster-up cluster-down cluster-reset cluster-status node-kill node-up

help:
	@echo "make cluster-up [PROFILE=cluster|seed]  build, start nodes and facade, load the catalog"
	@echo "make cluster-status                     the processes and the members"
	@echo "make cluster-down                       stop all; the data stays"
	@echo "make cluster-reset                      stop all and delete the data"
	@echo "make node-kill NODE=node2               SIGKILL one process (NODE=leader: whoever leads)"
	@echo "make node-up NODE=node2                 start it again"
	@echo "make build                              the release binary"
	@echo "make test                               all tests"
	@echo "make verify                             check format, lints, documents, tests; edits nothing"
	@echo "make fix                                format and apply the lints' suggestions"
	@echo "make instructions                       count instructions under valgrind, against the recorded"
	@echo "make instructions-record                record what is counted now"
	@echo "make openapi-check                      hold the interface against its OpenAPI document"
	@echo "make examples-check                     run the documents' requests and compare the replies"
	@echo "make power-cut [CUTS=20]                cut the power of real file systems under load; as root"
	@echo "make chaos [ARGS='--seconds 60']        kill nodes under load and check what is left"
	@echo "make bench [PEERS=etcd,postgres] [ROUNDS=5] [SECONDS=5] [OUT=target/bench.jsonl]"
	@echo "                                        how fast it is, beside others; see docs/PERFORMANCE.md"
	@echo "make endurance                          ten million orders, backups meanwhile, and a follower that was"
	@echo "                                        away; deletes this checkout's data"
	@echo "make followers                          what a thousand live feeds cost writers; deletes it, too"

build:
	cargo build --release

test:
	cargo test --workspace

verify:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package pygmy --all-targets --features sabotage -- -D warnings
	cargo clippy --package pygmy-peers --all-targets --features peers -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cargo test --workspace

fix:
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

chaos:
	tests/chaos.sh $(ARGS)

power-cut:
	PYGMY_POWER_CUTS=$(CUTS) cargo test --test power_cut -- --nocapture

instructions:
	scripts/instructions.sh check

instructions-record:
	scripts/instructions.sh record

openapi-check:
	scripts/openapi-check.sh

examples-check:
	scripts/examples-check.sh

bench:
	scripts/bench.sh $(if $(PEERS),--peers $(PEERS)) --rounds $(ROUNDS) --seconds $(SECONDS) \
		--out $(OUT) --document docs/PERFORMANCE.md $(ARGS)

endurance:
	scripts/endurance.sh

followers:
	scripts/followers.sh

cluster-up:
	@scripts/cluster.sh up $(PROFILE)

cluster-down:
	@scripts/cluster.sh down

cluster-reset:
	@scripts/cluster.sh reset

cluster-status:
	@scripts/cluster.sh status

node-kill:
	@scripts/cluster.sh kill $(NODE)

node-up:
	@scripts/cluster.sh start $(NODE)
