"""The pipeline's errors. The motion engine translates them to the service's error tree."""


class PipelineError(Exception):
    """Base of every error that the pipeline raises on purpose."""


class CheckpointError(PipelineError):
    """The model directory cannot be used; the message names the file and, if known, the key."""


class NumericalError(PipelineError):
    """A denoising step produced values that are not finite. Rendering again will not help."""


class OutOfMemory(PipelineError):
    """The device ran out of memory. Another worker, or this one later, may succeed."""


class MatteError(PipelineError):
    """The matte model cannot be used; the message is for the operator."""
