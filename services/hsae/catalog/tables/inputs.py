"""Tables of what goes in: backbones, data sets, and the part of the taxonomy that they span."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, SmallInteger, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from hsae.catalog.tables.base import Base, CreatedAt, Identity64, Json


class Model(Base):
    """A backbone at one revision."""

    __tablename__ = "model"
    __table_args__ = (
        UniqueConstraint("name", "revision"),
        {"comment": "Vision transformers (backbones), one row per name and revision."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    name: Mapped[str] = mapped_column(
        comment="hub id (facebook/dinov2-base) or local folder, behind timm: or open_clip: of those libraries"
    )
    revision: Mapped[str] = mapped_column(comment="hub commit hash, or sha256-... over the files of a local folder")
    model_type: Mapped[str] = mapped_column(
        comment="architecture as transformers names it, such as dinov2; of other libraries timm or open_clip and the"
        " class"
    )
    n_layers: Mapped[int] = mapped_column(comment="number of transformer blocks; layers count from 0")
    d_model: Mapped[int] = mapped_column(
        comment="width of the residual stream; where blocks differ, after the last one"
    )
    n_patches: Mapped[int] = mapped_column(
        comment="patch tokens per image after preprocessing; where blocks differ, after the last one"
    )
    preprocessing: Mapped[Json] = mapped_column(comment="settings of the image processor")
    created_at: Mapped[CreatedAt]


class Dataset(Base):
    """A registered set of labelled images."""

    __tablename__ = "dataset"
    __table_args__ = ({"comment": "Registered data sets of labelled images."},)

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    name: Mapped[str] = mapped_column(unique=True, comment="name given by `hsae-admin dataset add`")
    fingerprint: Mapped[str] = mapped_column(
        comment="sha256 over every path, class and file content (its version, where `checksums` is extraction);"
        " decides reuse"
    )
    checksums: Mapped[str] = mapped_column(
        server_default="registration",
        comment="when its files are read for their checksums for the first time: registration, or extraction, which"
        " enters them in `image_checksum`; until then the version of a file, such as size and time, stands for its"
        " content",
    )
    root: Mapped[str] = mapped_column(comment="folder or URI that image paths are relative to, as workers see it")
    taxonomy: Mapped[str] = mapped_column(comment="the taxonomy: wordnet-3.0, or stem and hash of a custom tree")
    taxonomy_key: Mapped[str] = mapped_column(comment="sha256 of the induced taxonomy's canonical JSON")
    n_images: Mapped[int] = mapped_column(comment="images listed")
    n_classes: Mapped[int] = mapped_column(comment="classes, i.e. leaf labels")
    n_nodes: Mapped[int] = mapped_column(comment="nodes of the induced taxonomy: classes and all their ancestors")
    listing_sha256: Mapped[str] = mapped_column(
        comment="checksum of the listing, the object datasets/<fingerprint>/listing-<checksum>.parquet",
    )
    created_at: Mapped[CreatedAt]


class ImageChecksum(Base):
    """The checksum of an image's file that an extraction was the first to read."""

    __tablename__ = "image_checksum"
    __table_args__ = (
        CheckConstraint("image >= 0", name="image"),
        {
            "comment": "Checksums of image files that the registration did not read (`dataset.checksums`), from the"
            " first extraction of each. A later one that reads another content fails."
        },
    )

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True, comment="the data set"
    )
    image: Mapped[int] = mapped_column(Integer, primary_key=True, comment="its number in the listing")
    sha256: Mapped[str] = mapped_column(comment="checksum of the file")


class Synset(Base):
    """A node of a taxonomy."""

    __tablename__ = "synset"
    __table_args__ = (
        UniqueConstraint("taxonomy", "wnid"),
        Index("ix_synset_name", "name"),
        {"comment": "Taxonomy nodes that some data set's classes reach, one row per taxonomy and node."},
    )

    id: Mapped[Identity64] = mapped_column(comment="primary key")
    taxonomy: Mapped[str] = mapped_column(comment="the taxonomy: wordnet-3.0, or stem and hash of a custom tree")
    wnid: Mapped[str] = mapped_column(comment="WordNet offset such as n02084071; a custom tree's node name")
    name: Mapped[str] = mapped_column(comment="synset name such as dog.n.01; a custom tree's node name")
    lemmas: Mapped[list[str]] = mapped_column(ARRAY(TEXT), comment="words of the synset")
    definition: Mapped[str] = mapped_column(comment="gloss; empty for a custom tree")


class Hypernym(Base):
    """A direct is-a edge."""

    __tablename__ = "hypernym"
    __table_args__ = (
        Index("ix_hypernym_hypernym_id", "hypernym_id"),
        {"comment": "Direct is-a edges (instance hypernyms included); a node may have several hypernyms."},
    )

    synset_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), primary_key=True, comment="the hyponym")
    hypernym_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), primary_key=True, comment="its direct hypernym")


class HypernymClosure(Base):
    """A descendant-ancestor pair."""

    __tablename__ = "hypernym_closure"
    __table_args__ = (
        Index("ix_hypernym_closure_ancestor_id", "ancestor_id"),
        {"comment": "Reflexive transitive closure of hypernym: every node under every ancestor, itself included."},
    )

    descendant_id: Mapped[int] = mapped_column(
        ForeignKey("synset.id"), primary_key=True, comment="the node below (or the node itself)"
    )
    ancestor_id: Mapped[int] = mapped_column(
        ForeignKey("synset.id"), primary_key=True, comment="the node above (or the node itself)"
    )
    distance: Mapped[int] = mapped_column(
        SmallInteger, comment="edges on the shortest path between them; 0 for the node itself"
    )


class DatasetClass(Base):
    """A leaf label of a data set."""

    __tablename__ = "dataset_class"
    __table_args__ = ({"comment": "Classes (leaf labels) of each data set."},)

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True, comment="the data set"
    )
    position: Mapped[int] = mapped_column(primary_key=True, comment="position of the class in matrices, counted from 0")
    synset_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), comment="the class as a taxonomy node")
    label: Mapped[str] = mapped_column(comment="folder name or CSV label the class was given by")
    n_images: Mapped[int] = mapped_column(comment="images listed with this label")


class DatasetNode(Base):
    """A node of a data set's induced taxonomy."""

    __tablename__ = "dataset_node"
    __table_args__ = (
        Index("ix_dataset_node_synset_id", "synset_id"),
        {"comment": "Nodes of each data set's induced taxonomy with their place in it."},
    )

    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("dataset.id", ondelete="CASCADE"), primary_key=True, comment="the data set"
    )
    synset_id: Mapped[int] = mapped_column(ForeignKey("synset.id"), primary_key=True, comment="the node")
    height: Mapped[int] = mapped_column(
        SmallInteger, comment="longest downward path to a leaf of the induced taxonomy; leaf = 0"
    )
    depth: Mapped[int] = mapped_column(SmallInteger, comment="shortest path from the root; root = 0")
    n_classes: Mapped[int] = mapped_column(comment="classes under the node (itself included if it is one)")
    n_images: Mapped[int] = mapped_column(comment="images listed under the node")
    is_class: Mapped[bool] = mapped_column(comment="true when the node is itself a label of the data set")
