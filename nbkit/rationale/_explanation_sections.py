"""The chapters on what moves the scores, and on how far that explanation can be trusted."""

from __future__ import annotations

from nbkit.rationale._blocks import Block, Figure, Paragraph, Section, Table
from nbkit.rationale._explanation import Explanation, Share, SliceExplanation, Stability
from nbkit.rationale._facts import figure, percent, size
from nbkit.rationale._figures import dependence_figure, importance_figure
from nbkit.rationale._source import Source

# Below this share of the largest importance a joint effect is not worth a word.
_FAINT = 0.05
_MOST_SLICES = 24


def explanation(source: Source) -> Section:
    """Show what moves the score: inputs, values, pairs of inputs, parts of the cases."""
    found = source.explanation
    blocks: list[Block] = [
        Figure(
            pictures=(importance_figure(found.importance, scale=found.scale),),
            caption=f"Mean absolute contribution of each input over {figure(found.rows)} cases",
        )
    ]
    if found.dependence:
        pictures = tuple(dependence_figure(one, scale=found.scale) for one in found.dependence)
        caption = (
            f"Contribution ({found.scale}) by value, for the most important inputs. Orange pushes towards"
            f" '{source.contract.target.meaning}', blue away from it; the outer 2 % of values lie on the edges."
        )
        blocks.append(Figure(pictures=pictures, caption=caption))
    blocks += _interactions(found)
    if found.slices:
        blocks.append(_slices(found))
    return Section(name="explanation", title="What moves the score", blocks=tuple(blocks))


def trust(source: Source) -> Section:
    """Show how the explanation was chosen and checked, and how stable top reasons are."""
    found = source.explanation
    cross = found.cross_check
    agree = "" if cross is None else f" Two independent computations of it agree to {size(cross)}."
    again = (
        "None needed another computation."
        if not found.failed_rows
        else f"In {found.failed_rows} of them the first computation did not, and another took its place."
    )
    checked = (
        f"In every one of the {figure(found.rows)} explained rows, base and contributions add up to the fitted model's"
        f" own {found.scale} within {size(found.max_error)} (allowed {size(found.tolerance)}). {again}{agree} One-hot"
        f" columns are added back to their input. Contributions are compared with {found.background} (digest"
        f" {found.background_digest[:19]}…); seed {found.seed}."
    )
    blocks: list[Block] = [Paragraph(text=f"Method: {found.method}."), Paragraph(text=checked)]
    if len(found.trials) > 1:
        blocks.append(_trials(found))
    blocks += _certificate(source, found.stability)
    return Section(name="trust", title="How far the explanation can be trusted", blocks=tuple(blocks))


def _interactions(found: Explanation) -> list[Block]:
    largest = max(found.importance.values(), default=0.0)
    worth = [pair for pair in found.interactions if pair.strength >= _FAINT * largest]
    if not worth:
        words = "No two of the most important inputs do together much that they do not do alone."
        return [Paragraph(text=words)]
    rows = tuple(
        (" and ".join(pair.inputs), figure(pair.strength), percent(pair.strength / largest, digits=0)) for pair in worth
    )
    return [
        Table(
            columns=("Pair", f"Joint effect ({found.scale})", "Of the largest input"),
            rows=rows,
            caption=(
                "What two inputs do together beyond what each does alone: mean absolute Shapley interaction of the most"
                " important inputs"
            ),
            figures=frozenset({1, 2}),
        )
    ]


def _slices(found: Explanation) -> Table:
    rows = tuple((f"{one.column}: {one.level}", str(one.rows), *_because(one)) for one in found.slices[:_MOST_SLICES])
    more = len(found.slices) - _MOST_SLICES
    return Table(
        columns=("Slice", "Rows", "Against all", "Mostly because of"),
        rows=rows,
        wide=True,
        caption=(
            f"Why scores of a part of the cases differ: its mean {found.scale} less that of all explained rows, and the"
            f" inputs that make the difference{f'; {more} more slices are in rationale.json' if more > 0 else ''}"
        ),
        figures=frozenset({1, 2}),
    )


def _because(one: SliceExplanation) -> tuple[str, str]:
    if one.difference is None:
        return "", "too few rows to tell"
    return _signed(one.difference), ", ".join(f"{name} {_signed(value)}" for name, value in one.because.items())


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{abs(value):.2f}"


def _trials(found: Explanation) -> Table:
    rows = tuple(
        (
            f"{trial.method}{' (chosen)' if trial.chosen else ''}",
            f"{trial.failed} of {trial.rows}",
            trial.problem or ("not a number" if trial.max_error is None else size(trial.max_error)),
            "" if trial.problem else f"{trial.ms_per_row:.1f}",
        )
        for trial in found.trials
    )
    return Table(
        columns=("Tried", "Rows that fail", "Largest error", "ms a row"),
        rows=rows,
        caption=(
            "Ways to explain this model, measured against its own answers. The first one that holds in every row was"
            " chosen; the others that hold take over where it fails"
        ),
        figures=frozenset({1, 2, 3}),
    )


def _certificate(source: Source, found: Stability | None) -> list[Block]:
    if found is None:
        return [Paragraph(text="No stability certificate was measured for this version.")]
    words = (
        f"Stability certificate. For the {found.rows} cases with the highest scores ({found.declined} of them would be"
        " declined), how often the top reason becomes another one although nothing of substance changed. Inputs with"
        " the same reason code, and inputs of one correlated group, count as one reason."
    )
    rows = (
        (f"Another background: {found.background}", *_share(found.background_share)),
        (f"A twin of the top input (rank correlation {found.twin_correlation:.2f})", *_share(found.twin_share)),
        (f"Noise of {percent(found.noise, digits=0)} of each number's range", *_share(found.noise_share)),
        ("The same twin, were it reported as an input of its own", *_share(found.twin_apart_share)),
    )
    table = Table(
        columns=("Change", "Top reason changes", "Interval"),
        rows=rows,
        caption=(
            f"With {source.confidence} intervals (Wilson). A twin is a copy that is not exact; the model is taken to"
            " use it half of the time. Range: from an input's 5th to its 95th percentile"
        ),
        figures=frozenset({1, 2}),
    )
    return [Paragraph(text=words), table]


def _share(share: Share) -> tuple[str, str]:
    return percent(share.value), f"{percent(share.low)} to {percent(share.high)}"
