"""What an explanation found: frozen, and readable as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

__all__ = ["Dependence", "Explanation", "Interaction", "Share", "SliceExplanation", "Stability", "Trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """How the contribution of one input goes with its value.

    Parameters
    ----------
    input : str
        Its name.
    values : tuple of float, str or None
        Its value in each row that is shown; None is missing.
    contributions : tuple of float
        What it contributed there.
    """

    input: str
    values: tuple[float | str | None, ...]
    contributions: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One way to explain the model, measured against the model's own answers before one was chosen.

    Parameters
    ----------
    method : str
        In words.
    rows : int
        Rows that it was tried on.
    failed : int
        Rows where base and contributions do not add up to the model's answer.
    max_error : float or None
        Largest distance; None where it does not work for this model at all.
    ms_per_row : float
        How long it took.
    chosen : bool
        Whether it explains this version.
    problem : str
        Why it does not work at all.
    """

    method: str
    rows: int
    failed: int
    max_error: float | None
    ms_per_row: float = field(compare=False)
    chosen: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """What two inputs do together beyond what each does alone.

    Parameters
    ----------
    inputs : tuple of str
        Two names.
    strength : float
        Mean absolute joint effect, on the explanation's scale.
    """

    inputs: tuple[str, str]
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceExplanation:
    """Why the scores of one part of the cases differ from those of all.

    Parameters
    ----------
    column, level : str
        Which part.
    rows : int
        Explained rows in it.
    difference : float or None
        Its mean answer less that of all rows; None where it has too few rows.
    because : dict of str to float
        The inputs whose mean contribution differs most, by how much; the largest first.
    """

    column: str
    level: str
    rows: int
    difference: float | None
    because: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of rows with its interval (Wilson 1927), 0..1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """How often the top reason of a row changes although nothing of substance did.

    Parameters
    ----------
    rows : int
        The cases with the highest scores: those whom reasons are given to.
    declined : int
        How many of these the model would decline.
    background_share : Share
        Under another background: other rows in the place of those that contributions are compared with.
    twin_share : Share
        Under a twin of the row's strongest input, which the model uses half of the time; grouped as the contract says.
    noise_share : Share
        Under noise in all numbers.
    worst_share : Share
        The largest of these.
    background : str
        Which background was used instead, in words.
    twin_correlation : float
        Rank correlation of an input and its twin.
    twin_apart_share : Share
        As `twin_share`, with the twin as an input of its own.
    noise : float
        Standard deviation of the noise, as a share of the distance from an input's 5th to its 95th percentile.
    """

    rows: int
    declined: int
    background_share: Share
    twin_share: Share
    noise_share: Share
    worst_share: Share
    background: str
    twin_correlation: float
    twin_apart_share: Share
    noise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What moves a model's scores, measured on a sample of rows.

    Parameters
    ----------
    package_digest : str
        The package that was explained.
    method : str
        How, in words.
    scale : str
        ``log-odds`` or ``probability``: what the figures are differences of.
    base : float
        The model's mean answer.
    importance : dict of str to float
        Mean absolute contribution by input, largest first.
    trend : dict of str to float
        Rank correlation of value and contribution, -1..1, of numerical inputs that move the score.
    dependence : tuple of Dependence
        Of the most important inputs; never of personal data.
    rows : int
        Rows explained.
    failed_rows : int
        Rows whose first explanation did not add up to the fitted model's answer and that were explained another way.
    max_error : float
        Largest distance between an explanation and the fitted model's answer, of the explanations that are used.
    tolerance : float
        What is allowed.
    cross_check : float or None
        Largest difference between the chosen way and nbkit's own computation; None where there is only one of them.
    background : str
        What absent inputs are compared with, in words.
    background_digest : str
        Digest of that: of the rows, or of the trees that count their own training rows.
    seed : int
        Draws the sample.
    trials : tuple of Trial
        Every way that was tried, and how far it was off.
    groups : dict of str to float
        Groups of correlated inputs, their names joined by ``+``: mean absolute contribution of the whole group.
    interactions : tuple of Interaction
        The strongest pairs, strongest first.
    slices : tuple of SliceExplanation
        Parts of the cases.
    stability : Stability or None
        The certificate; None when it was not asked for.
    """

    package_digest: str
    method: str
    scale: str
    base: float
    importance: dict[str, float]
    trend: dict[str, float]
    dependence: tuple[Dependence, ...]
    rows: int
    failed_rows: int
    max_error: float
    tolerance: float
    cross_check: float | None
    background: str
    background_digest: str
    seed: int
    trials: tuple[Trial, ...] = ()
    groups: dict[str, float] = field(default_factory=dict)
    interactions: tuple[Interaction, ...] = ()
    slices: tuple[SliceExplanation, ...] = ()
    stability: Stability | None = None

    def to_dict(self) -> Mapping[str, object]:
        """Return the figures for JSON; without the points of the plots.

        Returns
        -------
        mapping
            Every field but ``dependence``.
        """
        found = asdict(self)
        del found["dependence"]
        return found
