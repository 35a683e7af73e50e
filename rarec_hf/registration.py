"""
RA-Rec's classes in Transformers' registries: those of `AutoConfig`, `AutoModel`, `AutoProcessor` and `pipeline`.

What models, processors and pipelines need takes seconds to import. So only configurations are registered as they are.
In the place of other classes stands one that imports its class when first used; and a registry that nobody has
imported yet gets its entry when somebody does.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from transformers import AutoConfig, AutoModel

from .configuration_id_encoders import ID_ENCODER_CONFIGS
from .configuration_rarec import RARecConfig

TASK = "sequential-recommendation"
_ENCODERS = {
    "rarec_sasrec": ("modeling_sasrec", "SASRecModel"),
    "rarec_text_sasrec": ("modeling_text_sasrec", "TextSASRecModel"),
    "rarec_comirec": ("modeling_comirec", "ComiRecModel"),
    "rarec_gru4rec": ("modeling_gru4rec", "GRU4RecModel"),
    "rarec_bert4rec": ("modeling_bert4rec", "BERT4RecModel"),
    "rarec_item_vectors": ("modeling_item_vectors", "ItemVectorsModel"),
}


class StandIn(type):
    """
    The type of a class that stands for one of this package: whatever it does not have itself, its class has, which is
    then imported; calling it makes one of those.
    """

    def __new__(cls, module: str, name: str, **own: Any) -> StandIn:
        return super().__new__(cls, name, (), {"__module__": f"{__package__}.{module}", **own})

    def __init__(cls, module: str, name: str, **own: Any) -> None:
        super().__init__(name, (), {})

    def __getattr__(cls, name: str) -> Any:
        return getattr(_class(cls.__module__, cls.__name__), name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _class(cls.__module__, cls.__name__)(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _class(cls.__module__, cls.__name__))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _class(cls.__module__, cls.__name__))


def _class(module: str, name: str) -> type:
    return getattr(import_module(module), name)


# As Transformers' registries are pickled on the way to another process
copyreg.pickle(StandIn, lambda cls: (_class, (cls.__module__, cls.__name__)))  # type: ignore[arg-type,return-value]


class _AfterImport(MetaPathFinder):
    """Runs an action once a module is imported; the module is found and loaded as it would be anyway."""

    def __init__(self) -> None:
        self.actions: dict[str, Callable[[], None]] = {}

    def run(self, name: str, action: Callable[[], None]) -> None:
        """Now, if the module `name` is there already."""
        self.actions[name] = action
        if name in sys.modules:
            action()

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self.actions:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader, self.actions[fullname])
        return spec


class _Followed(Loader):
    """A module's own loader, until the module runs; then the action."""

    def __init__(self, loader: Any, action: Callable[[], None]) -> None:
        self.loader, self.action = loader, action

    def __getattr__(self, name: str) -> Any:  # what `runpy` and the like ask of a loader besides
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.action()


def _register_processor() -> None:
    from transformers import AutoProcessor

    AutoProcessor.register(RARecConfig, StandIn("processing_rarec", "RARecProcessor"), exist_ok=True)


def _register_pipeline() -> None:
    from transformers.pipelines import PIPELINE_REGISTRY

    pipeline = StandIn("hub.pipeline", "SequentialRecommendationPipeline")
    PIPELINE_REGISTRY.register_pipeline(TASK, pipeline, pt_model=AutoModel, type="text")


def _write_card(folder: Any, repo_id: str, model: Any) -> Any:
    from .hub import write_model_card  # with the evaluation and its charts, which nothing else here needs

    return write_model_card(folder, repo_id=repo_id, model=model)


def _give_card_writer() -> None:
    from .modeling_rarec import RARecForSequentialRecommendation

    RARecForSequentialRecommendation.card_writer = staticmethod(_write_card)


def register() -> None:
    """Registers all there is."""
    model = StandIn("modeling_rarec", "RARecForSequentialRecommendation", config_class=RARecConfig)
    AutoConfig.register(RARecConfig.model_type, RARecConfig)
    AutoModel.register(RARecConfig, model)
    for model_type, config_class in ID_ENCODER_CONFIGS.items():
        AutoConfig.register(model_type, config_class)
        AutoModel.register(config_class, StandIn(*_ENCODERS[model_type], config_class=config_class))
    after = _AfterImport()
    sys.meta_path.insert(0, after)
    after.run("transformers.models.auto.processing_auto", _register_processor)
    after.run("transformers.pipelines", _register_pipeline)
    after.run(f"{__package__}.modeling_rarec", _give_card_writer)


__all__ = ["TASK", "StandIn", "register"]
