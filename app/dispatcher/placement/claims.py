"""Claims on idle workers for the jobs of one round, and which of those jobs get them."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import redis
import structlog

from app.broker.claims import Claims
from app.broker.connections import RegionRedis
from app.config.settings import Settings
from app.dispatcher.placement.memory import Memory
from app.dispatcher.placement.plan import Route
from app.dispatcher.placement.probes import Probes
from app.domain.routing.pacing import RetryBudget
from app.domain.routing.topology import Pool
from app.metrics import refused_probes
from app.store.job.placing import Offer

log = structlog.get_logger(__name__)

SLACK_S = 0.5  # far more than lies between a claim in Redis and what is concluded from it here


@dataclass
class Grant:
    """Claims on `pool`, and the routes that asked for them.

    After the first `len(tokens)` routes come stand-ins, in case other dispatchers took some of the
    first. `reason` is for those left out.
    """

    pool: Pool
    tokens: list[str]
    routes: list[Route]
    reason: str

    @property
    def filled(self) -> int:
        """How many of the claims have a job."""
        return min(len(self.tokens), len(self.routes))

    def offers(self) -> list[Offer]:
        return [route.offer() for route in self.routes]


class Claimer:
    """Asks the regions' Redis for workers, with waits of at most `claim_timeout_s` each."""

    def __init__(
        self,
        config: Settings,
        probes: Probes,
        memory: Memory,
        *,
        clock: Callable[[], float],
    ):
        self._config = config
        self._probes = probes
        self._memory = memory
        self._clock = clock
        regions = RegionRedis(config, timeout_s=config.claim_timeout_s)
        self._claims = {name: Claims(regions.of(name)) for name in config.topology.names}
        self._budgets = {
            name: RetryBudget(config.retry_ratio, config.retry_floor)
            for name in config.topology.names
        }

    def claim(self, routes: Sequence[Route], caps: Mapping[str, int]) -> list[Grant]:
        """Ask every pool once, for as many workers as jobs ask it.

        `caps`: the most workers that may be busy, by region. Routes of pools without a worker are
        refused.
        """
        arrivals: dict[Pool, list[Route]] = {}
        for route in routes:
            arrivals.setdefault(route.pool, []).append(route)
        grants = []
        for pool, arrived in arrivals.items():
            # A region whose workers do not speak a level yet may have room for all other jobs.
            overflow = not pool.needs and any(
                route.job.request.home != pool.region for route in arrived
            )
            remember_s = self._probes.may_close_s(pool) + SLACK_S
            if overflow:
                remember_s += self._config.throttle_window_s
            tokens, reason = self._ask(pool, len(arrived), caps.get(pool.region), remember_s)
            if overflow:
                self._memory.asked_for_overflow(pool.region, accepted=bool(tokens))
            if tokens:
                selected = self._select_for_workers(pool, arrived, len(tokens))
                grants.append(Grant(pool, tokens, selected, reason))
            else:
                for route in arrived:
                    route.refused(reason)
        return grants

    def give_back(self, pool: Pool, tokens: Sequence[str], *, closing: bool = False) -> None:
        """Return claims that placed nothing. `closing`: the pool is not asked for a while."""
        try:
            self._claims[pool.region].give_back(pool, tokens, closing=closing)
        except redis.RedisError as error:
            log.warning("claims_not_returned", pool=str(pool), error=str(error))

    def _ask(
        self, pool: Pool, wanted: int, cap: int | None, remember_s: float
    ) -> tuple[list[str], str]:
        """Claim up to `wanted` workers. Returns the tokens, and why there are no more."""
        news = self._probes.news(pool)
        offered = [secrets.token_hex(8) for _ in range(wanted)]
        try:
            result = self._claims[pool.region].claim(
                pool,
                offered,
                cap=cap,
                others=self._siblings(pool),
                remember_s=remember_s,
            )
        except redis.RedisError as error:
            log.warning("region_unreachable", region=pool.region, error=str(error))
            self._probes.close(pool, "region_unknown")
            refused_probes.labels(pool.region).inc()
            return [], "region_unknown"
        self._probes.record(pool, result, news)
        if len(result.granted) < wanted:
            refused_probes.labels(pool.region).inc()
        return result.granted, result.reason

    def _siblings(self, pool: Pool) -> list[Pool]:
        """The region's other pools, whose busy workers count against its cap."""
        names = self._config.served_profiles
        return [Pool(pool.region, name) for name in names if name != pool.profile]

    def _select_for_workers(self, pool: Pool, arrived: list[Route], workers: int) -> list[Route]:
        """The routes for these workers, then the stand-ins.

        A retry beyond the region's budget yields to every other job that asks this pool. It gets a
        worker that none of them wants: the budget protects fresh work, not idle workers.
        """
        selected: list[Route] = []
        over_budget: list[Route] = []
        for route in arrived:
            if len(selected) >= workers:
                if route.job.begun == 0:
                    selected.append(route)
            elif self._within_budget(route, pool.region):
                selected.append(route)
            else:
                over_budget.append(route)
        unwanted = max(0, workers - len(selected))
        for route in over_budget[unwanted:]:
            route.refused("retry_budget")
        return selected + over_budget[:unwanted]

    def _within_budget(self, route: Route, region: str) -> bool:
        """Count a job that gets a worker. False: it is a retry over the region's budget."""
        budget = self._budgets[region]
        if route.job.begun > 0:
            return budget.take(self._clock())
        budget.request(self._clock())
        return True
