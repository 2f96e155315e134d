"""Licences under the identifiers that the Hugging Face Hub uses in model cards."""

import re

# The Hub's identifiers: https://huggingface.co/docs/hub/repositories-licenses
# Those that software, text and data sets commonly have.
KNOWN = (
    "apache-2.0", "mit", "openrail", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause",
    "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0",
    "isc", "lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by", "odbl", "osl-3.0", "postgresql", "ofl-1.1",
    "ncsa", "unlicense", "zlib", "pddl",
)  # fmt: skip
OTHER, UNKNOWN = "other", "unknown"
# Names that are no identifier in another spelling.
ALIASES = {
    "apache": "apache-2.0",
    "apache-software-license": "apache-2.0",
    "apache-license-2.0": "apache-2.0",
    "bsd-license": "bsd",
    "mit-license": "mit",
    "mozilla-public-license-2.0-(mpl-2.0)": "mpl-2.0",
    "cc0": "cc0-1.0",
    "odc-by-1.0": "odc-by",
    "odbl-1.0": "odbl",
    "the-unlicense": "unlicense",
}


def hub_licence(stated: str | None) -> dict[str, str | list[str]]:
    """The fields of a model card's front matter for a licence, or several separated by commas.

    A licence without an identifier is `other`, with its name; None is `unknown`.
    """
    if stated is None:
        return {"license": UNKNOWN}
    found = [_identifier(part) for part in re.split(r",|;|\bAND\b", stated) if part.strip()]
    known = list(dict.fromkeys(name for name in found if name is not None))
    if not known or None in found:
        return {"license": OTHER, "license_name": stated}
    return {"license": known[0] if len(known) == 1 else known}


def _identifier(stated: str) -> str | None:
    """The Hub's identifier of one licence, however it is spelled; None if it has none."""
    name = re.sub(r"[\s_]+", "-", stated.strip().lower())
    name = re.sub(r"-(only|or-later)$", "", name)
    name = ALIASES.get(name, name)
    return name if name in KNOWN else None
