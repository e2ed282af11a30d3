from .._question import Measurement, Question
from .batch import BATCH
from .cheapening import CHEAPENING
from .cost import COST
from .distance import DISTANCE
from .edges import EDGES
from .guards import GUARDS
from .heldout import HELDOUT
from .layers import LAYERWISE
from .memory import MEMORY
from .noiseless import NOISELESS
from .radial import RADIAL
from .recipe import RECIPE
from .regimes import REGIMES
from .relatives import RELATIVES
from .rivals import RIVALS
from .scale import SCALE


QUESTIONS: dict[str, Question | Measurement] = {
    question.name: question
    for question in (
        COST,
        SCALE,
        REGIMES,
        RIVALS,
        HELDOUT,
        LAYERWISE,
        DISTANCE,
        RADIAL,
        GUARDS,
        BATCH,
        CHEAPENING,
        MEMORY,
        EDGES,
        NOISELESS,
        RECIPE,
        RELATIVES,
    )
}
