"""Document: one text with where it came from and under which licence."""

from __future__ import annotations

from dataclasses import dataclass

DOMAINS = ("biomedical", "clinical", "general")


@dataclass(frozen=True, slots=True)
class Document:
    """One text on its way from a corpus to records.

    Args:
        id: unique within its source (a PMID, a file name, `file:line`).
        text: the text itself.
        source: the name of the source in the gin table.
        domain: one of DOMAINS.
        licence: the licence the source states (an SPDX name where there is one).
    """

    id: str
    text: str
    source: str
    domain: str
    licence: str
