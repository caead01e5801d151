"""Builds packages: renders what the warm-up renders, and compiles the blocks for what they got."""

import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from app.config.settings import ConfigError
from app.domain.job.profiles import Profile
from workers.engines.diffusers.engine import DiffusersEngine
from workers.engines.diffusers.flat_calls import FlatCall, Key, NotFlat, flatten, shapes_of
from workers.engines.diffusers.graphs import component, in_one_line, repeated_blocks
from workers.engines.diffusers.packages import (
    Package,
    Packages,
    call_of,
    description,
    digest_of,
    needs,
    plain,
    plain_strides,
    write_manifest,
)
from workers.engines.diffusers.sources import packages_of
from workers.engines.diffusers.table import DiffusersTable
from workers.engines.diffusers.unusable import Unusable

CONFIG = {
    "aot_inductor.package_constants_in_so": False,  # each block brings its own weights
    "cpp.dynamic_threads": True,  # as many as the worker has, not as many as this process
}
OLD = ".old"


def build(
    profile: Profile, table: DiffusersTable, device: torch.device, tell: Callable[[str], None]
) -> Path:
    """Compile the profile's packages, and put them in the place of others; returns the directory.

    `tell` gets a line for each package. Raises ConfigError for a profile that has none, and
    Unusable if something cannot be compiled; the directory is then as it was.
    """
    names = [name for name, kind in table.graphs.items() if kind == "aoti"]
    if not names:
        raise ConfigError(f'{profile.name}: no part in [diffusers.graphs] is "aoti".')
    check_compiler()
    eager = table.model_copy(update={"graphs": {}})
    engine = DiffusersEngine.load(profile, eager, device)
    with recording(engine, names) as calls:
        engine.warm_up()
    for name in names:
        if not any(call.component == name for call in calls.values()):
            raise Unusable(f"graphs: {profile.name} never calls {name!r}, so it cannot be aoti.")
    target = packages_of(profile, table)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        packages = list(_packages(engine, table, list(calls.values()), made, tell))
        write_manifest(Packages(made, needs(engine._pipe, table), tuple(packages)))
        made.chmod(0o755)
        _replace(target, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def check_compiler() -> None:
    """Raises Unusable if there is no C++ compiler. Packages for GPUs need one, too."""
    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError):
        raise Unusable("There is no C++ compiler here: install g++, or set CXX to one.") from None


class Call:
    """A call of a block, and what it got."""

    def __init__(
        self, component: str, block: torch.nn.Module, key: Key, tensors: list[torch.Tensor]
    ):
        self.component, self.block, self.key = component, block, key
        self.tensors = tuple(
            plain(each, plain_strides(each.shape)).detach().clone() for each in tensors
        )


@contextmanager
def recording(engine: DiffusersEngine, names: list[str]) -> Iterator[dict[Any, Call]]:
    """While in this block, note the first call of each kind of block with each key."""
    calls: dict[Any, Call] = {}
    hooks = []

    def note(name: str, block: torch.nn.Module, args: Any, kwargs: Any) -> None:
        try:
            tensors, key = flatten(args, kwargs)
        except NotFlat as error:
            raise Unusable(f"graphs: {name} gets an argument of type {error}.") from None
        kind = (name, type(block).__name__, key)
        if kind not in calls:
            calls[kind] = Call(name, block, key, tensors)

    def hook_for(name: str) -> Callable[..., None]:
        return lambda block, args, kwargs: note(name, block, args, kwargs)

    for name in names:
        for block in repeated_blocks(component(engine._pipe, name)):
            hooks.append(block.register_forward_pre_hook(hook_for(name), with_kwargs=True))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _packages(
    engine: DiffusersEngine,
    table: DiffusersTable,
    calls: list[Call],
    folder: Path,
    tell: Callable[[str], None],
) -> Iterator[Package]:
    """One package for a call; networks that are alike, as two experts are, have it together."""
    known: dict[str, Package] = {}
    for call in calls:
        network = component(engine._pipe, call.component)
        kind = f"{description(network)} {table.dtype_of(call.component)}"
        like = f"{kind} {type(call.block).__name__} {call_of(call.key)}"
        if like not in known:
            known[like] = _compile(call, folder / f"{len(known)}.pt2", tell)
        yield replace(known[like], component=call.component)


def _compile(call: Call, path: Path, tell: Callable[[str], None]) -> Package:
    kind = type(call.block).__name__
    what = f"{call.component}: {kind} for {shapes_of(list(call.tensors))}"
    began = time.monotonic()
    flat = FlatCall(call.block, call.block.forward, call.key)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(flat, call.tensors, strict=False)
            if program.constants:
                raise Unusable(f"graphs: {what} has constants of its own, so it cannot be aoti.")
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=dict(CONFIG)
            )
    except Unusable:
        raise
    except Exception as error:  # exporters and compilers raise anything
        raise Unusable(f"graphs: {what} cannot be compiled: {in_one_line(error)}") from error
    tell(f"{what}: {time.monotonic() - began:.0f} s")
    return Package(call.component, kind, call_of(call.key), path.name, digest_of(path))


def _replace(target: Path, made: Path) -> None:
    """Put a directory in the place of another. Workers that have that one loaded keep it."""
    old = target.with_name(target.name + OLD)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    made.rename(target)
    shutil.rmtree(old, ignore_errors=True)
