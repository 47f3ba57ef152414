"""What Hanlin knows about models and weights: rows of TOML, read once at start, immutable after.

What answers a name here is the operator's mapping and belongs to `routing` and `service`.
"""

from hanlin.catalogue.choose import Recommendation, choose
from hanlin.catalogue.loading import load
from hanlin.catalogue.models import (
    CHAT,
    Catalogue,
    Family,
    Lifecycle,
    Model,
    Need,
    PriceTier,
    SamplingDefaults,
    SamplingGroup,
)
from hanlin.catalogue.weights import Hub, Repositories, Source, Weights, WeightsCatalogue, load_weights

__all__ = [
    "CHAT",
    "Catalogue",
    "Family",
    "Hub",
    "Lifecycle",
    "Model",
    "Need",
    "PriceTier",
    "Recommendation",
    "Repositories",
    "SamplingDefaults",
    "SamplingGroup",
    "Source",
    "Weights",
    "WeightsCatalogue",
    "choose",
    "load",
    "load_weights",
]
