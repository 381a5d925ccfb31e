import json
import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    code = f"import sys, json; before = set(sys.modules); {statement}; print(json.dumps(sorted(set(sys.modules) - before)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return {name.split(".")[0] for name in json.loads(result.stdout)}


def test_import_loads_the_standard_library_only():
    assert modules_after("import leanrag") <= {"leanrag", *sys.stdlib_module_names}


def test_types_and_errors_load_the_standard_library_only():
    assert modules_after("from leanrag import Document, Answer, BudgetError") <= {"leanrag", *sys.stdlib_module_names}


def test_the_command_line_answers_help_without_heavy_modules():
    loaded = modules_after("import leanrag.cli.main")
    assert loaded <= {"leanrag", *sys.stdlib_module_names}


@pytest.mark.slow
def test_pipeline_does_not_load_torch_or_llama():
    assert not modules_after("import leanrag.pipeline.opening") & {
        "torch",
        "transformers",
        "llama_cpp",
        "sentence_transformers",
        "faiss",
    }
