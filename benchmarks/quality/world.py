"""What all rows of one table share: the data, the users, the items' text vectors, the trained ID encoders."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.quality.sentence_encoder import minilm_folder
from rarec_hf import RARecForSequentialRecommendation, load_backbone, resolve_backbone
from rarec_hf.data import leave_one_out, load_interactions
from rarec_hf.data.sequences import Sequences
from rarec_hf.data.splits import Split, Targets
from rarec_hf.evaluation import Blend, word_vectors
from rarec_hf.id_encoder import IDEncoderModel
from rarec_hf.id_encoders import ID_ENCODERS
from rarec_hf.modeling_sasrec import SASRecConfig, SASRecModel
from rarec_hf.scoring import EncoderPlusLLMScore
from rarec_hf.spread_catalogue import Catalogue
from rarec_hf.training import job
from rarec_hf.training.alignment_picture import text_states
from rarec_hf.training.arguments import AlignmentArguments, EncoderArguments
from rarec_hf.training.encoder_stage import best_epoch
from rarec_hf.training.id_encoder import train_id_encoder
from rarec_hf.training.ranking_trainer import RankingDataset
from rarec_hf.training.stored_texts import StoredTexts
from rarec_hf.training.table import pooled_text_scorer
from rarec_hf.whole_files import replacing

LAYERS = [0.0, 0.67]
WIDTH, RIDGE = 256, 0.05
POOLED, DECAY = 10, 0.7
TEXT_STATES_BYTES = 40 * 2**30  # of two ten thousands of histories of SmolLM2-135M; what is over runs each time
GPU_BATCH = 256  # of texts; there they run each time, which is faster than to read their states from a disk


@dataclass
class Settings:
    """Of a run; a change of any of them but `cache` makes another table."""

    dataset: str
    data: str
    cache: str
    eval_users: int = 8000
    validation_users: int = 3000
    gain_users: int = 1000
    alignment_fraction: float = 0.05
    max_title_tokens: int = 40
    split_seed: int = 0
    batch_size: int = 64
    backbone: str = AlignmentArguments().backbone
    fraction: float = 1.0  # of the users that anything is trained, chosen or fitted on; all are tested


class World:
    """
    See the module.

    Everything is chosen while `final` is false: models see the training parts, validation chooses recipes and epochs.
    What is measured on test is made anew with `final` true: on the training parts and the validation targets, but for
    those of the users that gains and weights are fitted on.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        folder = Path(settings.data) / settings.dataset
        interactions = load_interactions(folder / "interactions.parquet", folder / "items.parquet")
        self.split = leave_one_out(
            interactions, alignment_fraction=settings.alignment_fraction, seed=settings.split_seed
        )
        self.items, self.n_items = interactions.items, interactions.n_items
        kept = asdict(replace(settings, data="", cache=""))
        del kept["fraction"]  # text vectors do not depend on it
        if kept["backbone"] == Settings.backbone:
            del kept["backbone"]
        key = f"{interactions.fingerprint()} {kept}"
        self.cache = Path(settings.cache) / f"{settings.dataset}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        self.cache.mkdir(parents=True, exist_ok=True)
        self.final = False
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_size = settings.batch_size if self.device.type == "cpu" else GPU_BATCH
        self._stored: StoredTexts | None = None
        seed = settings.split_seed
        self.test = job.test_users(self.split, settings.eval_users, seed)
        n_users = interactions.n_users
        order = np.random.default_rng(seed).permutation(n_users)
        self.users = np.sort(order[: max(20, round(settings.fraction * n_users))])  # a smaller draw is within a larger
        n_gain = min(settings.gain_users, len(self.users) // 2)
        gain_targets = job.drawn_targets(self._of_my_users(self.split.validation), n_gain, seed + 1)
        self.known = RankingDataset(interactions, gain_targets)  # what weights and gains are fitted on
        self.texts = self.items.words()

    # users -----------------------------------------------------------------------------------------------------------

    def _of_my_users(self, targets: Targets) -> Targets:
        return targets.take(np.isin(targets.users, self.users))

    def validation(self, users: np.ndarray | None = None) -> Targets:
        """Seeded validation targets, of `users` only."""
        targets = self.split.validation if users is None else self.split.validation_of(users)
        targets = self._of_my_users(targets)
        return job.drawn_targets(targets, self.settings.validation_users, self.settings.split_seed + 2)

    def sequences(self, all_users: bool = True) -> Sequences:
        """What a model may see now, of all users or of those that the alignment does not learn from."""
        users = self.users if all_users else np.intersect1d(self.users, self.split.encoder_users)
        if self.final:
            return self.split.refit_sequences(users, held_out=self.known.targets.users)
        return self.split.train_sequences(users)

    def rank(self, scorer, batch_size: int = 256):
        return self.test.rank(scorer, "Ranking", batch_size=batch_size)

    def blend(self, *scorers) -> Blend:
        return Blend.fit(scorers, self.known.histories, self.known.targets.targets)

    # texts -----------------------------------------------------------------------------------------------------------

    def alignment_arguments(self, **changes) -> AlignmentArguments:
        fields = {
            "backbone": self.settings.backbone,
            "text_layers": LAYERS,
            "text_dim": WIDTH,
            "text_ridge": RIDGE,
            "max_title_tokens": self.settings.max_title_tokens,
            "encode_batch_size": self.batch_size,
            "gain_users": self.settings.gain_users,
        }
        return AlignmentArguments(**fields | changes)

    @cached_property
    def backbone(self):
        """The frozen LLM, loaded once."""
        from rarec_hf.training.backbone_dtype import choose_dtype

        return load_backbone(resolve_backbone(self.settings.backbone), dtype=choose_dtype("auto")[0]).to(self.device)

    def random_backbone(self):
        """The same architecture with the weights that its class draws."""
        torch.manual_seed(0)
        model = type(self.backbone)(self.backbone.config)
        return model.to(self.device, self.backbone.dtype).eval()

    def reader(self, source: str) -> RARecForSequentialRecommendation:
        """A model around the `"llm"` or the `"random"` backbone that knows all items' text vectors."""
        backbone = self.backbone if source == "llm" else self.random_backbone()
        encoder = SASRecModel(SASRecConfig(n_items=self.n_items))
        model, _ = job.build_model(self.split, encoder, self.alignment_arguments(), job.TEXT_SCORE, backbone)
        file = self.cache / f"texts_{source}.safetensors"
        head = model.score_head
        if not file.exists():
            start = time.perf_counter()
            model.prepare_texts(range(self.n_items), self.batch_size)
            content = {"texts": model.catalogue_texts(), "mean": head.text_mean, "whitening": head.text_whitening}
            content["seconds"] = torch.tensor(time.perf_counter() - start)
            with replacing(file) as path:
                save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
        content = load_file(file)
        head.text_mean.copy_(content["mean"])
        head.text_whitening.copy_(content["whitening"])
        model._catalogue = Catalogue(content["texts"])
        return model

    def store_texts(self, model: RARecForSequentialRecommendation) -> None:
        """
        Gives the model the frozen LLM's states of all texts that measuring reads: of the users on whom gains are
        fitted and who are tested. Computed once for all rows and seeds; on a GPU not at all.
        """
        if self.device.type != "cpu":
            return
        stored = self._stored if self._stored is not None else StoredTexts(self.cache / "text_states", model)
        histories = [data.histories[row] for data in (self.known, self.test) for row in range(len(data))]
        plan = stored.plan([model.processor.user_text(history).ids for history in histories], TEXT_STATES_BYTES)
        print(plan, flush=True)
        stored.store(model, plan.to_store, self.settings.batch_size)
        model.stored_texts = self._stored = stored

    @cached_property
    def numbered(self) -> Split:
        """The same data, in which an item's text is its number."""
        table = self.split.interactions.items
        titles = [f"item {number}" for number in range(len(table.titles))]
        numbers = replace(table, titles=titles, attributes=[{} for _ in titles])
        return replace(self.split, interactions=replace(self.split.interactions, items=numbers))

    def text_vectors(self, source: str) -> Tensor:
        """
        `(n_items, width)`, of length 1: of the `"llm"` (its token embeddings and the layer at two thirds), of its
        token embeddings alone (`"layer0"`), of a `"random"` backbone, of `"minilm"`, or of word counts (`"tfidf"`).
        """
        if source == "layer0":
            texts = self.text_vectors("llm")
            return torch.nn.functional.normalize(texts[:, : texts.shape[1] // len(LAYERS)], dim=-1)
        file = self.cache / f"texts_{source}.safetensors"
        if source in ("minilm", "tfidf") and not file.exists():
            start = time.perf_counter()
            texts = self._minilm() if source == "minilm" else word_vectors(self.texts, len(LAYERS) * WIDTH)
            seconds = torch.tensor(time.perf_counter() - start)
            with replacing(file) as path:
                save_file({"texts": texts.contiguous(), "seconds": seconds}, path)
        elif not file.exists():
            self.reader(source)
        return load_file(file)["texts"]

    def _minilm(self) -> Tensor:
        states = text_states(minilm_folder(), self.texts, progress=True)
        head = EncoderPlusLLMScore(states.shape[1], WIDTH, 1)
        head.fit_whitening(states, RIDGE)
        return head.text(states)

    def seconds_of_texts(self, source: str) -> float:
        self.text_vectors(source)
        source = "llm" if source == "layer0" else source
        return float(load_file(self.cache / f"texts_{source}.safetensors")["seconds"])

    def text_scorer(self, source: str):
        """Cosine of an item's text vector and the recency-weighted mean of the history's; nothing is trained."""
        return pooled_text_scorer(self.text_vectors(source), POOLED, DECAY)

    # ID encoders -----------------------------------------------------------------------------------------------------

    def encoder(
        self,
        name: str,
        recipes: list[dict],
        seed: int,
        texts: Tensor | None = None,
        all_users: bool = True,
        stretched: bool = True,
    ) -> tuple[IDEncoderModel, dict]:
        """
        A trained encoder and facts about it, from the cache if it is there: the best of `recipes` on validation, at
        its best epoch; in the final stage this recipe again for as many epochs.

        Args:
            all_users (`bool`): trained on all users, or without the alignment users.
            stretched (`bool`): on a fraction of the users, more epochs in proportion, up to ten times as many.
        """
        stretch = min(10, round(1 / self.settings.fraction))  # about as many steps
        if stretched and stretch > 1:
            recipes = [
                recipe | {name: recipe[name] * stretch for name in ("encoder_epochs", "encoder_patience")}
                for recipe in recipes
            ]
        part = [] if self.settings.fraction == 1 else [self.settings.fraction]
        final, self.final = self.final, False  # what is chosen by validation may not have seen it
        try:
            tried = [self._tried(name, recipe, part, seed, texts, all_users) for recipe in recipes]
        finally:
            self.final = final
        folder, best = max(tried, key=lambda one: max(one[1]["validation_ndcg@10"]))
        seconds = [facts["seconds"] for _, facts in tried]
        if self.final:
            folder = folder.with_name(f"{folder.name}-final-{best['epochs']:g}")
            if not (folder / "facts.json").exists():
                start = time.perf_counter()
                arguments = EncoderArguments(**best["recipe"] | {"encoder_epochs": best["epochs"]})
                encoder, _ = self._train(arguments, seed, texts, all_users, None)
                _save(folder, encoder, best | {"seconds": round(time.perf_counter() - start, 1)})
            seconds.append(json.loads((folder / "facts.json").read_text("utf-8"))["seconds"])
        facts = best | {
            "tried": [{key: facts[key] for key in ("recipe", "validation_ndcg@10")} for _, facts in tried],
            "validation_ndcg@10": max(best["validation_ndcg@10"]),
            "seconds": round(sum(seconds), 1),
        }
        model_type = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
        return ID_ENCODERS[model_type].from_pretrained(folder).to(self.device).eval(), facts

    def _tried(
        self, name: str, recipe: dict, part: list, seed: int, texts: Tensor | None, all_users: bool
    ) -> tuple[Path, dict]:
        """The folder of one recipe's best epoch, and facts; each is kept by itself."""
        content = hashlib.sha256(json.dumps([recipe, all_users, *part], sort_keys=True).encode()).hexdigest()[:8]
        folder = self.cache / f"{name}-{content}-seed{seed}"
        if not (folder / "facts.json").exists():
            start = time.perf_counter()
            validation = self.validation(None if all_users else self.split.encoder_users)
            encoder, log = self._train(EncoderArguments(**recipe), seed, texts, all_users, validation)
            facts = {
                "recipe": recipe,
                "validation_ndcg@10": [round(entry["eval_ndcg@10"], 4) for entry in log if "eval_ndcg@10" in entry],
                "epochs": best_epoch(log),
                "parameters": sum(p.numel() for p in encoder.parameters()),
                "seconds": round(time.perf_counter() - start, 1),
            }
            _save(folder, encoder, facts)
        return folder, json.loads((folder / "facts.json").read_text("utf-8"))

    def _train(self, arguments: EncoderArguments, seed: int, texts: Tensor | None, all_users: bool, validation):
        with tempfile.TemporaryDirectory() as work:
            sequences = self.sequences(all_users)
            return train_id_encoder(self.split, sequences, validation, arguments, work, seed, None, True, texts)


def _save(folder: Path, encoder: IDEncoderModel, facts: dict) -> None:
    encoder.save_pretrained(folder)
    with replacing(folder / "facts.json") as path:
        path.write_text(json.dumps(facts, indent=1), "utf-8")


__all__ = ["DECAY", "LAYERS", "POOLED", "RIDGE", "WIDTH", "Settings", "World"]
