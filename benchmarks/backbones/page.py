"""The lines, the totals and the page `docs/backbones.md`."""

from __future__ import annotations

from collections import Counter

import transformers

from .checks import NOT, YES, Result

Row = tuple[Result, str, float]
INTRO = """# Backbones

Which causal LMs carry soft prompts, measured on a tiny random model of every type in `MODEL_FOR_CAUSAL_LM_MAPPING` of
Transformers {version}. Made by

    python -m benchmarks.backbones --write docs/backbones.md

{totals}

A model of a type in this table works whatever its name; one that is not here is measured when it is wrapped, in the
same way, and refused with a reason if it cannot. In the table:

- **layers**: cache layers with keys and values / cache layers; heads x width (key/value width where they differ), as
  measured.
- **exact**: [P; T] in one pass of the bare backbone equals P's keys and values as soft prompts, then T, to 1e-4 in
  fp32, and a dropped soft prompt fails. "attention function": for hybrids, against a replaced attention function.
- **gradients**: keys and values of every layer that has them get a gradient that is not zero.
- **padding**: left- and right-padded rows give the states of the rows alone.
- **windows**: under a window of 32 tokens the last of 48 sees the soft prompts in every layer, and text is read as by
  the bare backbone.
- **after text**: `soft_prompt_position="after_text"`; **every position**: readouts at several positions of one text
  share a pass.
- **checkpointing**: activation checkpointing gives the same states and gradients.
- **eager = sdpa**: both attention functions agree. **save, load**: a slim folder gives the same states again.
- **PEFT**: its prefix tuning (`task_type="CAUSAL_LM"`) runs forward and backward with a gradient in every layer; not
  checked for correctness.
"""
COLUMNS = {
    "layers": "layers", "exact": "exact", "gradients": "gradients", "padding": "padding", "windows": "windows",
    "after_text": "after text", "every_position": "every position", "checkpointing": "checkpointing",
    "eager_sdpa": "eager = sdpa", "save_and_load": "save, load",
}  # fmt: skip


def line(result: Result, peft: str, seconds: float) -> str:
    """One line of the console."""
    if result.status != "accepted":
        return f"{result.model_type}: {result.status}: {result.reason}"
    limits = [f"{COLUMNS[name]}: {value}" for name, value in result.checks.items() if value not in (YES, NOT)]
    return f"{result.model_type}: accepted; {'; '.join(limits)}" + (f"; PEFT {peft}" if peft else "")


def totals(rows: list[Row]) -> str:
    counts = Counter(result.status for result, _, _ in rows)
    built = len(rows) - counts["cannot be built"]
    text = f"{counts['accepted']} of {built} types that can be built are accepted, {counts['refused']} are refused"
    text += f", {counts['wrong']} fail a check" if counts["wrong"] else ""
    text += f"; {counts['cannot be built']} cannot be built from a small config." if len(rows) > built else "."
    if any(peft for _, peft, _ in rows):
        said = Counter(peft for _, peft, _ in rows)
        text += f" PEFT's prefix tuning runs on {said['yes']} of the same {built} ({said['partly']} more partly)."
    return text


def page(rows: list[Row]) -> str:
    accepted = [(result, peft) for result, peft, _ in rows if result.status == "accepted"]
    head = ["type", *COLUMNS.values(), "PEFT"]
    lines = [f"| {' | '.join(head)} |", "|" + " :--- |" * len(head)]
    for result, peft in accepted:
        cells = [f"`{result.model_type}`", *(result.checks.get(name, NOT) for name in COLUMNS), peft or NOT]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    parts = [INTRO.format(version=transformers.__version__, totals=totals(rows)), "\n## Accepted\n", *lines]
    for status, title in (("refused", "Refused"), ("cannot be built", "Cannot be built"), ("wrong", "Wrong")):
        named = [result for result, _, _ in rows if result.status == status]
        if named:
            parts += [f"\n## {title}\n", "| type | reason |", "| :--- | :--- |"]
            parts += [f"| `{r.model_type}` | {r.reason.replace('|', '/')} |" for r in named]
    return "\n".join(parts) + "\n"


__all__ = ["line", "page", "totals"]
