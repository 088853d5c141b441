"""The tables of the catalog, all of them: a table refers to others, so whoever needs one declares all."""

from hsae.catalog.tables.artifacts import ActivationSet, ActivationShard, Analysis, ImportedSae, Sae, SaeCurve
from hsae.catalog.tables.base import Base, Json
from hsae.catalog.tables.class_probes import ClassProbe, ClassProbeLevel
from hsae.catalog.tables.comparisons import (
    Comparison,
    ComparisonAnalysis,
    ComparisonDifference,
    ComparisonScore,
    ComparisonTrend,
    LatentStability,
)
from hsae.catalog.tables.inputs import (
    Dataset,
    DatasetClass,
    DatasetNode,
    Hypernym,
    HypernymClosure,
    ImageChecksum,
    Model,
    Synset,
)
from hsae.catalog.tables.interventions.alone import InterventionSteerability, LatentEffect
from hsae.catalog.tables.interventions.effects import InterventionContrast, InterventionDistance, InterventionEffect
from hsae.catalog.tables.interventions.sets import Intervention, InterventionReadout, InterventionSet
from hsae.catalog.tables.latent_edges import LatentEdge, LatentFamily, NodeAbsorption
from hsae.catalog.tables.maps import LatentMap, MapSet
from hsae.catalog.tables.replicates import LayerReplicate, LayerTreeShuffle
from hsae.catalog.tables.scores import Latent, LatentPlace, LayerScore, NodeScore
from hsae.catalog.tables.text.names import LatentName, NameAgreement, NameSet
from hsae.catalog.tables.work import Job, JobDependency, JobEvent, Study, StudyJob

__all__ = [
    "ActivationSet",
    "ActivationShard",
    "Analysis",
    "Base",
    "ClassProbe",
    "ClassProbeLevel",
    "Comparison",
    "ComparisonAnalysis",
    "ComparisonDifference",
    "ComparisonScore",
    "ComparisonTrend",
    "Dataset",
    "DatasetClass",
    "DatasetNode",
    "Hypernym",
    "HypernymClosure",
    "ImageChecksum",
    "ImportedSae",
    "Intervention",
    "InterventionContrast",
    "InterventionDistance",
    "InterventionEffect",
    "InterventionReadout",
    "InterventionSet",
    "InterventionSteerability",
    "Job",
    "JobDependency",
    "JobEvent",
    "Json",
    "Latent",
    "LatentEdge",
    "LatentEffect",
    "LatentFamily",
    "LatentMap",
    "LatentName",
    "LatentPlace",
    "LatentStability",
    "LayerReplicate",
    "LayerScore",
    "LayerTreeShuffle",
    "MapSet",
    "Model",
    "NameAgreement",
    "NameSet",
    "NodeAbsorption",
    "NodeScore",
    "Sae",
    "SaeCurve",
    "Study",
    "StudyJob",
    "Synset",
]
