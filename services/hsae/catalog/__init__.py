"""The catalog: what exists in Postgres, and the schema's only home."""

from hsae.catalog.base import Base, Json
from hsae.catalog.comparisons import Comparison, ComparisonDifference, ComparisonScore
from hsae.catalog.inputs import Dataset, DatasetClass, DatasetNode, Hypernym, HypernymClosure, Model, Synset
from hsae.catalog.jobs import (
    JOB_KINDS,
    JOB_STATES,
    LIVE_STATES,
    MAX_PRIORITY,
    QUEUE_OF_KIND,
    QUEUES,
    UNSUCCESSFUL_STATES,
    Job,
    JobDependency,
    JobEvent,
    Study,
    StudyJob,
)
from hsae.catalog.latent_edges import LatentEdge, LatentFamily
from hsae.catalog.level_scores import LevelScore
from hsae.catalog.results import (
    BASES,
    ActivationSet,
    ActivationShard,
    Analysis,
    Latent,
    LatentPlace,
    LayerScore,
    NodeScore,
    Sae,
)
from hsae.catalog.session import bound_idling, clear_errors, connect, database_url, session_factory, transaction

__all__ = [
    "BASES",
    "JOB_KINDS",
    "JOB_STATES",
    "LIVE_STATES",
    "MAX_PRIORITY",
    "QUEUES",
    "QUEUE_OF_KIND",
    "UNSUCCESSFUL_STATES",
    "ActivationSet",
    "ActivationShard",
    "Analysis",
    "Base",
    "Comparison",
    "ComparisonDifference",
    "ComparisonScore",
    "Dataset",
    "DatasetClass",
    "DatasetNode",
    "Hypernym",
    "HypernymClosure",
    "Job",
    "JobDependency",
    "JobEvent",
    "Json",
    "Latent",
    "LatentEdge",
    "LatentFamily",
    "LatentPlace",
    "LayerScore",
    "LevelScore",
    "Model",
    "NodeScore",
    "Sae",
    "Study",
    "StudyJob",
    "Synset",
    "bound_idling",
    "clear_errors",
    "connect",
    "database_url",
    "session_factory",
    "transaction",
]
