"""The specification of a run: `RunSpec` and its parts.

One model serves the YAML file, the command line, the body of a request and the stored record. Device, folders and
threads belong to `mcl_ray.config.environment`; they are never part of a spec and never hashed.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mcl_ray.config.loss_terms import LOSS_TERMS
from mcl_ray.config.methods import METHODS, UNKNOWN, MethodEntry
from mcl_ray.config.overrides import field_paths
from mcl_ray.config.plugins import MODULE, are_imported
from mcl_ray.config.registry import DATASETS, NETWORKS, Registry
from mcl_ray.config.spec_part import Part
from mcl_ray.config.uses import USES
from mcl_ray.errors import unknown

SPEC_VERSION = 1
MAX_PEERS = 16

OF_CONTRAST = ("cohort.embedding_dim", "cohort.head", "bank.")
"""Fields that have an effect only if a contrastive term is computed, apart from those of the losses."""

Sharing = Literal["none", "stem", "reference"]
Head = Literal["mcl", "linear", "mlp"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Module = Annotated[str, Field(pattern=MODULE, max_length=200)]


def _as_tuple(value: object) -> object:
    """Wrap a single name in a tuple."""
    return (value,) if isinstance(value, str) else value


def names_of(registry: Registry[Any]) -> Any:
    """Return a pydantic field whose JSON schema lists the names of a registry."""
    return Field(json_schema_extra=lambda schema: schema.update(enum=[*registry]))


class DataSpec(Part):
    """The data set and its splits."""

    source: Annotated[str, names_of(DATASETS)] = "cifar"
    """Data set: `cifar` and `cifar10` are any data set in the python layout of CIFAR-100 and CIFAR-10, `digits` is
    scikit-learn's, `folder` has images as train/<class>/… and val/<class>/… (the layout of ImageNet), `parquet` has
    encoded images with labels, `npz` has arrays as MedMNIST; the others are those of `torchvision.datasets`, and of
    plugins."""
    checksum: Annotated[str, Field(pattern=r"^(official|off|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")] = "official"
    """Expected checksum of a `cifar` or `cifar10` archive: `official` (as published), `md5:…`, `sha256:…`, or `off`."""
    validation_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Fraction of each class's training images held out for validation (0: none, train on all). A source with three
    splits has its own validation split, and holds out none."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 224
    """Height and width, in pixels, of the crops of images from `folder` and `parquet`."""
    normalisation: Literal["measured", "imagenet"] = "measured"
    """Mean and standard deviation of each channel: `measured` on the training images (on 1,000 of them for `folder`
    and `parquet`), or those of ImageNet (`imagenet`)."""
    unreadable: Annotated[int, Field(ge=0)] = 10
    """Maximum number of images from `folder` or `parquet` that fail to decode; with more, the run ends. Each one is
    named in a warning."""
    orientation: Annotated[Literal["exif", "stored"], Field(exclude_if=lambda value: value == "exif")] = "exif"
    """Orientation of images from `folder` and `parquet`: turned upright by their EXIF metadata (`exif`), or as their
    pixels are stored (`stored`)."""
    untested_classes: Annotated[int, Field(ge=0)] = 0
    """Maximum number of classes of `folder` or `parquet` without a test image."""
    image_column: str = "image"
    """Column of `parquet` with the encoded images."""
    label_column: str = "label"
    """Column of `parquet` with the classes, as numbers or names."""
    split_column: str = "split"
    """Column of `parquet` with the split: train, or one of val, validation and test. Without this column, each file's
    name begins with its split."""

    @property
    def is_encoded(self) -> bool:
        """Return whether images are decoded on demand rather than held in memory."""
        return self.source in DATASETS and DATASETS[self.source].is_encoded

    @property
    def reads_files(self) -> bool:
        """Return whether the images are in a folder or a store, rather than in an installed package."""
        return self.source not in DATASETS or DATASETS[self.source].reads_files


class AugmentationSpec(Part):
    """Augmentation of training images: on the device for whole batches in memory, otherwise when they are decoded."""

    crop_padding: Annotated[int, Field(ge=0, le=16)] = 4
    """Zero padding, in pixels, before a random crop of the original size; applies to images in memory."""
    min_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Minimum fraction of the image's area in a random resized crop; applies to images that are decoded on demand."""
    flip: bool = True
    """Mirror each image left to right with probability 0.5."""
    views: Literal["crop", "moco_v1", "moco_v2"] = "crop"
    """Further augmentation of images that are decoded on demand: none (`crop`), the colour changes of MoCo v1
    (`moco_v1`), or those of MoCo v2, which include blur (`moco_v2`)."""


class BatchSpec(Part):
    """Sampling of training images into batches."""

    size: Count = 128
    """Number of images in a batch, over all workers."""
    per_class: Annotated[int, Field(ge=2)] = 2
    """Number of images of each class in a batch; `size / per_class` classes are drawn."""
    sampler: Literal["reference", "balanced", "shuffled"] = "balanced"
    """Sampler: `reference` draws the classes of every batch independently (an epoch covers about 63 % of the images);
    `balanced` uses every image about once per epoch, as far as class-balanced batches allow; `shuffled` ignores classes
    (and per_class) and uses every image once per epoch, except those that do not fill a last batch."""

    @model_validator(mode="after")
    def _whole_classes(self) -> BatchSpec:
        if self.sampler != "shuffled" and self.size % self.per_class:
            raise ValueError(
                f"`batch.size % batch.per_class == 0` must hold, but got size={self.size}, per_class={self.per_class}"
            )
        return self


class CohortSpec(Part):
    """The networks that learn together."""

    size: Annotated[int, Field(ge=1, le=MAX_PEERS)] = 2
    """Number of peers, N."""
    networks: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = ("resnet32",)
    """Network of every peer (one name), or of each peer (one name per peer)."""
    sharing: Sharing = "reference"
    """Stages that peers share: `none`, `stem` (the first stage), `reference` (none at N ≤ 2, the stem otherwise)."""
    embedding_dim: Count = 128
    """Dimension D of the embeddings."""
    head: Head = "mcl"
    """Projection head from features to embeddings: `mcl` has a hidden layer as wide as the embeddings, `mlp` one as
    wide as the features (MoCo v2), `linear` has no hidden layer (MoCo v1)."""

    @property
    def peers(self) -> tuple[str, ...]:
        """Network name of each peer, [N]."""
        return self.networks * self.size if len(self.networks) == 1 else self.networks

    @property
    def shares_stem(self) -> bool:
        """Return whether all peers share one first stage."""
        unlike = len(set(self.peers)) > 1
        return self.sharing == "stem" or (self.sharing == "reference" and self.size > 2 and not unlike)

    @model_validator(mode="after")
    def _peers_fit(self) -> CohortSpec:
        if len(self.networks) not in (1, self.size):
            raise ValueError(
                f"cohort.networks must name one network or one per peer, but got {len(self.networks)} names "
                f"({', '.join(self.networks)}) for cohort.size={self.size}"
            )
        if self.sharing == "stem" and len(set(self.networks)) > 1:
            raise ValueError(
                f"cohort.sharing='stem' requires the same network for every peer, but got sharing='stem' with networks="
                f"{', '.join(self.networks)}; use sharing='none'"
            )
        return self


class Weights(dict[str, float]):
    """Name → weight; hashable, as every part of a spec, and never changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class LossSpec(Part):
    """Weights and temperatures of the loss terms. A term whose weight is zero is not computed."""

    alpha: NonNegative = 0.1
    """Weight of VCL, the contrastive loss within each peer."""
    beta: NonNegative = 0.1
    """Weight of ICL, the contrastive loss across peers."""
    gamma: NonNegative = 1.0
    """Weight of Soft-VCL, distillation between the peers' VCL distributions."""
    lam: NonNegative = 1.0
    """Weight of Soft-ICL, distillation between the two ICL distributions of each pair of peers."""
    tau: Positive = 0.1
    """Contrastive temperature."""
    temperature: Positive = 3.0
    """Distillation temperature, T."""
    logit_distillation: Literal["off", "all", "reference"] = "off"
    """Distillation from the mean of the peers' logits: `off`, into `all` peers, or into the same peers as in the
    published code (`reference`)."""
    contrast: Literal["global", "local"] = "global"
    """Contrast set of method `supervised` where several workers share a batch: the images of all workers (`global`,
    independent of the number of workers), or each worker's own images (`local`, which exchanges no embeddings)."""
    extra: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,40}$")], NonNegative],
        AfterValidator(Weights),
        Field(exclude_if=lambda weights: not weights),
    ] = Field(default_factory=Weights)  # a default of its type is nothing that a JSON schema can hold
    """Name of a plugin's loss term → its weight; of the methods `supervised` and `supervised_bank`."""


class BankSpec(Part):
    """The memory bank of method `supervised_bank`, which stores an embedding of every training image."""

    negatives: Count = 8192
    """Number of images of other classes in each image's contrast set, K."""
    positives: Count = 1
    """Number of other images of the same class in each image's contrast set, P."""
    memory_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Momentum of the update of a stored embedding: the weight of its old value."""


class QueueSpec(Part):
    """The queue of keys and the key encoders of method `moco`."""

    keys: Count = 65_536
    """Number of keys of earlier batches in each image's contrast set, K."""
    key_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Momentum of the key encoders' update: the weight of their old parameters at every step."""


class LinearSpec(Part):
    """The frozen features that method `linear` classifies."""

    backbone: Annotated[str, Field(pattern=r"^(random|sha256:[0-9a-f]{64})$")] | None = None
    """Checksum of the checkpoint with the feature networks, set by `train --from`; or `random` for networks with
    random, untrained weights."""
    features: Literal["each", "mean"] | Annotated[int, Field(ge=0, lt=MAX_PEERS)] = "each"
    """Features that are classified: those of `each` peer, with one classifier per peer; the `mean` over all peers; or
    those of one peer, by its index from 0."""


class OptimizerSpec(Part):
    """Stochastic gradient descent."""

    lr: Positive = 0.1
    """Learning rate at the first epoch."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD."""
    nesterov: bool = True
    """Use Nesterov momentum."""
    weight_decay: NonNegative = 5e-4
    """L2 penalty on every parameter."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> OptimizerSpec:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "optimizer.nesterov=true requires optimizer.momentum > 0, but got momentum=0.0; set nesterov=false"
            )
        return self


class ScheduleSpec(Part):
    """Number of epochs and learning rate schedule. The learning rate is constant within an epoch."""

    epochs: Count = 300
    """Number of passes over the training images."""
    kind: Literal["cosine", "multistep"] = "cosine"
    """Schedule: `cosine` decays to zero over all epochs; `multistep` multiplies by `factor` at each milestone."""
    milestones: tuple[Count, ...] = ()
    """Epochs at which `multistep` multiplies the learning rate by `factor`."""
    factor: Positive = 0.1
    """Factor of `multistep`."""

    @model_validator(mode="after")
    def _milestones_increase(self) -> ScheduleSpec:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"schedule.milestones must be strictly increasing, but got {self.milestones}")
        if (self.kind == "multistep") != bool(self.milestones):
            raise ValueError(
                f"schedule.kind='multistep' requires schedule.milestones, and no other kind accepts them, but got "
                f"kind={self.kind!r}, milestones={self.milestones}"
            )
        return self


class ComputeSpec(Part):
    """Numerical settings that change the results."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision: `bf16` runs the networks under autocast, with losses in float32; `fp32` permits TF32 in CUDA's
    convolutions."""
    channels_last: bool = True
    """Store images and convolution weights in the channels-last memory format."""
    compile: Annotated[Literal["off", "blocks", "graphs"], Field(exclude_if=lambda value: value == "off")] = "off"
    """Compilation of the networks by torch.compile: none (`off`), the repeated blocks (`blocks`), or these with their
    kernels launched by CUDA graphs (`graphs`, which requires a GPU). Blocks of one shape are compiled once, and kept on
    the disk for later runs. Scores and joint steps of several runs (`--pack`) are computed without it."""
    peers: Annotated[Literal["apart", "stacked"], Field(exclude_if=lambda value: value == "apart")] = "apart"
    """Computation of a cohort's peers: one after another (`apart`), or those of one architecture as one network
    (`stacked`), which is faster for small networks, needs a method of one forward pass, and has no effect in joint
    steps. Figures are the same within the arithmetic."""
    batch_statistics: Literal["local", "synchronised"] = "local"
    """Images over which batch normalisation averages where several workers share a batch: each worker's own images
    (`local`; the running statistics of rank 0 are kept), or the whole batch (`synchronised`, slower)."""

    @model_validator(mode="after")
    def _stacked_peers_are_not_compiled(self) -> ComputeSpec:
        if self.peers == "stacked" and self.compile != "off":
            raise ValueError(
                f"compute.peers=stacked requires compute.compile=off, but got compile={self.compile}: joint steps are "
                "computed without compilation"
            )
        return self

    @model_validator(mode="after")
    def _compiled_blocks_exchange_nothing(self) -> ComputeSpec:
        if self.compile != "off" and self.batch_statistics == "synchronised":
            raise ValueError(
                f"compute.compile={self.compile} requires compute.batch_statistics=local, but got "
                f"batch_statistics={self.batch_statistics}"
            )
        return self


class EvaluationSpec(Part):
    """Evaluation of the networks. The validation split, if there is one, is evaluated every epoch."""

    test: Literal["every_epoch", "at_end", "never"] = "every_epoch"
    """Epochs at which the test images are read. The published figures are the best over epochs; a search never reads
    the test images."""
    batch_size: Count = 500
    """Number of images in an evaluation batch."""
    neighbours: Count = 200
    """Number of nearest training images that vote on the class of an image in the k-NN evaluation of method `moco`,
    k."""
    neighbour_images: Count = 50_000
    """Maximum number of training images among which the k-NN evaluation searches; chosen once, at equal intervals, if
    there are more."""


class RunSpec(Part):
    """One run: a cohort trained on a data set with one seed. Its digest is part of the run's name."""

    version: Annotated[int, Field(ge=1, le=SPEC_VERSION)] = SPEC_VERSION
    """Version of the spec format; a file of a newer version is rejected."""
    recipe: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "custom"
    """Recipe that this run derives from; reports use it to find the published figure."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the weights, the batches and the augmentation."""
    method: Annotated[str, names_of(METHODS)] = "supervised"
    """Training method, which defines the contrast set: the batch (`supervised`), a memory bank of all training images
    (`supervised_bank`), or a queue of keys of earlier batches, without labels (`moco`). `linear` has no contrast set:
    it trains linear classifiers on frozen features. Plugins add others."""
    plugins: Annotated[
        tuple[Module, ...], BeforeValidator(_as_tuple), Field(exclude_if=lambda modules: not modules)
    ] = ()
    """Modules that register parts of one's own which the run names. Every process that trains imports them; those that
    registered a part that is named are added."""
    data: DataSpec = DataSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    batch: BatchSpec = BatchSpec()
    cohort: CohortSpec = CohortSpec()
    losses: LossSpec = LossSpec()
    bank: BankSpec = BankSpec()
    queue: QueueSpec = QueueSpec()
    linear: LinearSpec = LinearSpec()
    pretraining: RunSpec | None = None
    """Spec of the run that trained the frozen networks of method `linear`, set by `train --from` if it is known."""
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    compute: ComputeSpec = ComputeSpec()
    evaluation: EvaluationSpec = EvaluationSpec()

    @property
    def method_entry(self) -> MethodEntry:
        """Entry of the method in its registry."""
        return METHODS.get(self.method, UNKNOWN)

    @property
    def has_known_method(self) -> bool:
        """Return whether a module in this process has registered the method."""
        return self.method in METHODS

    @property
    def num_views(self) -> int:
        """Number of views of each training image in a batch."""
        return self.method_entry.num_views

    @property
    def is_supervised(self) -> bool:
        """Return whether the peers have classifiers that learn from labels."""
        return self.method_entry.is_supervised

    @property
    def trains_networks(self) -> bool:
        """Return whether networks are trained, rather than classifiers on the features of frozen ones."""
        return self.method_entry.trains_networks

    def has_effect_on(self, field: str) -> bool:
        """Return whether the method uses a field that only some methods have."""
        return field in self.method_entry.own_fields

    @property
    def named_parts(self) -> tuple[tuple[Registry[Any], str], ...]:
        """Registry and name of each part that the run names."""
        networks = tuple((NETWORKS, name) for name in dict.fromkeys(self.cohort.networks))
        terms = tuple((LOSS_TERMS, name) for name in self.losses.extra)
        return ((METHODS, self.method), (DATASETS, self.data.source), *networks, *terms)

    @property
    def has_pairs(self) -> bool:
        """Return whether the cohort has several peers, so that there are terms between them."""
        return self.cohort.size > 1

    @property
    def has_contrast(self) -> bool:
        """Return whether any contrastive term is computed; one peer has only VCL."""
        losses = self.losses
        within, between = (losses.alpha, *losses.extra.values()), (losses.beta, losses.gamma, losses.lam)
        return any(within) or (self.has_pairs and any(between))

    @property
    def has_distillation(self) -> bool:
        """Return whether peers distil their distributions or logits into each other."""
        losses = self.losses
        return self.has_pairs and bool(losses.gamma or losses.lam or losses.logit_distillation != "off")

    @property
    def losses_without_effect(self) -> tuple[str, ...]:
        """Names of the fields of `losses` whose values change nothing in this run."""
        return (
            *(() if self.has_pairs else ("beta", "gamma", "lam", "logit_distillation")),
            *(() if self.has_contrast else ("tau", "contrast")),
            *(() if self.has_distillation else ("temperature",)),
        )

    def acts(self, path: str) -> bool:
        """Return whether a field, given by its full path, has an effect in this run."""
        if path.startswith(OF_CONTRAST) and not self.has_contrast:
            return False
        if path == "cohort.sharing" and not self.has_pairs:
            return False
        if path.removeprefix("losses.") in self.losses_without_effect:
            return False
        return all(use.holds(self) for use in USES if path.startswith(use.fields))

    @model_validator(mode="after")
    def _names_are_known(self) -> RunSpec:
        if not are_imported(self.plugins):  # one of them may know the names
            return self
        for registry, name in self.named_parts:
            if name not in registry:
                raise ValueError(unknown(registry.kind, name, registry))
        return self

    @model_validator(mode="after")
    def _local_contrast_is_in_batch(self) -> RunSpec:
        if not self.method_entry.contrasts_locally and self.losses.contrast == "local":
            raise ValueError(f"losses.contrast=local requires method=supervised, but got method={self.method}")
        return self

    @model_validator(mode="after")
    def _extra_terms_have_a_grid(self) -> RunSpec:
        if self.losses.extra and not self.method_entry.has_grid:
            raise ValueError(
                f"losses.extra requires method=supervised or supervised_bank, but got method={self.method}"
            )
        taken = [name for name in self.losses.extra if name in LOSS_TERMS and LOSS_TERMS[name].function is None]
        if taken:
            raise ValueError(f"losses.extra names the terms of plugins, but got the built-in {', '.join(taken)}")
        return self

    @model_validator(mode="after")
    def _views_are_decoded(self) -> RunSpec:
        if not self.data.is_encoded and self.augmentation.views != "crop":
            raise ValueError(
                f"augmentation.views={self.augmentation.views} requires data.source=folder or parquet, but got "
                f"data.source={self.data.source}"
            )
        return self

    @model_validator(mode="after")
    def _method_can_learn(self) -> RunSpec:
        weights, method = self.losses, self.method_entry
        if method.num_views > 1 and not self.data.is_encoded:
            raise ValueError(
                f"method={self.method} requires data.source=folder or parquet, but got data.source={self.data.source}"
            )
        if not method.is_supervised and weights.logit_distillation != "off":
            raise ValueError(
                f"method={self.method} requires losses.logit_distillation=off, as its peers have no logits, but got "
                f"logit_distillation={weights.logit_distillation}"
            )
        if method.needs_contrast and not self.has_contrast:
            raise ValueError(
                f"method={self.method} requires a contrastive weight > 0 (alpha > 0 for one peer), but got "
                f"alpha={weights.alpha}, beta={weights.beta}, gamma={weights.gamma}, lam={weights.lam} and "
                f"cohort.size={self.cohort.size}"
            )
        return self

    @model_validator(mode="after")
    def _linear_only_classifies(self) -> RunSpec:
        if not self.has_known_method:
            return self
        weights, chosen = self.losses, self.linear.features
        if self.trains_networks:
            if self.linear.backbone or self.pretraining:
                raise ValueError(f"linear.backbone and pretraining require method=linear, but got method={self.method}")
            return self
        if any((weights.alpha, weights.beta, weights.gamma, weights.lam)) or weights.logit_distillation != "off":
            raise ValueError(
                f"method={self.method} requires alpha=beta=gamma=lam=0 and logit_distillation=off, but got "
                f"alpha={weights.alpha}, beta={weights.beta}, gamma={weights.gamma}, lam={weights.lam}, "
                f"logit_distillation={weights.logit_distillation}"
            )
        if isinstance(chosen, int) and chosen >= self.cohort.size:
            raise ValueError(
                f"`linear.features < cohort.size` must hold, but got features={chosen}, size={self.cohort.size}"
            )
        if chosen == "mean" and len(set(self.cohort.peers)) > 1:
            raise ValueError(
                f"linear.features=mean requires the same network for every peer, but got {', '.join(self.cohort.peers)}"
            )
        return self

    @property
    def digest(self) -> str:
        """First ten hex digits of the SHA-256 of the complete spec.

        Fields without an effect, as `beta` in a cohort of one peer, count as their defaults. With parts of plugins only
        those of the losses do, as what the others need is known only where the plugins are imported.
        """
        return self._digest_without(lambda path: not self.acts(path)) if not self.plugins else self._earlier_digest

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests that results of this spec may have: its own, and those of earlier versions, where these differ.

        Earlier versions counted values without an effect, at first of all fields, later of those outside of the losses.
        """
        return tuple(dict.fromkeys([self.digest, self._earlier_digest, _digest(self.model_dump(mode="json"))]))

    @property
    def _earlier_digest(self) -> str:
        unused = {f"losses.{name}" for name in self.losses_without_effect}
        return self._digest_without(unused.__contains__)

    def _digest_without(self, is_unused: Callable[[str], bool]) -> str:
        """Return the digest of the spec with defaults for some fields."""
        tree, defaults = self.model_dump(mode="json"), _default_tree()
        for path, _ in field_paths(RunSpec):
            part, _, name = path.rpartition(".")
            own, default = (tree[part], defaults[part]) if part else (tree, defaults)
            if name in own and is_unused(path):
                del own[name]
                own |= {name: default[name]} if name in default else {}
        return _digest(tree)


@functools.cache
def _default_tree() -> dict[str, Any]:
    return RunSpec().model_dump(mode="json")


def _digest(tree: dict[str, Any]) -> str:
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]
