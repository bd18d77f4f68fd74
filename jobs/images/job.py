"""What is asked of one ingest, with everything that its flags said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.images.decoding.options import DecoderOptions
from jobs.images.dedup_options import DedupOptions
from jobs.images.lists.find import Lists
from jobs.images.options import ImageOptions
from jobs.images.shards_out import ShardLimits
from jobs.images.unit import UnitSpec
from jobs.options import EngineName, PlanMode, PolicyOptions, RayOptions, Retry
from jobs.rights.options import RightsOptions
from jobs.target import Target
from jobs.web.options import FetchOptions
from licet.shards import ShardFormat
from licet.sources import Source


@dataclass(frozen=True)
class Job:
    """What is asked of one ingest."""

    sources: Sequence[Source]
    lists: Lists
    output: Path
    policy: PolicyOptions
    fetch: FetchOptions
    image: ImageOptions
    formats: tuple[ShardFormat, ...]
    rows_per_unit: int
    engine: EngineName
    processes: int
    """Of the local engine, and cores of a Ray that starts here."""
    ray: RayOptions
    plan: PlanMode
    retry: Retry
    dry_run: bool
    shards_url: str
    limits: ShardLimits
    unit_deadline_s: float
    rights: RightsOptions
    decoder: DecoderOptions
    dedup: DedupOptions

    def unit_spec(self) -> UnitSpec:
        """What is done to every unit."""
        return UnitSpec(
            target=Target(str(self.output), self.shards_url),
            formats=self.formats,
            policy=self.policy.policy(),
            protocols={source.id: tuple(source.opt_out_protocols) for source in self.sources},
            fetch=self.fetch,
            rights=self.rights,
            decoder=self.decoder,
            image=self.image,
            limits=self.limits,
            deadline_s=self.unit_deadline_s,
        )


def title_of(job: Job) -> dict[str, str]:
    """What a report says of a job itself."""
    image = job.image
    return {
        "output": str(job.output),
        "sources": ", ".join(source.id for source in job.sources),
        "purpose": job.policy.purpose,
        "engine": job.engine,
        "formats": ", ".join(job.formats),
        "rows_per_unit": f"{job.rows_per_unit:,}",
        "images": f"{image.size_px} px, {image.resize}, {image.format}",
    }
