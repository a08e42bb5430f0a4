"""Whether a model can score a token tree, and if not, why: first by its own declarations, then by a trial.

No property of a model tells reliably that its attention takes any mask and its cache can be cut anywhere: remote code,
new kinds of layers and new caches appear every month. So each model scores a tree of a few tokens before the first real
one, and the inputs of its output layer are compared with those for plain rows. This takes three forward passes; on a
CPU, the last layer's MLP is tried in as many.
"""

import inspect

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from shardmark.engine.batches import is_out_of_memory
from shardmark.engine.tokens import ScoredRow
from shardmark.engine.transformers.batching_support import moving_ropes
from shardmark.engine.transformers.loading import input_device, precision
from shardmark.engine.transformers.logits import hidden_states
from shardmark.engine.transformers.tree_attention import SUPPORTED, attention_of
from shardmark.engine.transformers.tree_forward import MOST_TOKENS, Kept, chunk_states
from shardmark.engine.tree import Budget, Numbers, TokenTree

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}
"The largest accepted distance of the trial's hidden states, by dtype, relative to their norm. Rounding stays below."
TRIAL = ((0, 1, 2, 3, 4, 5, 6), (0, 1, 2, 3, 7, 8, 9), (0, 1, 2, 3, 7, 10, 11))
"Rows of the trial: a common prefix, a branch in its middle, a branch of the branch."
TRIAL_TOKENS = 8
"The most tokens in one forward pass of the trial, so that its second pass continues from kept keys and values."


def lengths_matter(config: PreTrainedConfig, window: int) -> bool:
    """Whether a token's rotary embedding depends on the longest sequence in the batch, not on its position alone.

    ("dynamic" also depends on earlier batches: transformers keeps the longest length it has seen.)
    """
    names = ("original_max_position_embeddings", "max_position_embeddings")
    for kind in moving_ropes(config):
        known = [kind.get(names[0]), *(getattr(config, name, None) for name in names)]
        if window > min((int(length) for length in known if length), default=0):
            return True
    return False


def columns_matter(config: PreTrainedConfig, columns: int) -> bool:
    """Whether a layer scales attention by a token's place in a cache of so many columns, as Llama 4 does.

    That place is not the token's position where branches or padding stand before it.
    """
    return bool(getattr(config, "attn_temperature_tuning", False)) and columns >= config.floor_scale


def why_not_shared(model: PreTrainedModel, window: int) -> str | None:
    """The reason why prefixes cannot be shared among rows of this model; None if they can."""
    return _by_its_own_word(model, window) or _by_trial(model)


def _by_its_own_word(model: PreTrainedModel, window: int) -> str | None:
    if getattr(model, "_is_stateful", False):
        return "it has recurrent layers, whose state cannot be cut and branched"
    takes = inspect.signature(type(model).forward).parameters
    if missing := [name for name in ("position_ids", "past_key_values") if name not in takes]:
        return f"it does not accept {' and '.join(missing)}"
    if not getattr(model, "_supports_attention_backend", False):  # such as GPT-Neo's window over columns, not depths
        return "it has custom attention"
    if columns_matter(model.config.get_text_config(), window + MOST_TOKENS.get(input_device(model).type, 8192)):
        return "its attention is scaled by places in the cache"
    if attention_of(model) not in SUPPORTED:
        return f"its attention {attention_of(model)} accepts no mask; attn_implementation: sdpa does"
    if lengths_matter(model.config.get_text_config(), window):
        return "its rotary embedding depends on the length of the sequence"
    return None


def last_mlp_of(model: PreTrainedModel) -> nn.Module | None:
    """The MLP of a model's last layer, if it may run for some tokens only, without changing them; None if not.

    It may not where it mixes tokens, or where the layer's output goes through other layers, or the same ones again.
    """
    layers = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=None)
    mlp = getattr(layers[-1], "mlp", None) if layers else None
    if not isinstance(mlp, nn.Module) or any(isinstance(part, nn.ModuleList) for part in mlp.modules()):
        return None
    return None if _by_trial(model, mlp) else mlp


def _by_trial(model: PreTrainedModel, last_mlp: nn.Module | None = None) -> str | None:
    size = len(model.get_input_embeddings().weight)
    rows = [ScoredRow([(1 + 7 * n) % size for n in row], [0], 0) for row in TRIAL]
    try:
        with torch.inference_mode():
            found, wanted = _tree_states(model, rows, last_mlp), _plain_states(model, rows)
    except Exception as error:  # unknown code may raise anything; plain scoring still works
        if is_out_of_memory(error):
            raise
        return f"its attention does not work on trees ({type(error).__name__}: {error})"
    apart = float(((found - wanted).norm(dim=1) / wanted.norm(dim=1)).max())
    if apart <= TOLERANCE.get(precision(model), TOLERANCE[torch.float32]):  # false for NaN
        return None
    return f"in a trial its hidden states were off by {apart:.2g} of their norm"


def _plain_states(model: PreTrainedModel, rows: list[ScoredRow]) -> torch.Tensor:
    """The hidden state of each row's last token, `[rows, size]`."""
    tokens = torch.tensor([row.inputs for row in rows], device=input_device(model))
    states = hidden_states(model, input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    return states[:, -1].float().cpu()


def _tree_states(model: PreTrainedModel, rows: list[ScoredRow], last_mlp: nn.Module | None) -> torch.Tensor:
    """The same, computed with the tree."""
    tree, parts = TokenTree(rows), []
    start, path, kept = 0, np.zeros(0, dtype=np.int64), Kept()
    while start < len(tree):
        chunk = tree.chunk(start, path, Budget(TRIAL_TOKENS, TRIAL_TOKENS))
        states, kept = chunk_states(model, chunk, kept, last_mlp)
        parts.append(states.float().cpu())
        start, path = chunk.stop, tree.path_after(chunk, path)
    last: Numbers = np.empty_like(tree.last)
    last[tree.order] = tree.last
    return torch.cat(parts)[torch.from_numpy(last)]
