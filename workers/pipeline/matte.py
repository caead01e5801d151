"""Mattes: how much of each pixel of a picture its subject covers.

The packaged model is U2-Net-p (Qin et al. 2020, arXiv:2005.09007; Apache-2.0).
"""

from typing import Protocol

import cv2
import numpy as np
import onnxruntime
import torch
from PIL import Image

from workers.pipeline.errors import MatteError
from workers.pipeline.matte_file import NONE, PACKAGED, MatteFile, find_matte

# Of the pictures that the models were trained with.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CENTRED = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))  # IS-Net and RMBG
_USUAL_SIDE = 320  # of a model that takes any size


class MatteModel(Protocol):
    """Finds the subject of a picture."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """The share of each pixel that belongs to the subject, of (H, W, 3) uint8.

        (h, w) float32 in [0, 1], at the model's own size.
        """


def load_matte(name: str = PACKAGED) -> MatteModel | None:
    """Load a matte model: the packaged one, one of rembg's by its name, or an ONNX file.

    A file may be followed by "#sha256=" and its digest, which is then checked. None for "none",
    and for the packaged model where it is not installed (its wheel needs Python below 3.13).
    Raises MatteError.
    """
    file = find_matte(name)
    if file is not None:
        return OnnxMatte(file)
    return None if name in (NONE, PACKAGED) else RembgMatte(name)


class OnnxMatte:
    """An ONNX file of the kind that rembg uses: one picture in, its matte out."""

    def __init__(self, matte: MatteFile):
        """Raises MatteError if it is no such model."""
        file = matte.path
        try:
            self._session = onnxruntime.InferenceSession(
                matte.content,
                _options(keep=file.stem == PACKAGED),
                providers=["CPUExecutionProvider"],
            )
            [self._input] = self._session.get_inputs()
            _, channels, height, width = self._input.shape
        except Exception as error:  # it has a tree of errors of its own, and protobuf's
            raise MatteError(f"The matte model {file} is not an ONNX model of mattes.") from error
        if channels != 3:
            raise MatteError(f"The matte model {file} does not take pictures of three colours.")
        self._size = tuple(
            side if isinstance(side, int) else _USUAL_SIDE for side in (width, height)
        )
        centred = file.stem.startswith(("isnet", "bria"))
        self._mean, self._std = _CENTRED if centred else _IMAGENET

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        # Averages areas where it shrinks, as the training pictures were made.
        shrinks = pixels.shape[0] > self._size[1] or pixels.shape[1] > self._size[0]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        small = cv2.resize(pixels, self._size, interpolation=how).astype(np.float32)
        small /= max(float(small.max()), 1.0)
        normal = (small - np.array(self._mean, np.float32)) / np.array(self._std, np.float32)
        feed = {self._input.name: np.ascontiguousarray(normal.transpose(2, 0, 1))[None]}
        first = self._session.get_outputs()[0].name
        matte: np.ndarray = np.asarray(self._session.run([first], feed)[0], np.float32)
        matte = matte.reshape(-1, *matte.shape[-2:])[0]
        if matte.min() < -0.01 or matte.max() > 1.01:  # some models leave out the last step
            matte = 1 / (1 + np.exp(-matte))
        clipped: np.ndarray = np.clip(matte, 0, 1)
        return clipped


class RembgMatte:
    """One of rembg's models, by its name. rembg downloads it once and checks its digest."""

    def __init__(self, name: str):
        """Raises MatteError."""
        try:
            # Not rembg's `new_session`: of that module, the packaged model's wheel has its own.
            from rembg.sessions import sessions
        except ImportError as error:
            raise MatteError(f"MATTE_MODEL={name!r} needs the package rembg.") from error
        if name not in sessions or not sessions[name].is_local():
            raise MatteError(f"MATTE_MODEL={name!r} is not a model of rembg that runs here.")
        try:
            self._session = sessions[name](name, _options(keep=False))
        except Exception as error:  # a download, a file, a model: anything may fail there
            raise MatteError(f"rembg cannot load the matte model {name!r}: {error}") from error

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        [mask, *_] = self._session.predict(Image.fromarray(pixels))
        return np.asarray(mask, np.float32) / 255


def _options(*, keep: bool) -> onnxruntime.SessionOptions:
    """keep: the memory that one picture took, for the next one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # A thread that waits by spinning would take a core from the denoiser.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Fresh memory costs a quarter of the packaged model's time in page faults. Others may need
    # gigabytes, beside what filling the background takes next (decision 110).
    options.enable_cpu_mem_arena = keep
    # One block for a whole run would make the arena keep much more than the model needs.
    options.enable_mem_pattern = not keep
    options.log_severity_level = 3
    return options
