"""What every ID encoder must do, and each against an independent implementation with the same weights."""

from __future__ import annotations

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from tests_support import redraw
from transformers import AutoModel, BertConfig, BertModel, GPT2Config, GPT2Model

from rarec_hf import (
    BERT4RecConfig,
    BERT4RecModel,
    ComiRecConfig,
    ComiRecModel,
    GRU4RecConfig,
    GRU4RecModel,
    RARecConfig,
    RARecForSequentialRecommendation,
    SASRecConfig,
    SASRecModel,
    TextSASRecConfig,
    TextSASRecModel,
)

SIZES = {"n_items": 12, "hidden_size": 8, "max_history": 6}


def text_sasrec(**config):
    model = TextSASRecModel(TextSASRecConfig(**SIZES, text_dim=5, block="pre_norm", **config))
    texts = torch.randn(12, 5, generator=torch.Generator().manual_seed(9))
    model.set_texts(torch.nn.functional.normalize(texts, dim=-1))
    return model


MAKE = {
    "sasrec": lambda **c: SASRecModel(SASRecConfig(**SIZES, **c)),
    "sasrec_pre_norm": lambda **c: SASRecModel(SASRecConfig(**SIZES, block="pre_norm", **c)),
    "text_sasrec": text_sasrec,
    "text_sasrec_metric": lambda **c: text_sasrec(text_metric=True, id_dropout=0.2, **c),
    "comirec_sa": lambda **c: ComiRecModel(ComiRecConfig(**SIZES, interests=3, attention_size=16, **c)),
    "comirec_dr": lambda **c: ComiRecModel(ComiRecConfig(**SIZES, variant="dynamic_routing", interests=3, **c)),
    "gru4rec": lambda **c: GRU4RecModel(GRU4RecConfig(**SIZES, **c)),
    "bert4rec": lambda **c: BERT4RecModel(BERT4RecConfig(**SIZES, **c)),
}
EACH = pytest.mark.parametrize("kind", MAKE)
HISTORY = torch.tensor([[3, 1, 4, 1, 5, 9], [7, -1, -1, -1, -1, -1], [2, 6, 11, -1, -1, -1]])


def encoder(kind, seed=0, **config):
    model = MAKE[kind](**config)
    redraw(model, seed, std=0.5)
    return model.eval()


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@EACH
def test_vectors_after_each_item_are_those_of_the_history_cut_there(kind):
    """So nothing later is seen, and padding changes nothing."""
    model = encoder(kind)
    everywhere = model.position_vectors(HISTORY)
    assert everywhere.shape == (3, 6, 3 if "comirec" in kind else 1, 8 + 5 * ("text" in kind))
    assert model.prompt_vectors(everywhere).shape[-1] == 8
    for row, history in enumerate(HISTORY):
        for end in range(1, int((history >= 0).sum()) + 1):
            close(everywhere[row, end - 1], model.user_vectors(history[None, :end])[0])
    close(model.user_vectors(HISTORY.flip(0)), model.user_vectors(HISTORY).flip(0))


@EACH
def test_every_item_of_the_history_counts(kind):
    model = encoder(kind)
    vectors = model.user_vectors(HISTORY[:1])
    for place in range(6):
        other = HISTORY[:1].clone()
        other[0, place] = 8
        assert (model.user_vectors(other) - vectors).abs().max() > 1e-3


@EACH
def test_an_empty_history_gives_zeros_and_interests_differ(kind):
    model = encoder(kind)
    of_nothing = model.user_vectors(torch.full((1, 2), -1))
    assert of_nothing.shape[1] == (3 if "comirec" in kind else 1) and not bool(of_nothing.any())
    vectors = model.user_vectors(HISTORY)[0]
    for one in range(1, len(vectors)):
        assert (vectors[one] - vectors[0]).abs().max() > 1e-3


def train(model, history, labels, steps, negatives=None, learning_rate=0.02):
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        drawn = None if negatives is None else torch.randint(0, 12, (negatives,))
        loss = model(history, labels=labels, negatives=drawn).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "objective", "steps"),
    [
        *((kind, "cross_entropy", {"comirec_dr": 300, "bert4rec": 150}.get(kind, 80)) for kind in MAKE),
        *(("comirec_sa", objective, 80) for objective in ("sampled", "gbce", "bpr")),
    ],
)
def test_it_learns_which_items_go_together(kind, objective, steps):
    """Two halves of the catalogue that nobody mixes: what is recommended beside the history is of its half."""
    torch.manual_seed(0)
    rows = torch.stack([torch.randperm(6) + 6 * (n % 2) for n in range(60)])
    cut = torch.arange(6) >= (3 + torch.arange(60) % 4).unsqueeze(1)  # histories of different lengths
    history, labels = rows.masked_fill(cut, -1)[:, :-1], rows.masked_fill(cut, -100)[:, 1:]
    model = MAKE[kind](dropout=0.0, objective="cross_entropy" if objective == "sampled" else objective)
    rate = 0.005 if kind == "bert4rec" else 0.02
    train(model, history, labels, steps, None if objective == "cross_entropy" else 6, rate)
    seen = torch.tensor([[0, 3, 5], [8, 10, 6]])
    scores = model.scores(model.user_vectors(seen), model.item_vectors()).scatter(1, seen, -torch.inf)
    best = scores.topk(2).indices
    assert bool((best[0] < 6).all()) and bool((best[1] >= 6).all())


@pytest.mark.parametrize("kind", ["sasrec", "sasrec_pre_norm", "text_sasrec", "gru4rec"])
def test_it_learns_who_follows_whom(kind):
    """Order matters to these; an interest of ComiRec is a mean."""
    torch.manual_seed(0)
    history = torch.tensor([[(start + step) % 12 for step in range(6)] for start in range(12)])
    model = train(MAKE[kind](dropout=0.0), history, (history + 1) % 12, 150)
    scores = model.scores(model.user_vectors(torch.tensor([[4, 5, 6], [10, 11, -1]])), model.item_vectors())
    assert scores.argmax(1).tolist() == [7, 0]


@EACH
def test_every_parameter_gets_a_gradient(kind):
    model = encoder(kind)
    model(HISTORY, labels=torch.where(HISTORY >= 0, (HISTORY + 1) % 12, -100)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), name


def test_sampled_cross_entropy_by_hand():
    """Against its own negatives without the target among them, each lowered by the log of its chance."""
    model = encoder("sasrec")
    history, labels = HISTORY[2:, :2], torch.tensor([[6, 11]])
    negatives, log_q = torch.tensor([3, 11, 0]), torch.linspace(-3, -1, 12)
    vectors, items = model.position_vectors(history)[0, :, 0].detach(), model.item_vectors().detach()
    expected = 0.0
    for vector, label, allowed in ((vectors[0], 6, [3, 11, 0]), (vectors[1], 11, [3, 0])):
        logits = [float(vector @ items[i] - log_q[i]) for i in [label, *allowed]]
        expected += math.log(sum(map(math.exp, logits))) - logits[0]
    loss = model(history, labels=labels, negatives=negatives, log_q=log_q).loss
    assert loss.item() == pytest.approx(expected / 2, rel=1e-5)


def test_the_target_teaches_its_best_interest():
    model = encoder("comirec_sa")
    vectors, targets = torch.randn(5, 3, 8), torch.tensor([0, 3, 5, 7, 11])
    chosen = model._of_interest(vectors, targets)
    for row, target in enumerate(targets):
        scores = vectors[row] @ model.item_vectors()[target]
        assert torch.equal(chosen[row], vectors[row, scores.argmax()])


@EACH
def test_save_and_load(kind, tmp_path):
    model = encoder(kind)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is type(model)
    assert torch.equal(again.user_vectors(HISTORY), model.user_vectors(HISTORY))


@EACH
def test_it_goes_into_the_llm(kind, make_backbone, make_processor, tmp_path):
    """K interests become K soft prompts; the folder finds the right class again."""
    torch.manual_seed(0)
    backbone = make_backbone()
    backbone.save_pretrained(tmp_path / "lm")
    model = RARecForSequentialRecommendation.from_backbone(
        backbone, encoder(kind), context_length=2, backbone_address=f"path:{tmp_path / 'lm'}"
    )
    model.processor = make_processor()
    prompts = model.prompts_of("user", model.id_encoder.user_vectors(HISTORY[:1]))
    assert len(prompts) == 2 + (3 if "comirec" in kind else 1)
    model.index_catalogue(progress=False)
    model.save_pretrained(tmp_path / "slim")
    again = RARecForSequentialRecommendation.from_pretrained(tmp_path / "slim")
    assert type(again.id_encoder) is type(model.id_encoder)
    assert again.recommend(["i1", "i5"], k=3) == model.recommend(["i1", "i5"], k=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ComiRecConfig(n_items=3, variant="attention"), "`variant` must be one of"),
        (lambda: ComiRecConfig(n_items=3, interests=0), "must be at least 1"),
        (lambda: GRU4RecConfig(n_items=3, objective="bpr2"), "`objective` must be one of"),
        (lambda: RARecConfig(id_encoder_config={"model_type": "mf"}), "Unknown ID encoder type 'mf'"),
    ],
)
def test_impossible_configs_are_refused(make, message):
    with pytest.raises((StrictDataclassError, ValueError), match=message):
        make()


def test_objectives_over_pairs_need_negatives():
    model = encoder("gru4rec", objective="gbce")
    with pytest.raises(ValueError, match="'gbce' needs sampled `negatives`"):
        model(HISTORY, labels=torch.where(HISTORY >= 0, 1, -100))
    with pytest.raises(ValueError, match="No label is given"):
        model(HISTORY, labels=torch.full_like(HISTORY, -100))
    with pytest.raises(ValueError, match="padded on the right"):
        model.user_vectors(torch.tensor([[-1, 3]]))


# independent implementations -----------------------------------------------------------------------------------------


def test_comirec_sa_agrees_with_torch_rechub():
    layers = pytest.importorskip("torch_rechub.basic.layers")
    model = encoder("comirec_sa")
    extract = model.extract
    with torch.no_grad():
        extract.position_embeddings.weight.zero_()  # theirs has none
    theirs = layers.MultiInterestSA(8, 3)
    theirs.W1, theirs.W2 = (torch.nn.Parameter(w.weight.T.clone()) for w in (extract.hidden, extract.weights))
    mask = (HISTORY >= 0).float().unsqueeze(-1)
    # theirs has 4 times the width for the hidden layer; the product is the same for any
    close(model.user_vectors(HISTORY), theirs(model.embedded(HISTORY), mask))


def test_comirec_dr_agrees_with_torch_rechub(monkeypatch):
    """Theirs takes the softmax over the history; the paper (algorithm 1) and the authors' code over the interests."""
    layers = pytest.importorskip("torch_rechub.basic.layers")
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(layers.F, "softmax", lambda logits, dim: softmax(logits, dim=1))
    model = encoder("comirec_dr")
    theirs = layers.CapsuleNetwork(8, 6, bilinear_type=2, interest_num=3)
    theirs.w = torch.nn.Parameter(model.extract.transform.reshape(1, 6, 24, 8).clone())
    close(model.user_vectors(HISTORY), theirs(model.embedded(HISTORY), (HISTORY >= 0).long()))


def test_sasrec_agrees_with_torch_rechub():
    """The same weights give the same scores of the whole catalogue at every position."""
    sasrec = pytest.importorskip("torch_rechub.models.matching.sasrec")
    features = pytest.importorskip("torch_rechub.basic.features")
    names = ("seq", "pos", "neg")
    columns = [
        features.SequenceFeature(n, 13, 8, pooling="concat", shared_with=None if n == "seq" else "seq") for n in names
    ]
    model = encoder("sasrec", num_attention_heads=2)
    theirs = sasrec.SASRec(columns, max_len=6, num_blocks=2, num_heads=2).eval()
    own, table = model.state_dict(), theirs.item_emb.embed_dict["seq"].weight
    with torch.no_grad():
        table[0] = 0.0  # theirs counts items from 1, 0 pads
        table[1:] = model.item_vectors()
        theirs.position_emb.weight.copy_(model.position_embeddings.weight)
        theirs.last_layernorm.load_state_dict(model.norm.state_dict())
        for number, block in enumerate(model.blocks):
            theirs.attention_layernorms[number].load_state_dict(block.attention_norm.state_dict())
            theirs.attention_layers[number].load_state_dict(block.attention.state_dict())
            theirs.forward_layernorms[number].load_state_dict(block.feed_forward_norm.state_dict())
            for conv, linear in (("conv1", 0), ("conv2", 3)):
                getattr(theirs.forward_layers[number], conv).weight.copy_(
                    own[f"blocks.{number}.feed_forward.{linear}.weight"].unsqueeze(-1)
                )
                getattr(theirs.forward_layers[number], conv).bias.copy_(
                    own[f"blocks.{number}.feed_forward.{linear}.bias"]
                )
        states = theirs.seq_forward({"seq": HISTORY + 1}, table[HISTORY + 1])
    real = HISTORY >= 0
    close((states @ table[1:].T)[real], (model.states(HISTORY) @ model.item_vectors().T)[real], 1e-4)


def test_sasrec_pre_norm_agrees_with_gpt2():
    model = encoder("sasrec_pre_norm")
    theirs = GPT2Model(
        GPT2Config(
            vocab_size=1,
            n_positions=6,
            n_embd=8,
            n_layer=2,
            n_head=2,
            activation_function="gelu",
            attn_implementation="eager",
        )
    ).eval()
    own = model.state_dict()
    with torch.no_grad():
        theirs.wpe.weight.copy_(model.position_embeddings.weight)
        theirs.ln_f.load_state_dict(model.norm.state_dict())
        for number, block in enumerate(theirs.h):
            name = f"blocks.layers.{number}."
            for module, (weight, bias) in {
                block.attn.c_attn: ("self_attn.in_proj_weight", "self_attn.in_proj_bias"),
                block.attn.c_proj: ("self_attn.out_proj.weight", "self_attn.out_proj.bias"),
                block.mlp.c_fc: ("linear1.weight", "linear1.bias"),
                block.mlp.c_proj: ("linear2.weight", "linear2.bias"),
                block.ln_1: ("norm1.weight", "norm1.bias"),
                block.ln_2: ("norm2.weight", "norm2.bias"),
            }.items():
                value = own[name + weight]
                module.weight.copy_(value.T if value.dim() == 2 else value)
                module.bias.copy_(own[name + bias])
    states = theirs(inputs_embeds=model.item_embeddings(HISTORY[:1]) * 8**0.5).last_hidden_state
    close(states, model.states(HISTORY[:1]), 1e-4)


def test_bert4rec_agrees_with_bert():
    model = encoder("bert4rec")
    theirs = BertModel(
        BertConfig(
            vocab_size=13, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            hidden_act="gelu", max_position_embeddings=7, type_vocab_size=1, layer_norm_eps=1e-5,
        ),
        add_pooling_layer=False,
    ).eval()  # fmt: skip
    own = model.state_dict()
    with torch.no_grad():
        theirs.embeddings.word_embeddings.weight.copy_(torch.cat([model.item_vectors(), model.mask_embedding[None]]))
        theirs.embeddings.position_embeddings.weight.copy_(model.position_embeddings.weight)
        theirs.embeddings.token_type_embeddings.weight.zero_()
        theirs.embeddings.LayerNorm.load_state_dict(model.embedding_norm.state_dict())
        for number, layer in enumerate(theirs.encoder.layer):
            name = f"blocks.layers.{number}."
            attention = layer.attention.self
            for place, module in enumerate((attention.query, attention.key, attention.value)):
                module.weight.copy_(own[name + "self_attn.in_proj_weight"].chunk(3)[place])
                module.bias.copy_(own[name + "self_attn.in_proj_bias"].chunk(3)[place])
            for module, source in {
                layer.attention.output.dense: "self_attn.out_proj",
                layer.attention.output.LayerNorm: "norm1",
                layer.intermediate.dense: "linear1",
                layer.output.dense: "linear2",
                layer.output.LayerNorm: "norm2",
            }.items():
                module.weight.copy_(own[f"{name}{source}.weight"])
                module.bias.copy_(own[f"{name}{source}.bias"])
        tokens = torch.tensor([[2, 6, 11, 12]])  # a history and the mask
        states = theirs(tokens, position_ids=torch.tensor([[3, 2, 1, 0]])).last_hidden_state
        close(model.transform(states[:, -1]), model.user_vectors(HISTORY[2:])[:, 0], 1e-4)


def test_gru4rec_agrees_with_cells_by_hand():
    """The update and reset gates of Cho et al. (2014), as the paper has them."""
    model, state = encoder("gru4rec"), torch.zeros(8)
    gru = model.gru
    for item in HISTORY[2, :3]:
        x = model.item_vectors()[item]
        r_x, z_x, n_x = (gru.weight_ih_l0 @ x + gru.bias_ih_l0).chunk(3)
        r_h, z_h, n_h = (gru.weight_hh_l0 @ state + gru.bias_hh_l0).chunk(3)
        update, candidate = torch.sigmoid(z_x + z_h), torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        state = update * state + (1 - update) * candidate
    close(model.user_vectors(HISTORY[2:])[0, 0], state)


def test_an_item_that_nobody_chose_stands_where_its_text_puts_it():
    """Users go from a to b; item 11 has b's text and is in no history."""
    torch.manual_seed(0)
    texts = torch.eye(5)[[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 1]]
    model = TextSASRecModel(TextSASRecConfig(**SIZES, text_dim=5, text_gain=0.0, dropout=0.0))
    model.set_texts(texts)
    history = torch.tensor([[a] for a in (0, 1, 2, 6, 7, 8)])
    labels = torch.tensor([[3], [4], [5], [9], [10], [9]])
    train(model, history, labels, 80)
    plain = train(SASRecModel(SASRecConfig(**SIZES, dropout=0.0)), history, labels, 80)

    def place(of):
        scores = of.scores(of.user_vectors(torch.tensor([[1]])), of.item_vectors())[0]
        return int((scores > scores[11]).sum())

    assert place(model) < 6 <= place(plain)  # of 12


def test_text_vectors_are_checked_and_saved(tmp_path):
    model = encoder("text_sasrec")
    with pytest.raises(ValueError, match=r"finite text vectors of shape \(12, 5\), one an item, got \(11, 5\)"):
        model.set_texts(torch.zeros(11, 5))
    with pytest.raises(ValueError, match="finite text vectors"):
        model.set_texts(torch.full((12, 5), float("nan")))
    model.save_pretrained(tmp_path)
    again = TextSASRecModel.from_pretrained(tmp_path)
    close(again.item_vectors(), model.item_vectors(), 0)


def test_likeness_of_texts_is_part_of_the_score():
    model = encoder("text_sasrec", text_gain=3.0, pooled_history=2, pooling_decay=0.5)
    plain = encoder("text_sasrec", text_gain=0.0)
    history = HISTORY[:1, :4]

    def scores(of):
        return of.scores(of.user_vectors(history), of.item_vectors())[0]

    pooled = torch.nn.functional.normalize(model.texts[1] + 0.5 * model.texts[4], dim=-1)  # the last two
    close(scores(model) - scores(plain), 3 * model.texts @ pooled)
    items = torch.tensor([4, 0, 11])
    close(model.candidate_vectors(items), model.item_vectors()[items])


def test_weighted_negatives_estimate_the_full_softmax():
    """Over many draws the mean of the sampled partition is the whole one."""
    model, plain = encoder("sasrec", weighted_negatives=True), encoder("sasrec")
    history, labels = HISTORY[2:, :2], torch.tensor([[-100, 11]])
    full = plain(history, labels=labels).loss
    others = torch.arange(11)
    torch.testing.assert_close(model(history, labels=labels, negatives=others).loss, full)  # each other item once
    assert (plain(history, labels=labels, negatives=others[:5]).loss - full).abs() > 0.1  # fewer: another task
    vectors = plain.user_vectors(history)[:, 0]
    scores = (vectors @ plain.item_vectors().T)[0]
    generator = torch.Generator().manual_seed(0)
    for log_q in (None, torch.linspace(-1, 1, 12).log_softmax(0)):
        chances = torch.ones(11) if log_q is None else log_q[:11].exp()
        log_chances = (chances / chances.sum()).log() if log_q is not None else None
        partitions = []
        for _ in range(400):
            drawn = torch.multinomial(chances, 5, replacement=True, generator=generator)
            given = None if log_q is None else torch.cat([log_chances, torch.zeros(1)])
            loss = model(history, labels=labels, negatives=drawn, log_q=given).loss
            partitions.append((loss + scores[11]).exp())
        assert torch.stack(partitions).mean().item() == pytest.approx(scores.exp().sum().item(), rel=0.05)
    with pytest.raises((StrictDataclassError, ValueError), match="belongs to 'cross_entropy'"):
        SASRecConfig(n_items=3, objective="bpr", weighted_negatives=True)


def test_a_learned_metric_begins_as_the_plain_cosine_and_learns_which_differences_do_not_matter():
    torch.manual_seed(0)
    fresh, plain = text_sasrec(text_metric=True, text_gain=3.0), text_sasrec(text_gain=3.0)
    fresh.load_state_dict(plain.state_dict(), strict=False)
    close(fresh.eval().item_vectors(), plain.eval().item_vectors())
    close(fresh.user_vectors(HISTORY), plain.user_vectors(HISTORY))
    # Texts whose first direction says what goes together and whose others are noise
    texts = torch.randn(12, 5, generator=torch.Generator().manual_seed(1))
    texts[:, 0] = torch.where(torch.arange(12) < 6, 1.0, -1.0)
    fresh.set_texts(texts)
    with torch.no_grad():
        fresh.item_embeddings.weight.zero_()
        fresh.text_projection.weight.zero_()
    for name, parameter in fresh.named_parameters():
        parameter.requires_grad_(name == "metric.weight")
    rows = torch.stack([torch.randperm(6) + 6 * (n % 2) for n in range(60)])
    before = torch.nn.functional.normalize(texts, dim=-1)
    train(fresh, rows[:, :5], rows[:, 1:], 100)
    after = fresh.measured(fresh.texts)

    def margin(vectors):  # likeness within the halves less that between them
        cosines = vectors @ vectors.T
        return (cosines[:6, :6].mean() - cosines[:6, 6:].mean()).item()

    assert margin(after) > margin(before) + 0.2
    close(after.norm(dim=-1), torch.ones(12))


def test_a_metric_and_its_gain_are_saved(tmp_path):
    model = encoder("text_sasrec_metric")
    with torch.no_grad():
        model.log_gain.fill_(0.3)
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert again.config.text_metric and again.config.id_dropout == 0.2
    close(again.user_vectors(HISTORY), model.user_vectors(HISTORY), 0)
    close(again.item_vectors(), model.item_vectors(), 0)


def test_in_training_the_text_of_an_item_that_stands_often_is_read_once(monkeypatch):
    config = TextSASRecConfig(**SIZES, text_dim=5, text_metric=True, dropout=0.0, attention_dropout=0.0)
    model, read = TextSASRecModel(config), []
    model.set_texts(torch.randn(config.n_items, 5))
    measured = model.measured
    monkeypatch.setattr(model, "measured", lambda texts: read.append(texts[..., 0].numel()) or measured(texts))
    history = torch.tensor([[1, 2, 1, 2], [2, 2, 3, -1]])
    batch = {"labels": torch.tensor([[2, 1, 2, 1], [2, 3, 1, -100]]), "negatives": torch.tensor([4, 4, 5])}
    found = []
    for training in (False, True):
        model.train(training).zero_grad()
        loss = model(history, **batch).loss
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for every, once in zip(*found, strict=True):
        close(every, once)
    assert read == [8, 7, 3, 4, 3, 2]  # history, targets, negatives


@torch.no_grad()
def test_the_texts_of_all_items_are_compared_anew_only_after_a_change(monkeypatch):
    model, computed = encoder("text_sasrec_metric").eval(), []
    measured = model.measured
    monkeypatch.setattr(model, "measured", lambda texts: computed.append(len(texts)) or measured(texts))

    def expected():
        vectors = model.item_embeddings.weight + model.text_projection(model.texts)
        return torch.cat([vectors, measured(model.texts)], -1)

    def check(times: int):
        for _ in range(3):
            close(model.item_vectors(), expected(), 0)
        assert len(computed) == times

    check(1)
    model.metric.weight.normal_()
    check(2)
    model.set_texts(torch.randn(model.texts.shape))
    check(3)
    model.load_state_dict(encoder("text_sasrec_metric").state_dict())
    check(4)
    model.add_items(torch.tensor([[0]]), torch.randn(1, model.config.text_dim))
    check(5)
    model.double()
    check(6)
    with torch.enable_grad():  # in training the metric learns from every use
        model.train()
        model.item_vectors().sum().backward()
        model.item_vectors().sum().backward()
    assert len(computed) == 8 and model.metric.weight.grad.abs().sum() > 0


def test_id_dropout_looks_items_up_by_their_text_alone_in_training_only():
    model = encoder("text_sasrec", id_dropout=0.5)
    items = torch.arange(12).repeat(100)
    text, whole = model.text_projection(model.texts[items]), model.item_embeddings(items)
    close(model.look_up(items), text + whole)
    torch.manual_seed(0)
    left = model.train().look_up(items) - text
    kept = (left.abs() > 1e-6).any(-1)
    close(left, whole * kept.unsqueeze(-1))
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.05)
    with pytest.raises((StrictDataclassError, ValueError), match="id_dropout"):
        TextSASRecConfig(**SIZES, id_dropout=1.0)
