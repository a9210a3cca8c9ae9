"""The reference page has every key, default and gate of the contract."""

import re
from pathlib import Path

import pytest

import nbkit.contract
from nbkit.contract import Contract, Outcome, Stage, contract_schema
from nbkit.contract._descriptions import DESCRIPTIONS

DOCS = Path(__file__).parents[3] / "docs"
SECTIONS = {
    "Contract": "Top level",
    "Owner": "`owner`",
    "Target": "`target`",
    "Input": "`inputs`",
    "Protected": "`protected`",
    "DecisionBlock": "`decision`",
    "Thresholds": "`decision`",
    "Costs": "`decision`",
    "CostRow": "`decision`",
    "Serve": "`serve`",
    "Evaluate": "`evaluate`",
    "GateSpec": "`gates`",
    "Data": "`data`",
    "Explain": "`explain`",
    "Fairness": "`fairness`",
    "Monitor": "`monitor`",
    "Rollout": "`rollout`",
    "Guardrails": "`rollout`",
    "Review": "`review`",
    "Retrain": "`retrain`",
    "Audit": "`audit`",
    "Budget": "`budget`",
    "Notice": "`notice`",
    "Bureau": "`notice`",
}


def sections() -> dict[str, str]:
    text = (DOCS / "reference" / "contract.md").read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks() -> dict[str, dict[str, object]]:
    schema = contract_schema()
    found = {"Contract": schema} | schema["$defs"]  # type: ignore[operator]
    return {name: block["properties"] for name, block in found.items() if "properties" in block}


def test_every_block_has_a_section() -> None:
    assert set(blocks()) == set(SECTIONS)
    assert set(SECTIONS.values()) <= set(sections())


@pytest.mark.parametrize("block", SECTIONS)
def test_every_key_of_a_block_is_in_its_section(block: str) -> None:
    section = sections()[SECTIONS[block]]
    assert [key for key in blocks()[block] if f"`{key}`" not in section] == []


@pytest.mark.parametrize("block", sorted(set(SECTIONS) - {"Contract", "CostRow"}))
def test_every_plain_default_is_in_its_row(block: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", sections()[SECTIONS[block]], flags=re.MULTILINE))
    words = {False: "`false`", "": "empty"}
    for key, schema in blocks()[block].items():
        default = schema.get("default")  # type: ignore[attr-defined]
        if default is None or isinstance(default, list | dict):
            continue
        text = f"{default:g}" if isinstance(default, float) else str(default)
        assert rows[key] == words.get(default, f"`{text}`"), key


def test_descriptions_name_only_keys_that_exist() -> None:
    assert {block for block in DESCRIPTIONS if set(DESCRIPTIONS[block]) - set(blocks()[block])} == set()


def test_the_python_part_names_what_is_exported() -> None:
    section = sections()["In Python"]
    functions = [name for name in nbkit.contract.__all__ if name[0].islower()]
    assert [name for name in functions if f"`{name}(" not in section] == []
    assert all(hasattr(nbkit.contract, name) for name in nbkit.contract.__all__)


def test_the_glossary_has_every_stage_outcome_and_block() -> None:
    glossary = (DOCS / "glossary.md").read_text()
    wanted = [*(str(word) for word in (*Stage, *Outcome)), *Contract.model_fields]
    missing = [word for word in wanted if not re.search(rf"\b{word.replace('_', '.')}", glossary, flags=re.IGNORECASE)]
    assert missing == []
