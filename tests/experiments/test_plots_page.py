"""`tinyllm vega` prints a template with which DVC's page of plots needs no network."""

import sys

import pytest

from tinyllm.experiments.plots_page import template


@pytest.mark.ecosystem
def test_the_template_has_a_place_for_plots_and_loads_nothing() -> None:
    pytest.importorskip("vl_convert", reason="needs vl-convert-python")
    page = template()
    assert "\n{plot_divs}\n" in page and "{scripts}" not in page
    assert "window.vegaEmbed=" in page and "src=" not in page.partition("<script>")[0]
    assert page.count("</script") == 1 and len(page) < 1_000_000


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ValueError, match="pip install vl-convert-python"):
        template()
