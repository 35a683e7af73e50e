"""What the stage stores is what training reads."""

import pytest
import torch
from tests_support import walk_tables

from rarec_hf.data import build_interactions, leave_one_out
from rarec_hf.training.arguments import AlignmentArguments
from rarec_hf.training.samples import AlignmentCollator
from rarec_hf.training.text_stage import draw_samples, store_texts


@pytest.mark.parametrize("together", [True, False], ids=["one pass", "one by one"])
def test_training_at_every_position_runs_no_stored_text(make_model, make_encoder, make_processor, tmp_path, together):
    split = leave_one_out(build_interactions(*walk_tables(n_items=12)), alignment_fraction=0.5, seed=0)
    processor = make_processor(max_history_items=6, history_block=3)
    model = make_model(objective="cross_entropy", soft_prompt_position="after_text")
    model.processor = processor
    if not together:
        model.spec = type(model.spec)(**(vars(model.spec) | {"every_position": "it takes no mask"}))
    arguments = AlignmentArguments(
        soft_prompt_position="after_text",
        every_position=True,
        alignment_samples=24,
        text_states_gib=1.0,
        text_states_folder=str(tmp_path),
    )
    data, _ = draw_samples(split, arguments, 0, processor)
    assert len(data.texts.texts) < len(data)
    plan = store_texts(model, data, arguments, progress=False)
    assert plan.over_budget == 0
    lengths = []
    model.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    batch = AlignmentCollator(processor, 8, texts=data.texts)([data[row] for row in range(len(data))])
    model.train()
    loss = model(**batch).loss
    places = max(data.texts.rows.count(text) for text in set(data.texts.rows))
    users, items = len(batch["user_readout_ids"]) * (places if together else 1), len(batch["item_readout_ids"])
    assert lengths == [users, items]  # the readouts alone
    model.stored_texts = None
    torch.testing.assert_close(model(**batch).loss, loss, atol=1e-5, rtol=0)
    assert len(lengths) > 4
