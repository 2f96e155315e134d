"""A stage that has done its work succeeds, whatever the terminal and matplotlib are like."""

from tests.pipeline import Project, stages_run
from tinyllm.common.files import read_json, sha256_of

# As Jupyter and Colab set it for all that is started from them; and an old Windows terminal.
HOSTILE = {
    "PYTHONIOENCODING": "latin-1",
    "LC_ALL": "C",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


def test_a_pipeline_in_a_hostile_terminal_ends_as_any_other(quiet: Project) -> None:
    picture = quiet.root / "reports" / "evaluate" / "comparison.png"
    before = sha256_of(picture)
    prompts = ["你好 ", "a\0b", "🏃"]
    quiet.set({"evaluate.prompts": prompts})
    (quiet.root / "matplotlibrc").write_text("savefig.dpi: 7\nfont.size: 40\nbackend: TkAgg\n")
    done = Project(quiet.root, {**quiet.environment, **HOSTILE}).dvc("repro")
    assert stages_run(done.stdout) == ["evaluate"]
    samples = (quiet.root / "reports" / "evaluate" / "samples.md").read_text(encoding="utf-8")
    assert all(prompt in samples for prompt in prompts)
    assert "\\u4f60\\u597d" in done.stdout
    assert sha256_of(picture) == before
    assert read_json(quiet.root / "reports" / "evaluate" / "scores.json")["test"]["tokens"]
