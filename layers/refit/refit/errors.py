"""Every error that Refit raises by name, in one tree.

The class names are the error names of the state machine: `ErrorEquals` in
statemachine/retraining.asl.json lists them, and a test holds the two together.
"""


class RefitError(Exception):
    """Base of all; the message says what happened and what to do about it."""


class ConfigError(RefitError):
    """A model.toml, model.py or setting is wrong; the message names file, key and fix."""


class UnknownModel(RefitError):
    """No model of that name is deployed; the message names the known ones."""


class BadMessage(RefitError):
    """An event or request does not have the documented shape."""


class UnreadableFile(RefitError):
    """The bytes of an upload are not a table that Refit can read; `code` is the reason code of the upload."""

    def __init__(self, message: str, code: str = "unreadable", column: str | None = None) -> None:
        super().__init__(message)
        self.code, self.column = code, column


class TrainingError(RefitError):
    """An estimator could not be built, fitted, or asked for predictions."""


class NotEnoughData(RefitError):
    """The frozen inputs are too few rows to fit and to test on rows nobody has seen."""


class ArtifactError(RefitError):
    """A stored model is missing, altered, too large, or holds types outside the allow-list."""


class ModelNotUsable(RefitError):
    """A model loads but does not predict finite values on its probe rows."""


class ChampionMoved(RefitError):
    """The champion changed between evaluation and promotion; the comparison no longer holds."""


class NotApproved(RefitError):
    """A person has to approve this promotion, and none did: not this version, or not against this champion."""


class ApprovalRejected(RefitError):
    """A person said no to the promotion."""


class ApprovalGiven(RefitError):
    """A person's yes came before a repeated attempt to ask; there is nothing to wait for."""


class AwsUnavailable(RefitError):
    """AWS throttled or failed beyond the SDK's own retries; trying again later is right."""


class Conflict(RefitError):
    """Another writer was first; reading again and deciding anew is right."""
