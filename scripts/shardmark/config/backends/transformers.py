"""Models of Hugging Face transformers, in the worker's own process."""

from typing import ClassVar, Literal

from pydantic import PositiveInt

from shardmark.config.weights import WeightsConfig

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate")
OPTIONAL = {"adapter": "peft", "quantization_config": "bitsandbytes"}
"Packages that a model may need, by the setting that asks for them."


class TransformersConfig(WeightsConfig):
    """A model, how transformers loads it, and the devices it needs. The file's name is the model's name."""

    factory: ClassVar[str] = "shardmark.engine.transformers.model:open_backend"
    protocol: ClassVar[int] = 2

    backend: Literal["transformers"] = "transformers"
    "The backend that runs the model."
    batch_size: PositiveInt | Literal["auto"] = "auto"
    "Rows in a batch; auto fits it to the memory. Halved if memory runs out during a run. Doesn't change a score."
    batch_padding: bool = True
    "false: only rows of equal length share a batch, so that nothing is padded."
    cuda_graphs: bool = True
    "Replay decode steps as CUDA graphs on one GPU, if the model allows it; false: run each step as on a CPU."

    @property
    def rows_in_batch(self) -> int | str:
        """The most rows in a batch."""
        return self.batch_size

    def package_names(self) -> list[str]:
        """The packages that it is loaded and run with."""
        asked = {key for key, value in ({"adapter": self.adapter} | self.model_kwargs).items() if value}
        return [*PACKAGES, *(name for key, name in OPTIONAL.items() if key in asked)]


SETTINGS = TransformersConfig
