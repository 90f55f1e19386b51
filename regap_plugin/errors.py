"""The errors of the plugin. Each message names the object, what was expected, found, and a remedy.

Bad input raises `ValueError`; these are for the cases where a run would go on without what its
user asked for.
"""


class ReGapError(RuntimeError):
    """A run that asked for ReGap cannot go on as asked."""


class UpstreamShapeError(ReGapError):
    """An upstream does not have the method or the parameters that its patch was written for."""


class InactiveRegularizerError(ReGapError):
    """A run that asked for ReGap trained, or would train, without it."""


class NonFiniteGapError(ReGapError):
    """The gap, or another loss term, or alpha, is not a finite number."""


class ResumeError(ReGapError):
    """A checkpoint's ReGap state is missing, unreadable, or of other settings."""
