SHELL := /bin/bash

.PHONY: api help pytest pytest-all pytest-gpu mutants sb3-tests type lint format check-codestyle commit-checks

help:
	@echo "pytest           run the tests (pytest-all: the slow ones too)"
	@echo "pytest-gpu       run the tests that need a GPU of NVIDIA"
	@echo "mutants          put mistakes into a copy of the package, and see whether the tests notice"
	@echo "sb3-tests        run the tests of DQN and QRDQN from SB3 and sb3-contrib (downloads them)"
	@echo "type             check the types"
	@echo "lint             look for mistakes and style errors"
	@echo "format           reformat the code and sort the imports"
	@echo "check-codestyle  tell whether 'format' would change anything"
	@echo "api              write the API reference, HTML, to the folder api"
	@echo "commit-checks    format, type and lint: what to run before a commit"

pytest:
	python -m pytest

pytest-all:
	python -m pytest -m "not gpu"

pytest-gpu:
	python -m pytest -m gpu

mutants:
	python tests/mutants/run.py

sb3-tests:
	bash .ci/sb3-tests

type:
	python -m mypy

lint:
	python -m ruff check

format:
	python -m ruff check --select I --fix
	python -m ruff format

check-codestyle:
	python -m ruff check --select I
	python -m ruff format --check

# The packages whose names are public
api:
	python -m pdoc --docformat restructuredtext --no-show-source --template-directory .ci/pdoc --output-directory api sb3_lecture_dqn sb3_lecture_dqn.study sb3_lecture_dqn.zoo

commit-checks: format type lint
