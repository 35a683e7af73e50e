"""The page that `benchmarks/speed.py` makes of its figures."""

from __future__ import annotations

import platform
import statistics

import torch
from transformers import __version__

from benchmarks.speed_variants import Setting, load

# what, over what, target, units of the first and of the second
TARGETS = (
    ("paper's layout, step, without the alignment loss", "PEFT step", 0.68),
    ("paper's layout, step, alignment loss on known text states", "PEFT step", 0.75),
    ("after_text, step, with the text pass", "PEFT step", 0.35),
    ("after_text, step, stored states", "PEFT step", 0.06),
    ("after_text, step, stored states, 32 texts, a text", "PEFT step, a text", 0.06),
    ("every position, stored states, a target", "PEFT step, a text", 0.03),
    ("answer, 23 K items", "bare forward", 1.08),
    ("answer after one new title, kept states", "answer, 23 K items", 0.20),
    ("answer, 23 K items", "generate 10 beams x 4 tokens", 0.20),
    ("best items", "product and top-k", 1.3),
)


def page(arguments, setting: Setting, seconds, memory, peaks, peak: float, profile, scoring_width: int) -> str:
    """
    Args:
        seconds: of each round, by variant.
        memory: peak memory above the weights of two training steps, in GiB.
        peaks: of `best_items`, in GiB, for a quarter of the users and for all.
        peak: operations a second of a large product.
        profile: shares of the heaviest operations, by variant.
    """
    device = torch.cuda.get_device_name() if setting.device == "cuda" else f"{torch.get_num_threads()} threads"
    lines = [
        "# Speed",
        "",
        f"`python -m benchmarks.speed --backbone {arguments.backbone} --dtype {arguments.dtype} "
        f"--device {arguments.device} --rounds {arguments.rounds} --scoring_rounds {arguments.scoring_rounds}`",
        "",
        f"{setting.batch} texts of 124 tokens, readout of 4, {setting.soft_prompts} soft prompts; {device}, torch "
        f"{torch.__version__}, transformers {__version__}, {platform.machine()}. Ratios are medians over rounds of "
        "the ratio within a round. The PEFT step has the language-modelling head and loss; ours never do.",
        "",
        "| what | over | ratio | smallest to largest | target | met |",
        "| :--- | :--- | ---: | ---: | ---: | :--- |",
    ]
    for what, over, target in TARGETS:
        ratios = [a / b for a, b in zip(seconds[what], seconds[over], strict=True)]
        ratio = statistics.median(ratios)
        met = "yes" if ratio <= target else "no"
        lines.append(f"| {what} | {over} | {ratio:.3f} | {min(ratios):.3f} to {max(ratios):.3f} | {target} | {met} |")
    share = memory["after_text"] / memory["peft"]
    lines += [
        f"| peak memory above the weights, after_text step | PEFT step | {share:.3f} | | 0.25 | "
        f"{'yes' if share <= 0.25 else 'no'} |",
        "",
        f"Peak memory above the loaded weights of two training steps: PEFT {memory['peft']:.2f} GiB, paper's layout "
        f"{memory['paper']:.2f}, after_text {memory['after_text']:.2f}. Best items: {peaks[0]:.2f} GiB for "
        f"{arguments.scoring_users // 4:,} users, {peaks[1]:.2f} for {arguments.scoring_users:,}, of "
        f"{arguments.scoring_items:,} items x {scoring_width}.",
        "",
        "| | median s | texts/s | tokens/s | share of matmul peak |",
        "| :--- | ---: | ---: | ---: | ---: |",
    ]
    config = load(setting).config.get_text_config(decoder=True)
    # Multiplications of a token in the layers' matrices, attention and head left out
    width = config.num_key_value_heads * config.head_dim
    a_layer = config.hidden_size * (2 * config.num_attention_heads * config.head_dim + 2 * width)
    a_token = 2 * config.num_hidden_layers * (a_layer + 3 * config.hidden_size * config.intermediate_size)
    passes = {"bare forward": 1, "PEFT step": 2, "paper's layout, step, without the alignment loss": 2,
              "answer, 23 K items": 1, "after_text, step, with the text pass": 1}  # fmt: skip
    for name, values in seconds.items():
        median = statistics.median(values)
        if "a target" in name or "a text" in name or name in ("best items", "product and top-k"):
            lines.append(f"| {name} | {median:.4f} | | | |")
            continue
        tokens = setting.batch * 128 / median
        used = f"{passes[name] * tokens * a_token / peak:.0%}" if name in passes else ""
        lines.append(f"| {name} | {median:.3f} | {setting.batch / median:.1f} | {tokens:.0f} | {used} |")
    lines += [
        "",
        f"The machine's matmul peak, a product of 2,048 x 2,048 matrices: {peak / 1e9:.0f} GFLOP/s. The share counts "
        "the layers' matrices only, forward and, for the steps through the whole text, backward to their inputs.",
        "",
        "Where the time goes, from one profiled run each (`mm` are the products with the backbone's matrices):",
        "",
        "| | heaviest operations |",
        "| :--- | :--- |",
        *(
            f"| {name} | {', '.join(f'{key} {share:.0%}' for key, share in shares.items())} |"
            for name, shares in profile.items()
        ),
        "",
    ]
    return "\n".join(lines)


__all__ = ["page"]
