"""The command line: our options first, YAML below flags, typing errors named."""

import pytest

from rarec_hf.training.command_line import parse_arguments


def test_defaults():
    data, encoder, alignment, training = parse_arguments([])
    assert data.interactions is None
    assert encoder.encoder_hidden_size == 64
    assert alignment.soft_prompt_position == "after_text"
    assert training.remove_unused_columns is False


def test_flags_override_the_yaml_file(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("learning_rate: 0.5\nk_core: 3\nfp32: true\nuse_soft_prompts: false\nid_encoder: null\n")
    data, encoder, alignment, training = parse_arguments(["--k_core", "5", "--config", str(config)])
    assert (data.k_core, training.learning_rate, encoder.id_encoder) == (5, 0.5, None)
    assert alignment.backbone_dtype == "float32"
    assert alignment.use_soft_prompts is False


@pytest.mark.parametrize(
    ("content", "message"), [("learnin_rate: 1\n", "unknown option 'learnin_rate'"), ("- 1\n", "`option: value`")]
)
def test_a_wrong_yaml_file_is_refused(tmp_path, content, message):
    config = tmp_path / "run.yaml"
    config.write_text(content)
    with pytest.raises(ValueError, match=message):
        parse_arguments([f"--config={config}"])


def test_a_missing_yaml_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        parse_arguments(["--config", "nowhere.yaml"])


def test_full_run_takes_all_samples():
    assert parse_arguments(["--full_run"])[2].alignment_samples == 0


def test_help_shows_our_options_first(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    text = capsys.readouterr().out
    assert (
        text.index("--interactions")
        < text.index("--id_encoder")
        < text.index("--backbone ")
        < text.index("--per_device_train")
    )
    assert text.index("--interactions") < 600


def test_an_unknown_choice_is_refused():
    with pytest.raises(SystemExit):
        parse_arguments(["--score", "cosine"])
