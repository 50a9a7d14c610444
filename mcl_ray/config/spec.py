"""What to train: `RunSpec` and its parts.

The same model is the YAML file, the command line, the body of a request and the stored record. Where it is trained
(device, folders, threads) is `mcl_ray.config.environment`, never part of a spec and never hashed.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mcl_ray.config.registry import NETWORKS
from mcl_ray.errors import unknown

SPEC_VERSION = 1
MAX_PEERS = 16

Method = Literal["supervised", "supervised_bank", "moco", "linear"]
Sharing = Literal["none", "stem", "reference"]
Head = Literal["mcl", "linear", "mlp"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _as_tuple(value: object) -> object:
    """A single name stands for a list of one."""
    return (value,) if isinstance(value, str) else value


class Part(BaseModel):
    """Base of every part of a spec: frozen, no unknown fields, validated at construction."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _a_switch_is_no_number(cls, given: Any) -> Any:
        """Refuse `alpha=true`, which Python takes for 1."""
        for name, value in given.items() if isinstance(given, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and field.annotation in (int, float):
                raise ValueError(f"{name} must be a number, but got {str(value).lower()}")
        return given


class DataSpec(Part):
    """Which images, and how they are split."""

    source: Literal["cifar", "digits", "folder", "parquet"] = "cifar"
    """Data set: `cifar` is anything in the python layout of CIFAR-100, `digits` ships with scikit-learn, `folder` has
    images as train/<class>/* and val/<class>/* (the layout of ImageNet), `parquet` has encoded images with labels."""
    checksum: Annotated[str, Field(pattern=r"^(official|off|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")] = "official"
    """What a `cifar` archive must hash to: `official` (CIFAR-100 as published), `md5:…`, `sha256:…`, or `off`."""
    validation_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of every class's training images held out for validation (0: none, train on all)."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 224
    """Side, in pixels, to which images of a `folder` or of `parquet` are cropped."""
    normalisation: Literal["measured", "imagenet"] = "measured"
    """Mean and standard deviation of each channel: of the training images themselves (of 1,000 of them, for a `folder`
    and `parquet`), or those of ImageNet."""
    unreadable: Annotated[int, Field(ge=0)] = 10
    """How many images of a `folder` or of `parquet` may turn out not to decode before the run ends; each is named."""
    untested_classes: Annotated[int, Field(ge=0)] = 0
    """How many classes of a `folder` or of `parquet` may have no image for test."""
    image_column: str = "image"
    """Column of `parquet` with the encoded images."""
    label_column: str = "label"
    """Column of `parquet` with the classes, as numbers or names."""
    split_column: str = "split"
    """Column of `parquet` that says train, or val, validation or test; without it, the files' names begin so."""

    @property
    def is_encoded(self) -> bool:
        """Whether images are decoded as they are wanted, rather than held in memory."""
        return self.source in ("folder", "parquet")


class AugmentationSpec(Part):
    """What happens to a training image: in memory for a whole batch at once on the device, else as it is decoded."""

    crop_padding: Annotated[int, Field(ge=0, le=16)] = 4
    """Random crop of the image's own size after this zero padding, in pixels; of images in memory."""
    min_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Least share of an image that a random resized crop shows; of images that are decoded."""
    flip: bool = True
    """Mirror every second image, left to right."""
    views: Literal["crop", "moco_v1", "moco_v2"] = "crop"
    """What else happens to images that are decoded: nothing (`crop`), or changes of colour as MoCo's first version had
    them, or its second, which blurs too."""


class BatchSpec(Part):
    """How training images come together in class-balanced batches."""

    size: Count = 128
    """Images in a batch, over all workers."""
    per_class: Annotated[int, Field(ge=2)] = 2
    """Images of each class in a batch; `size / per_class` classes are drawn."""
    sampler: Literal["reference", "balanced", "shuffled"] = "balanced"
    """`reference` draws classes afresh for every batch (an epoch sees about 63 % of the images); `balanced` covers
    every image about once an epoch, as far as whole classes in every batch allow; `shuffled` knows no classes (and no
    per_class) and covers every image once, but for those that fill no whole batch."""

    @model_validator(mode="after")
    def _whole_classes(self) -> BatchSpec:
        if self.sampler != "shuffled" and self.size % self.per_class:
            raise ValueError(
                f"batch.size % batch.per_class == 0 must hold, but got size={self.size}, per_class={self.per_class}"
            )
        return self


class CohortSpec(Part):
    """Which networks learn together."""

    size: Annotated[int, Field(ge=1, le=MAX_PEERS)] = 2
    """Number of peers, N."""
    networks: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = ("resnet32",)
    """One network for every peer, or one per peer."""
    sharing: Sharing = "reference"
    """Which stages peers share: `none`, `stem` (the first stage), `reference` (none at N ≤ 2, the stem otherwise)."""
    embedding_dim: Count = 128
    """Width D of the embeddings that are contrasted."""
    head: Head = "mcl"
    """What makes embeddings of features: `mcl` has a hidden layer as wide as the embeddings, `mlp` one as wide as the
    features (MoCo's second version), `linear` none (its first)."""

    @property
    def peers(self) -> tuple[str, ...]:
        """The network of each peer, [N]."""
        return self.networks * self.size if len(self.networks) == 1 else self.networks

    @property
    def shares_stem(self) -> bool:
        """Whether the peers compute the first stage once, together."""
        unlike = len(set(self.peers)) > 1
        return self.sharing == "stem" or (self.sharing == "reference" and self.size > 2 and not unlike)

    @model_validator(mode="after")
    def _peers_fit(self) -> CohortSpec:
        for name in self.networks:
            if name not in NETWORKS:
                raise ValueError(unknown("network", name, NETWORKS))
        if len(self.networks) not in (1, self.size):
            raise ValueError(
                f"cohort.networks must name one network, or one per peer, but got {len(self.networks)} names "
                f"({', '.join(self.networks)}) for cohort.size={self.size}"
            )
        if self.sharing == "stem" and len(set(self.networks)) > 1:
            raise ValueError(
                f"peers that share a stem must be the same network, but got sharing='stem' with networks="
                f"{', '.join(self.networks)}; use sharing='none'"
            )
        return self


class LossSpec(Part):
    """Weights and temperatures of the loss. A term whose weight is zero is not computed."""

    alpha: NonNegative = 0.1
    """Weight of VCL, the contrastive loss within each peer."""
    beta: NonNegative = 0.1
    """Weight of ICL, the contrastive loss across peers."""
    gamma: NonNegative = 1.0
    """Weight of Soft-VCL, where peers mimic each other's VCL distributions."""
    lam: NonNegative = 1.0
    """Weight of Soft-ICL, where the two directions of a pair mimic each other."""
    tau: Positive = 0.1
    """Contrastive temperature."""
    temperature: Positive = 3.0
    """Distillation temperature, T."""
    logit_distillation: Literal["off", "all", "reference"] = "off"
    """Distillation from the mean of the peers' logits: `all` peers learn, or those of the published code."""
    contrast: Literal["global", "local"] = "global"
    """Whose images the contrast set of method `supervised` holds where several workers share a batch: those of all
    (`global`, the same whatever the number of workers), or each worker's own part of it (`local`, which exchanges no
    embeddings)."""


class BankSpec(Part):
    """What the method `supervised_bank` remembers of every training image, and contrasts with."""

    negatives: Count = 8192
    """Images of other classes that each image is contrasted with, K."""
    positives: Count = 1
    """Other images of its class that each image is to be close to, P."""
    memory_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of what is remembered of an image that stays when it is seen again."""


class QueueSpec(Part):
    """What the method `moco` contrasts with, and how its key encoders follow the trained ones."""

    keys: Count = 65_536
    """Keys of earlier batches that each image is contrasted with, K."""
    key_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Share of a key encoder's weights that stays at every step."""


class LinearSpec(Part):
    """What the method `linear` classifies by."""

    backbone: Annotated[str, Field(pattern=r"^(random|sha256:[0-9a-f]{64})$")] | None = None
    """The checkpoint that the features are of, by its checksum, which `train --from` fills in; or `random`: of networks
    that nobody trained."""
    features: Literal["each", "mean"] | Annotated[int, Field(ge=0, lt=MAX_PEERS)] = "each"
    """Whose features are classified: `each` peer's by a classifier of its own, the `mean` of all peers', or those of
    one peer, by its number."""


class OptimizerSpec(Part):
    """Stochastic gradient descent."""

    lr: Positive = 0.1
    """Learning rate at the first epoch."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the last update that carries over."""
    nesterov: bool = True
    """Look ahead along the momentum."""
    weight_decay: NonNegative = 5e-4
    """L2 penalty on every parameter."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> OptimizerSpec:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs optimizer.momentum > 0, but got momentum=0.0; set nesterov=false")
        return self


class ScheduleSpec(Part):
    """How long, and how the learning rate falls, epoch by epoch."""

    epochs: Count = 300
    """Passes over the training images."""
    kind: Literal["cosine", "multistep"] = "cosine"
    """`cosine` falls to zero over all epochs; `multistep` multiplies by `factor` at each milestone."""
    milestones: tuple[Count, ...] = ()
    """Epochs at which `multistep` multiplies."""
    factor: Positive = 0.1
    """What `multistep` multiplies by."""

    @model_validator(mode="after")
    def _milestones_rise(self) -> ScheduleSpec:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"schedule.milestones must rise, but got {self.milestones}")
        if (self.kind == "multistep") != bool(self.milestones):
            raise ValueError(
                f"schedule.milestones go with kind='multistep' and only with it, but got kind={self.kind!r}, "
                f"milestones={self.milestones}"
            )
        return self


class ComputeSpec(Part):
    """How the arithmetic is done, as far as it changes the numbers."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16` runs the networks under autocast; losses stay in float32. `fp32` leaves TF32 to CUDA's convolutions."""
    channels_last: bool = True
    """Memory layout of images and convolution weights."""
    batch_statistics: Literal["local", "synchronised"] = "local"
    """What batch normalisation averages over where several workers share a batch: each worker's own part of it
    (`local`; the first worker's running statistics are kept), or all of it (`synchronised`, slower)."""


class EvaluationSpec(Part):
    """When the networks are scored. The validation split, where there is one, is scored every epoch."""

    test: Literal["every_epoch", "at_end", "never"] = "every_epoch"
    """When the test images are read. The published figures are the best over epochs; a search never looks."""
    batch_size: Count = 500
    """Images scored at once."""
    neighbours: Count = 200
    """Training images that vote on the class of an image where the method `moco` is scored, k."""
    neighbour_images: Count = 50_000
    """Training images that those are found among, drawn once if there are more."""


class RunSpec(Part):
    """One run: a cohort trained on a data set with one seed. Its hash names it."""

    version: Annotated[int, Field(ge=1, le=SPEC_VERSION)] = SPEC_VERSION
    """Version of this format; a file from a newer one is refused."""
    recipe: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "custom"
    """The recipe this run derives from; reports use it to find the published figure."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the weights, the batches and the augmentation."""
    method: Method = "supervised"
    """Where the contrast set comes from: the batch (`supervised`), a memory bank of all training images
    (`supervised_bank`), or a queue of earlier batches, without labels (`moco`). `linear` contrasts nothing: it trains
    classifiers on frozen features."""
    data: DataSpec = DataSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    batch: BatchSpec = BatchSpec()
    cohort: CohortSpec = CohortSpec()
    losses: LossSpec = LossSpec()
    bank: BankSpec = BankSpec()
    queue: QueueSpec = QueueSpec()
    linear: LinearSpec = LinearSpec()
    pretraining: RunSpec | None = None
    """The run that the networks of `linear` are of, which `train --from` fills in where it is known."""
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    compute: ComputeSpec = ComputeSpec()
    evaluation: EvaluationSpec = EvaluationSpec()

    @property
    def num_views(self) -> int:
        """Views of each training image in a batch."""
        return 2 if self.method == "moco" else 1

    @property
    def is_supervised(self) -> bool:
        """Whether the cohort classifies."""
        return self.method != "moco"

    @model_validator(mode="after")
    def _contrast_set_is_the_methods(self) -> RunSpec:
        if self.method != "supervised" and self.losses.contrast == "local":
            raise ValueError(
                f"losses.contrast=local is of a contrast set within the batch, but got method={self.method}"
            )
        return self

    @model_validator(mode="after")
    def _views_are_decoded(self) -> RunSpec:
        if not self.data.is_encoded and self.augmentation.views != "crop":
            raise ValueError(
                f"augmentation.views={self.augmentation.views} is of images that are decoded (data.source=folder or "
                f"parquet), but got data.source={self.data.source}"
            )
        return self

    @model_validator(mode="after")
    def _moco_can_learn(self) -> RunSpec:
        if self.method != "moco":
            return self
        weights, alone = self.losses, self.cohort.size == 1
        if not self.data.is_encoded:
            raise ValueError(
                f"method=moco draws its views from images that are decoded (data.source=folder or parquet), but got "
                f"data.source={self.data.source}"
            )
        if weights.logit_distillation != "off":
            raise ValueError(
                f"method=moco has no logits to distil: logit_distillation=off must hold, but got "
                f"{weights.logit_distillation}"
            )
        if not (weights.alpha or (not alone and (weights.beta or weights.gamma or weights.lam))):
            raise ValueError(
                f"without labels only the contrastive terms teach: one weight > 0 must hold (alpha, for one peer), but "
                f"got alpha={weights.alpha}, beta={weights.beta}, gamma={weights.gamma}, lam={weights.lam} and "
                f"cohort.size={self.cohort.size}"
            )
        return self

    @model_validator(mode="after")
    def _linear_only_classifies(self) -> RunSpec:
        weights, chosen = self.losses, self.linear.features
        if self.method != "linear":
            if self.linear.backbone or self.pretraining:
                raise ValueError(f"linear.backbone and pretraining are of method=linear, but got method={self.method}")
            return self
        if any((weights.alpha, weights.beta, weights.gamma, weights.lam)) or weights.logit_distillation != "off":
            raise ValueError(
                f"method=linear trains classifiers alone: weights of 0 and logit_distillation=off must hold, but got "
                f"alpha={weights.alpha}, beta={weights.beta}, gamma={weights.gamma}, lam={weights.lam}, "
                f"logit_distillation={weights.logit_distillation}"
            )
        if isinstance(chosen, int) and chosen >= self.cohort.size:
            raise ValueError(
                f"linear.features < cohort.size must hold, but got features={chosen}, size={self.cohort.size}"
            )
        if chosen == "mean" and len(set(self.cohort.peers)) > 1:
            raise ValueError(
                f"the mean is of features of one width: linear.features=mean needs peers that are alike, but got "
                f"{', '.join(self.cohort.peers)}"
            )
        return self

    @property
    def digest(self) -> str:
        """Ten hex digits that any two runs of the same resolved spec share, and no others."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]
