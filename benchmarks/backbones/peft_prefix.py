"""
PEFT's prefix tuning on the same tiny models: whether it runs forward and backward with a gradient in every layer.
"""

from __future__ import annotations

import torch

from .tiny import VOCABULARY, tiny_model


def runs_with_peft(model_type: str, length: int = 4) -> str:
    """`"yes"`, `"partly"` (some layers get no gradient) or `"no"`; correctness is not checked. Needs `peft`."""
    from peft import PrefixTuningConfig, get_peft_model

    try:
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length)
        model = get_peft_model(tiny_model(model_type), config)
        model.train()
        ids = torch.randint(5, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(1))
        model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
        gradient = next(p.grad for p in model.parameters() if p.requires_grad)
        if gradient is None or not bool(torch.isfinite(gradient).all()) or gradient.abs().max() == 0:
            return "no"
        layers = model.active_peft_config.num_layers
        if gradient.numel() % (length * layers * 2):
            return "partly"
        largest = gradient.view(length, layers * 2, -1).abs().amax((0, 2))
        return "yes" if all(largest[2 * i : 2 * i + 2].max() > 1e-10 for i in range(layers)) else "partly"
    except Exception:  # any reason at all counts as "does not run"
        return "no"


__all__ = ["runs_with_peft"]
