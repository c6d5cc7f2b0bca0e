"""Whether a language model can read several titles side by side."""

import torch

from recbole_gr.language_model.prompt_reader import PromptReader


@torch.no_grad()
def reads_branches(llm):
    """Whether a language model reads branches side by side as it reads each of them alone.

    Some do not: those whose attention takes its positions from the mask (ALiBi), and those without attention. Rounding in
    bfloat16 moves single log-probabilities by more than one, so what is found must be near, on average, to what each
    branch gets alone, measured by what it would get if it saw the other one.
    """
    device = llm.get_input_embeddings().weight.device
    prompt, branches = torch.arange(8, device=device).unsqueeze(0), torch.tensor([[[9, 3, 5], [4, 8, 2]]], device=device)
    begin = torch.zeros(1, 2, dtype=torch.long, device=device)
    try:
        reader = PromptReader(llm, prompt, torch.tensor([8], device=device))
        reader.start()
        reader.follow(begin)
        beams = torch.arange(2, device=device).unsqueeze(0)
        found = _log_probs(reader.read(beams, branches, begin, begin + 3).parts[0])
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):  # there is no one way to refuse a mask
        return False
    alone = _log_probs(llm(input_ids=torch.cat([prompt.expand(2, -1), branches[0]], dim=1), use_cache=False).logits[:, 8:])
    joined = _log_probs(llm(input_ids=torch.cat([prompt, branches.flatten(1)], dim=1), use_cache=False).logits[:, 8:])
    difference = (found - alone).abs()
    if llm.dtype == torch.float32:
        return bool(difference.max() < 1e-3)
    return bool(difference.mean() < 0.25 * (joined - alone)[3:].abs().mean())


def _log_probs(logits):
    return logits.flatten(0, -2).float().log_softmax(dim=-1)
