"""Fields of configs, and values in the files of a checkpoint, that are anything: what they say, or an error that names
them."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hostile_cases import anything, json_values, outcome, run, tiers
from hypothesis import strategies as st

from rarec_hf import RARecConfig
from rarec_hf.id_encoders import ID_ENCODERS

FIELDS = [field.name for field in dataclasses.fields(RARecConfig) if field.name in RARecConfig.__annotations__]
edges = st.sampled_from(
    [0, -1, 1, 2, 10**9, 0.0, 1.0, math.nan, math.inf, -math.inf, "", "bpr", [], [math.nan], True, None]
)


@tiers(150, 500)
def test_fields_of_our_config(n):
    def check(name, value):
        config = outcome("configs", lambda: RARecConfig(**{name: value}), names=(name,))
        if config is not None:
            found = getattr(config, name)
            assert not isinstance(found, float) or math.isfinite(found)
            again = RARecConfig.from_dict(json.loads(config.to_json_string()))
            assert getattr(again, name) == found or name in ("text_config", "id_encoder_config")

    run(n, check, name=st.sampled_from(FIELDS), value=st.one_of(edges, edges, json_values, anything))


@tiers(100, 300)
def test_fields_of_id_encoders(n):
    names = {kind: sorted(model.config_class.__annotations__) for kind, model in ID_ENCODERS.items()}
    shared = ["n_items", "hidden_size", "max_history", "dropout", "objective", "weighted_negatives"]
    pairs = [(kind, name) for kind, own in names.items() for name in (*own, *shared) if name != "model_type"]

    def check(pair, value):
        kind, name = pair
        fields = {"model_type": kind, name: value}
        config = outcome("configs", lambda: RARecConfig(id_encoder_config=fields), names=(name,))
        if config is not None:
            found = getattr(config.id_encoder_config, name)
            assert not isinstance(found, float) or math.isfinite(found)
            if type(value) is int and abs(value) < 100 and name != "n_users":
                small = {"n_items": 3, "hidden_size": 4} | fields
                outcome(
                    "ID encoders", lambda: ID_ENCODERS[kind](RARecConfig(id_encoder_config=small).id_encoder_config)
                )

    run(n, check, pair=st.sampled_from(pairs), value=st.one_of(edges, edges, json_values))


@pytest.mark.parametrize("fields", [{}, {"model_type": None}, {"model_type": []}, {"model_type": "nope"}, {"a": 1}])
def test_parts_without_a_type(fields):
    for part in ("text_config", "id_encoder_config"):
        with pytest.raises(ValueError, match=f"`{part}`"):
            RARecConfig(**{part: fields})
