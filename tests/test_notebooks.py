"""The notebooks, run from the first cell to the last as Colab would run them, in this environment's kernel."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from melama_jax.files import read_jsonl

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LIMIT = 300  # seconds a cell may take on a machine that does much else


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder that everything goes to; `!melama` finds this environment's command."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # not a kernel of the user's that has the same name
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    return tmp_path


def executed(name: str, folder: Path, before: str = "") -> dict[str, str]:
    """What each cell of a notebook printed, by cell id; an error in a cell is an error here.

    Args:
        name: the file's, without .ipynb.
        folder: where the kernel starts.
        before: code to run first.
    """
    (path,) = (path for path in NOTEBOOKS if path.stem == name)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(before, id="before"))
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=LIMIT, kernel_name="python3", resources=resources).execute()
    return {
        cell.id: "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def held_out(run: Path) -> dict[str, float]:
    """The last held-out losses of a run, by domain."""
    losses = {}
    for _, row in read_jsonl(run / "metrics.jsonl"):
        losses |= {key.rpartition("/")[2]: value for key, value in row.items() if key.startswith("heldout")}
    return losses


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.id


@pytest.mark.slow
def test_first_steps(here):
    printed = executed("first_steps", here)
    (work,) = here.glob("first_steps_*")
    base, pretrained = held_out(work / "runs" / "base"), held_out(work / "runs" / "pretrained")
    assert base["biomedical"] - pretrained["biomedical"] > 0.5, "reading medical text must show"
    assert "75.00" in printed["build"] and "epochs" in printed["build"]
    question, answer = printed["tuning-data"].split("[trained]")
    assert "Human:" in question and answer.strip().endswith("⟨end of text⟩[/trained]")
    assert printed["likely"].count("(the truth)") == 1 and printed["likely"].count(" tokens ") == 8
    assert (work / "export" / "model.safetensors").is_file() and (work / "report.html").is_file()


@pytest.mark.slow
def test_plan_a_pod(here):
    pytest.importorskip("libtpu", reason="needs the TPU compiler: pip install 'melama-jax[tpu]'")
    printed = executed("plan_a_pod", here)
    (work,) = here.glob("plan_a_pod_*")
    plan = json.loads((work / "plan.json").read_text())
    assert plan["fits"] and plan["peak_bytes_per_chip"] == sum(plan["memory"].values())
    assert "fits: " in printed["plan"] and "8 chips" in printed["read"]
    assert "does not fit" in printed["too-large"] and "exit code 1" in printed["too-large"]
    assert "tpu/requeue.sh gs://my-bucket/launches/me-llama-7b/status me-llama-7b" in printed["launch"]
    assert "sky jobs launch" in printed["skypilot"]


def test_plan_a_pod_without_the_compiler(here):
    printed = executed("plan_a_pod", here, "import sys\nsys.modules['libtpu'] = None")
    assert "SKIPPED" in printed["install"] and "pip install" in printed["install"]
    assert not any(printed[cell] for cell in ("plan", "read", "too-large"))
    assert "tpu/requeue.sh" in printed["launch"]
