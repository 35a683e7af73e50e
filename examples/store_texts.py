"""Computes the frozen backbone's states of the texts that a training run reads, once, in as many processes as wished.

    accelerate launch --multi_gpu --num_processes 4 examples/store_texts.py --text_states_gib 20 [options of train.py]
    torchrun --nproc_per_node 2 examples/store_texts.py --text_states_gib 20 [options of train.py]     # on CPUs

`examples/train.py` with the same options then starts at once, and so do runs with another ablation or other training
settings; another seed draws other samples, and computes only the texts that are new. A run that was cut off goes on
where it stopped.
"""

from __future__ import annotations

from rarec_hf import SASRecConfig, SASRecModel
from rarec_hf.training import job
from rarec_hf.training.command_line import parse_arguments
from rarec_hf.training.text_stage import draw_samples, store_texts


def main() -> None:
    data, _, alignment, training = parse_arguments(description=__doc__.splitlines()[0])
    if not alignment.text_states_gib:
        raise SystemExit("Say how much may be stored: --text_states_gib 20, for instance.")
    is_main = training.process_index == 0
    split = job.load_data(data, training.seed)
    # Text states depend on no ID encoder: an untrained one stands in its place
    encoder = SASRecModel(SASRecConfig(n_items=split.interactions.n_items))
    model, backbone_line = job.build_model(split, encoder, alignment, "dot_product")
    if is_main:
        print(f"Backbone: {backbone_line}", flush=True)
    samples, _ = draw_samples(split, alignment, training.seed, model.processor)
    store_texts(model, samples, alignment, progress=not training.disable_tqdm)
    if is_main:
        stored = model.stored_texts
        print(f"Stored: {len(stored)} texts, {stored.n_bytes / 2**30:.2f} GiB in {stored.folder}")


if __name__ == "__main__":
    main()
