"""What can go wrong in the pipeline. The worker maps these to its own error tree."""


class PipelineError(Exception):
    """Root of every error that the pipeline raises on purpose."""


class CheckpointError(PipelineError):
    """The model directory cannot be used; the message names the file and, if known, the key."""


class NumericalError(PipelineError):
    """A denoising step produced values that are not finite. Rendering again will not help."""


class OutOfMemory(PipelineError):
    """The device had no memory left. Another worker, or this one later, may succeed."""
