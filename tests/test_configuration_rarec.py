from __future__ import annotations

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, LlamaConfig, Qwen3Config

from rarec_hf import RARecConfig, SASRecConfig
from rarec_hf.configuration_rarec import FORMAT_VERSION, SCORES
from rarec_hf.scoring import SCORES as SCORE_CLASSES


def config(**fields):
    return RARecConfig(text_config=LlamaConfig(hidden_size=32), id_encoder_config=SASRecConfig(n_items=7), **fields)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("soft_prompt_position", "in_the_middle", "soft_prompt_position.*after_text.*in_the_middle"),
        ("score", "cosine", "score.*dot_product.*cosine"),
        ("objective", "hinge", "objective.*bpr.*hinge"),
        ("objective_temperature", 0.0, "`objective_temperature` must be above 0, got 0.0"),
        ("context_length", -1, "at least 0"),
        ("pooled_history", -1, "at least 0"),
        ("score_dim", 0, "at least 1"),
        ("pooling_decay", 0.0, "pooling_decay"),
        ("pooling_decay", 1.5, "pooling_decay"),
        ("alignment_temperature", 0.0, "alignment_temperature"),
        ("alignment_weight", -0.1, "alignment_weight"),
        ("format_version", FORMAT_VERSION + 1, "Update rarec_hf"),
        ("context_length", "four", "context_length.*expected int"),
        ("use_id_vectors", "no", "use_id_vectors.*expected bool"),
        ("backbone_address", 3, "backbone_address"),
    ],
)
def test_unknown_and_impossible_values_are_refused(field, value, message):
    with pytest.raises(StrictDataclassError, match=message):
        config(**{field: value})


def test_soft_prompts_made_of_nothing_are_refused():
    with pytest.raises(StrictDataclassError, match="use_soft_prompts=False"):
        config(use_id_vectors=False, context_length=0)
    assert config(use_id_vectors=False, context_length=0, use_soft_prompts=False).context_length == 0


def test_json_keeps_the_types_of_backbone_and_encoder(tmp_path):
    before = config(score="dot_product", context_length=3, alignment_temperature=0.2, backbone_address="path:/a")
    before.save_pretrained(tmp_path)
    for after in (RARecConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(after) is RARecConfig
        assert type(after.text_config) is LlamaConfig
        assert type(after.id_encoder_config) is SASRecConfig
        assert after.text_config.hidden_size == 32
        assert after.id_encoder_config.n_items == 7
        assert after.to_diff_dict() == before.to_diff_dict()


def test_plain_dictionaries_become_configurations():
    text, encoder = Qwen3Config(hidden_size=48).to_dict(), SASRecConfig(n_items=3).to_dict()
    made = RARecConfig(text_config=text, id_encoder_config=encoder)
    assert type(made.text_config) is Qwen3Config
    assert made.text_config.hidden_size == 48
    assert made.id_encoder_config.n_items == 3


def test_unknown_encoder_type_is_refused():
    with pytest.raises(ValueError, match="Unknown ID encoder type 'word2vec'"):
        RARecConfig(text_config=LlamaConfig(), id_encoder_config={"model_type": "word2vec"})


def test_every_score_of_the_config_exists():
    assert sorted(SCORES) == sorted(SCORE_CLASSES)


def test_whole_numbers_do_for_weights():
    assert config(alignment_weight=0, pooling_decay=1).pooling_decay == 1
