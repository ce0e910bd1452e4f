"""Models as bytes: written and read with skops, never with pickle.

Reading trusts a fixed list of types. What a file says of itself decides nothing.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import Any

from refit.errors import ArtifactError

MAX_BYTES = 512 << 20
MAX_UNPACKED_BYTES = 2 << 30
# Types beyond those that skops trusts by itself. Each only holds data, but for
# partial and check_array: boosting with categories keeps a partial of check_array,
# and what a partial holds must be on a list, too. A forged tree can crash the
# process that predicts with it, not make it do something else.
ALLOWED_TYPES = (
    "functools.partial",
    "numpy.dtype",
    "refit.transfer.WithChampion",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer._RemainderColsList",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)


def dump(estimator: Any) -> tuple[bytes, str]:
    """Bytes and SHA-256 of a fitted estimator.

    Raises
    ------
    ArtifactError
        When the estimator holds types that reading would refuse; they are named.
    """
    import skops.io

    try:
        data = skops.io.dumps(estimator)
    except Exception as error:
        raise ArtifactError(f"skops cannot write this estimator: {error}") from error
    sha256 = digest(data)
    load(data, sha256)
    return data, sha256


def digest(data: bytes) -> str:
    """SHA-256, by which artifacts are named."""
    return hashlib.sha256(data).hexdigest()


def load(data: bytes, sha256: str) -> Any:
    """Read an estimator after its hash, sizes and types have been checked.

    Raises
    ------
    ArtifactError
        Naming what is wrong: altered bytes, too large, or types outside `ALLOWED_TYPES`.
    """
    import skops.io

    found = digest(data)
    if found != sha256:
        raise ArtifactError(
            f"the artifact's SHA-256 is {found[:12]}..., recorded is {sha256[:12]}...; restore it"
        )
    check_sizes(data)
    try:
        refused = sorted(set(skops.io.get_untrusted_types(data=data)) - set(ALLOWED_TYPES))
        if refused:
            raise ArtifactError(
                f"the model holds types that are not allowed: {', '.join(refused)}; "
                "docs/models.md says under model.py which are"
            )
        return skops.io.loads(data, trusted=list(ALLOWED_TYPES))
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(f"the artifact cannot be read: {type(error).__name__}: {error}") from error


def check_sizes(data: bytes) -> None:
    """Refuse what would unpack beyond the limits: skops itself does not look."""
    if len(data) > MAX_BYTES:
        raise ArtifactError(f"the artifact has {len(data)} bytes, at most {MAX_BYTES} are allowed")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except Exception as error:  # a directory can be broken in more ways than BadZipFile
        raise ArtifactError(f"the artifact is no skops file: {error}; write it with skops.io.dump") from error
    if unpacked > MAX_UNPACKED_BYTES:
        raise ArtifactError(
            f"the artifact unpacks to {unpacked} bytes, at most {MAX_UNPACKED_BYTES} are allowed"
        )
