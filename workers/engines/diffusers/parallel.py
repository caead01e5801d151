"""Which way a pipeline's networks are shared out, if a profile wants several GPUs for one clip."""

from typing import Any

import torch

from app.domain.job.profiles import Profile
from workers.engines.diffusers import frame_shards, guidance, row_shards, sequence
from workers.engines.diffusers.frame_shards import FrameShards
from workers.engines.diffusers.guidance import GuidanceShares
from workers.engines.diffusers.members import Member
from workers.engines.diffusers.row_shards import RowShards
from workers.engines.diffusers.table import DiffusersTable, Parallel
from workers.engines.diffusers.unusable import Unusable


def check(profile: Profile, table: DiffusersTable, pipe: Any) -> None:
    """Raises Unusable for a pipeline that cannot be shared out as the profile says."""
    wanted = table.parallel
    if wanted.gpus == 1:
        return
    name = type(pipe).__name__
    if table.offload:
        raise Unusable("parallel: not with offload = true; more GPUs have more memory.")
    if wanted.guidance:
        _check_guidance(profile, wanted, pipe)
    if frame_shards.fits(pipe):
        if profile.min_frames < wanted.gpus:
            raise Unusable(
                f"parallel: {profile.min_frames} frames are not enough for {wanted.gpus}."
            )
        return
    if wanted.vae == "sharded":
        if not row_shards.fits(pipe):
            raise Unusable(f"parallel: the VAE of {name} cannot be shared out.")
        row_shards.check(profile, pipe, wanted.gpus)
    if wanted.each > 1:
        if not sequence.fits(pipe):
            raise Unusable(f"parallel: {name} cannot be shared out.")
        sequence.check(profile, pipe, wanted.each)


def _check_guidance(profile: Profile, wanted: Parallel, pipe: Any) -> None:
    name = type(pipe).__name__
    if not guidance.fits(pipe):
        raise Unusable(f"parallel: the passes of {name} cannot be shared out.")
    if profile.passes != guidance.PASSES or wanted.gpus % guidance.PASSES:
        raise Unusable(
            f"parallel: guidance is for an even number of GPUs and 2 passes, not for {wanted.gpus}"
            f" and {profile.passes}."
        )
    if wanted.each > 1 and not guidance.shares_each(pipe):
        raise Unusable(f"parallel: guidance of {name} is for 2 GPUs, not for {wanted.gpus}.")


def check_devices(table: DiffusersTable) -> None:
    """Raises Unusable if there are fewer GPUs than the profile wants. CPUs are always enough."""
    if not torch.cuda.is_available():
        return
    if (found := torch.cuda.device_count()) < table.parallel.gpus:
        raise Unusable(f"parallel: wants {table.parallel.gpus} GPUs, but there are {found}.")


class Shares:
    """A pipeline whose networks are shared out; it stays so when the group is formed anew."""

    def __init__(self, pipe: Any, table: DiffusersTable, member: Member):
        self._configs: list[Any] = []
        self._guidance: GuidanceShares | None = None
        frames = FrameShards(member) if frame_shards.fits(pipe) else None
        if member.each > 1:
            if frames is not None:
                frames.share_out_unet(pipe.unet)
            else:
                self._configs = sequence.share_out(pipe, member)
        if table.parallel.guidance:  # around what is shared out already
            self._guidance = GuidanceShares(pipe, member)
        if table.parallel.vae == "sharded":
            if frames is not None:
                frames.share_out_decoder(pipe.vae.decoder)
            else:
                RowShards(pipe.vae, member)

    def rejoin(self, member: Member) -> None:
        """Use the group that `member` is in now."""
        sequence.rejoin(self._configs, member)
        if self._guidance is not None:
            self._guidance.rejoin()
