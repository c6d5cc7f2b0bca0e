"""LoRA on a pretrained language model: time per step against a plain transformers step, and the validation loss it gains.

Both train the same adapter on the same samples of ml-100k, alternating step by step in one process: ours lays out prompts
of like length and computes logits at the tokens of the targets only; the rival, as in common fine-tuning scripts, takes
the samples in random order, pads them to the longest and lets the model compute its own loss from ``labels``, -100 at the
prompts, with logits at every position. Timed is one step (loss, gradients, AdamW); the ratio is of the medians.

Then ours trains on alone up to ``--steps`` steps. The validation loss is the mean cross-entropy over the tokens of the
target titles of the first ``--valid_users`` users.
"""

import argparse
import itertools
from statistics import median
from time import perf_counter

import torch
from machine import describe_machine, print_json
from recbole import utils
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_logger, init_seed

import recbole_gr  # noqa: F401  makes get_model find ours
from recbole_gr.language_model import parameter_counts


def make_model(args):
    """A model and its training and validation data."""
    settings = {
        "llm": args.llm,
        "lora_rank": args.lora_rank,
        "MAX_ITEM_LIST_LENGTH": args.length,
        "train_batch_size": args.batch,
        "precision": args.precision,
        "cache_dir": args.cache_dir,
        "show_progress": False,
        "state": "WARNING",
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
    }
    config = Config("LLMasRS", "ml-100k", config_dict=settings)
    init_seed(config["seed"], True)
    init_logger(config)
    train_data, valid_data, _ = data_preparation(config, create_dataset(config))
    return utils.get_model("LLMasRS")(config, train_data._dataset).to(config["device"]), train_data, valid_data


def validation_loss(model, valid_data, users, batch):
    """Mean cross-entropy per token of the target titles."""
    dataset = valid_data._dataset
    total = tokens = 0
    model.eval()
    with torch.no_grad():
        for rows in torch.arange(min(users, len(dataset))).split(batch):
            interaction = dataset[rows].to(model.device)
            here = model.layout.piece_length[model.layout.first_target + interaction[model.POS_ITEM_ID]].sum()
            total += float(model.calculate_loss(interaction) * here)
            tokens += int(here)
    model.train()
    return total / tokens


def plain_loss(model, interaction):
    """The rival's: padded samples, labels, the model's own loss."""
    names = (model.ITEM_SEQ, model.ITEM_SEQ_LEN, model.POS_ITEM_ID)
    laid = model.layout(*(interaction[name] for name in names))
    place = torch.arange(laid.tokens.shape[1], device=laid.tokens.device)
    end = (laid.prompt_lengths + laid.target_lengths).unsqueeze(1)
    target = (place >= laid.prompt_lengths.unsqueeze(1)) & (place < end)
    with model.autocast():
        labels = laid.tokens.masked_fill(~target, -100)
        return model.llm(input_ids=laid.tokens, attention_mask=(place < end).long(), labels=labels, use_cache=False).loss


def step_seconds(loss_of, interaction, optimizer):
    start = perf_counter()
    optimizer.zero_grad()
    loss = loss_of(interaction)
    loss.backward()
    optimizer.step()
    return perf_counter() - start, float(loss.detach())


def random_batches(dataset, batch, generator):
    while True:
        yield dataset[torch.randint(len(dataset), (batch,), generator=generator)]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", default="SmolLM2-135M")
    parser.add_argument("--lora_rank", type=int, default=16)
    parser.add_argument("--length", type=int, default=10, help="items per history")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--alternating", type=int, default=20, help="steps of the comparison, of the rival and of ours each")
    parser.add_argument("--valid_users", type=int, default=200)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--cache_dir", default="saved/cache")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    model, train_data, valid_data = make_model(args)
    counts = parameter_counts(model.llm)
    print(
        f"{describe_machine()}\n{args.llm}: {counts['N_LLM']:,} parameters, {counts['N_LoRA']:,} of the adapter, {args.precision}"
    )
    print(f"ml-100k, histories of {args.length} items, {args.batch} samples per step")
    first = validation_loss(model, valid_data, args.valid_users, args.batch)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.learning_rate)
    ours = itertools.chain.from_iterable(iter(train_data) for _ in itertools.count())
    theirs = random_batches(train_data._dataset, args.batch, torch.Generator().manual_seed(0))
    model.train()

    state = {name: value.clone() for name, value in model.state_dict().items()}
    times = {"ours": [], "plain": []}
    for _ in range(args.alternating):
        times["plain"].append(step_seconds(lambda batch: plain_loss(model, batch), next(theirs), optimizer)[0])
        times["ours"].append(step_seconds(model.calculate_loss, next(ours), optimizer)[0])
    plain, own = median(times["plain"][1:]), median(times["ours"][1:])
    print(f"seconds per step: ours {own:.2f}, plain transformers step {plain:.2f}, ratio {plain / own:.2f}")

    model.load_state_dict(state)  # what follows is ours alone
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.learning_rate)
    model.tokens_trained, start = 0, perf_counter()
    steps = [step_seconds(model.calculate_loss, next(ours), optimizer) for _ in range(args.steps)]
    seconds = perf_counter() - start
    print(
        f"{args.steps} steps in {seconds:.0f} s, {median(time for time, _ in steps):.2f} s per step (median), "
        f"{model.tokens_trained / seconds:.0f} tokens/s"
    )
    last = validation_loss(model, valid_data, args.valid_users, args.batch)
    print(f"validation loss per token of {args.valid_users} users' titles: {first:.3f} before, {last:.3f} after")
    figures = {
        "seconds_per_step": own,
        "transformers": plain,
        "ratio": plain / own,
        "loss_before": first,
        "loss_after": last,
    }
    print_json("llm_training", vars(args), {**figures, "tokens_per_second": model.tokens_trained / seconds})


if __name__ == "__main__":
    main()
