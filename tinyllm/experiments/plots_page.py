"""`tinyllm vega`: the page of `dvc plots` with Vega in it, so that it needs no network."""

from collections.abc import Callable

PAGE = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<title>Plots</title>
<script>{vega}</script>
</head>
<body>
{{plot_divs}}
</body>
</html>"""


def template() -> str:
    """Return an HTML template of DVC that contains Vega, Vega-Lite and vega-embed (0.9 MB).

    Raises:
        ValueError: vl-convert-python, which contains them, is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise ValueError(
            "vl-convert-python is not installed; run `pip install vl-convert-python`"
        ) from None
    bundle: Callable[..., str] = vl_convert.javascript_bundle  # its stub demands a snippet
    return PAGE.format(vega=bundle().replace("</script", "<\\/script"))
